"""Tenants that share everything: whatever their backends, their users and the network do, nobody hears what is another's."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.model.__main__ import table
from tests.model.rules import violations
from tests.model.run import run

SECONDS = float(os.environ.get("MODEL_SECONDS", "20"))


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_nobody_hears_what_is_not_theirs_and_nobody_misses_what_is(tmp_path: Path) -> None:
    seed = int(os.environ.get("MODEL_SEED") or random.randrange(2**32))
    record = await run(tmp_path, seed, SECONDS)
    found = violations(record)
    shown = "\n".join([f"MODEL_SEED={seed}", table(record, found), *found[:30]])
    print(shown)  # noqa: T201 - told with -s, and of what fails
    assert not found, shown
    assert sum(len(each.sessions) for each in record.visits) > SECONDS
