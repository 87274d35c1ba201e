"""The package as users install it, built once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.packaging import matrix
from tests.support.programs import cannot_run


@pytest.fixture(scope="session")  # other modules come in between
def package() -> Iterator[matrix.Built]:
    try:
        with matrix.built() as package:
            yield package
    except matrix.CannotInstall as error:
        cannot_run(f"the wheel cannot be built here: {error}")
