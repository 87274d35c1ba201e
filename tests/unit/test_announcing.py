"""What a node says of namespaces that are announced otherwise."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.backplane.store import Announcing
from publisher.contract.calls import Call
from publisher.contract.channels import Namespace
from publisher.contract.keys import Keys

KEYS = Keys("rt1", 0)
OTHER = b'{"owner":"anyone","retention":null'


class Answering:
    """Takes the calls of a node beside which another one announces other rules, again and again."""

    def __init__(self) -> None:
        self.announced = 0

    def begin(self, call: Call) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        of_namespaces = call.key == KEYS.namespaces
        self.announced += of_namespaces
        time = b',"announced":%d}' % self.announced
        answer.set_result([b"news", OTHER + time] if of_namespaces else [])
        return answer


async def test_each_difference_is_told_once_and_none_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answering = Answering()
    pipeline: Any = answering
    announcing = Announcing(pipeline, KEYS, {"news": Namespace("news")}, None, lambda: 0.5)
    running = asyncio.create_task(announcing.run())
    told_after: list[int] = []
    for number in range(1, 7):
        while answering.announced < number:
            await asyncio.sleep(0)
        for _ in range(9):
            await asyncio.sleep(0)
        told_after.append(len(caplog.records))
        announcing.at_once()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert told_after == [0, 1, 1, 1, 1, 1]
    message = caplog.records[0].getMessage()
    assert message.startswith("namespace_differs name=news own={")
    assert f" announced={OTHER.decode()}}} advice=" in message
