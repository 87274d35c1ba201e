"""What a node says of namespaces that are announced otherwise."""

from __future__ import annotations

import asyncio
import json
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

    def __init__(self, rules: bytes) -> None:
        self._rules = rules
        self.announced = 0

    def begin(self, call: Call) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        of_namespaces = call.key == KEYS.namespaces
        self.announced += of_namespaces
        time = b',"announced":%d}' % self.announced
        answer.set_result([b"news", self._rules + time] if of_namespaces else [])
        return answer


async def told_after_each(rules: bytes, caplog: pytest.LogCaptureFixture) -> list[int]:
    """How many lines there are after each of six announcements, beside others of these rules."""
    answering = Answering(rules)
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
    return told_after


async def test_each_difference_is_told_once_and_none_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await told_after_each(OTHER, caplog) == [0, 1, 1, 1, 1, 1]
    message = caplog.records[0].getMessage()
    assert message.startswith("namespace_differs name=news own={")
    assert f" announced={OTHER.decode()}}} advice=" in message


async def test_the_same_rules_in_another_way_of_writing_are_no_difference(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rules = Namespace("news").to_dict()
    turned = json.dumps(dict(reversed(rules.items())) | {"encrypted": False}).encode()
    assert await told_after_each(turned.removesuffix(b"}"), caplog) == [0] * 6


@pytest.mark.parametrize("rules", [b'{"owner":"grant","later":1', b"{nothing", b"5"])
async def test_rules_that_this_version_cannot_read_are_a_difference(
    rules: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert await told_after_each(rules, caplog) == [0, 1, 1, 1, 1, 1]
