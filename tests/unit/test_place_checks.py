"""Asking whether a user's places are still somebody's, when the asking itself goes wrong."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.backplane import place_checks
from gateway.backplane.place_checks import PlaceChecks
from gateway.backplane.place_table import PlaceTable
from gateway.node.tasks import Tasks
from publisher.contract.keys import Keys
from tests.support.waiting import until


class Pipeline:
    """Counts the calls, and has a defect."""

    def __init__(self) -> None:
        self.calls = 0

    async def call(self, call: object) -> None:
        self.calls += 1
        raise ZeroDivisionError


async def test_a_defect_in_one_check_does_not_keep_a_user_from_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(place_checks, "_AGAIN_SECONDS", 0.01)
    pipeline, tasks = Pipeline(), Tasks()

    async def nothing(_: object) -> None:
        pass

    table = PlaceTable(Keys("rt", 0), "here", 5, 60)
    checks = PlaceChecks(cast(Any, pipeline), table, nothing, nothing, tasks)
    first = checks.of("u", [b"there/1"])
    await first.wait(5)
    assert first.over
    assert checks.of("u", [b"there/1"]) is first
    await until(lambda: checks.of("u", [b"there/1"]) is not first)
    await asyncio.sleep(0)
    assert pipeline.calls == 2
    await tasks.aclose()
