"""The table of cases: which alert, how it is caused, and the program that does it."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.alerts.stage import Stage, Told

SPEED: Final = 60.0
"""Minutes of Prometheus' are seconds here."""

Program = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """One way in which an alert comes about, and what the runbook says against it."""

    alert: str
    cause: str
    program: Program
    speed: float

    @property
    def name(self) -> str:
        return f"{self.alert}: {self.cause}"


CASES: Final[list[Case]] = []


def causing(alert: str, cause: str, speed: float = SPEED) -> Callable[[Program], Program]:
    """Adds the program that follows to the table."""

    def add(program: Program) -> Program:
        CASES.append(Case(alert, cause, program, speed))
        return program

    return add


async def play(case: Case) -> Told:
    """Cause the alert, follow the runbook, and see it resolve."""
    told = Told(case.alert, case.cause)
    with tempfile.TemporaryDirectory(prefix="alert-") as folder:
        async with AsyncExitStack() as stack:
            stage = Stage(Path(folder), told, case.speed, stack)
            await case.program(stage)
    return told
