"""The publisher's own tests, with the oldest and the newest Python and ``redis`` package that it takes."""

from __future__ import annotations

import pytest

from tests.packaging import matrix
from tests.support.programs import cannot_run

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("packaging"), pytest.mark.timeout(900)]


@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_the_publisher_works_with_the_oldest_and_the_newest(
    package: matrix.Built, which: str
) -> None:
    found = list(matrix.interpreters().items())
    end = 0 if which == "oldest" else -1
    version, python = found[end]
    try:
        outcome = matrix.run(python, matrix.REDIS[end], package, name=f"Python {version}")
    except matrix.CannotInstall as error:
        cannot_run(str(error))
    assert outcome.passed, f"{outcome.name}\n{outcome.output}"
