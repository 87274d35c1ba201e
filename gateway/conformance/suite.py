"""Runs the checks, a few at a time, and gathers what they come to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal

# Each adds its requirements to the table.
from gateway.conformance import (
    connecting,
    delivery,
    event_streams,
    login,
    messages,
    polls,
    slow_readers,
    subscriptions,
)
from gateway.conformance.stage import REQUIREMENTS, Deployment, Requirement, Stage
from gateway.conformance.verdicts import Failed, Skipped

_SECTIONS: Final = (
    connecting,
    login,
    messages,
    subscriptions,
    delivery,
    event_streams,
    polls,
    slow_readers,
)
_AT_ONCE: Final = 8
"""Checks at a time, so that a deployment in use hardly notices; slow ones, which mostly wait, come on top."""

_LAST: Final = frozenset({"S-112", "S-806"})
"""They look at what the others have seen."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one requirement comes to; ``detail`` says what was seen, or why nothing was."""

    id: str
    requirement: str
    result: Literal["passed", "failed", "skipped"]
    detail: str
    seconds: float


async def run(
    deployment: Deployment, *, slow: bool = False, only: Collection[str] = ()
) -> list[Result]:
    """Check all requirements, or ``only`` some; returns them in their order.

    Raises:
        PublisherError: Redis is away or refuses.
        ApiError: the HTTP API does.
    """
    chosen = [each for name, each in sorted(REQUIREMENTS.items()) if not only or name in only]
    room = asyncio.Semaphore(_AT_ONCE)
    try:
        results = await _together(
            [_result(each, deployment, room, slow) for each in chosen if each.id not in _LAST]
        )
        results += [
            await _result(each, deployment, room, slow) for each in chosen if each.id in _LAST
        ]
    finally:
        await deployment.forget_users()
    return sorted(results, key=lambda result: result.id)


async def _together(checks: list[Coroutine[Any, Any, Result]]) -> list[Result]:
    """What all come to; where one raises, the others are ended first."""
    tasks = [asyncio.create_task(each) for each in checks]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _result(
    requirement: Requirement, deployment: Deployment, room: asyncio.Semaphore, slow: bool
) -> Result:
    if not requirement.slow:
        async with room:
            return await _checked(requirement, deployment)
    if slow:
        return await _checked(requirement, deployment)
    return _skipped(requirement, "it takes minutes: --slow")


def _skipped(requirement: Requirement, why: str) -> Result:
    return Result(requirement.id, requirement.text, "skipped", why, 0.0)


async def _checked(requirement: Requirement, deployment: Deployment) -> Result:
    began = time.monotonic()
    stage = Stage(deployment, requirement.id)
    result: Literal["passed", "failed", "skipped"] = "passed"
    detail = ""
    try:
        await requirement.check(stage)
    except Failed as failure:
        result, detail = "failed", str(failure)
    except Skipped as reason:
        result, detail = "skipped", str(reason)
    except (ConnectionError, BrokenPipeError) as error:
        result, detail = "failed", f"the connection broke: {str(error) or type(error).__name__}"
    finally:
        await stage.leave()
    seconds = round(time.monotonic() - began, 3)
    return Result(requirement.id, requirement.text, result, detail, seconds)
