"""The receiver while gateways come and go."""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
from pathlib import Path

import pytest

from gateway.client import Message, Receiver
from gateway.client import receiver as receiving
from publisher import AsyncPublisher
from tests.support.processes import gateway_process
from tests.support.redis_server import free_port
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/user-123"
PAGE = (Path(__file__).parents[2] / "docs" / "receiver.md").read_text("utf-8")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_restarts_of_the_gateway_lose_and_repeat_nothing(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(receiving.random, "random", lambda: 0.1)  # attempts follow each other
    port = free_port()
    received: list[int] = []
    lost: list[str] = []
    numbers = itertools.count()
    async with (
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
        Receiver(
            f"ws://127.0.0.1:{port}", token=lambda: make_token("user-123"), on_gap=lost.append
        ) as receiver,
    ):

        async def read() -> None:
            async for message in receiver.subscribe(CHANNEL):
                received.append(message.data)

        async def publish(count: int) -> int:
            for each in itertools.islice(numbers, count):
                await publisher.publish(CHANNEL, each)
            return each

        reading = asyncio.create_task(read())
        for _ in range(3):
            async with gateway_process(redis_url, prefix, port=port, drain_seconds=0) as node:
                first = await publish(1)
                await until(lambda first=first: first in received, 20)
                publishing = asyncio.create_task(publish(200))
                await until(lambda first=first: received[-1] > first)
                node.process.send_signal(number)
                await node.process.wait()
                await publishing
            await publish(10)
        async with gateway_process(redis_url, prefix, port=port):
            last = await publish(1)
            await until(lambda: last in received, 20)
        reading.cancel()
    assert received == list(range(last + 1))
    assert lost == []


@pytest.mark.parametrize(
    ("which", "channel"), [("receiver", CHANNEL), ("receiver waits", "run-results/session-123")]
)
async def test_the_examples_of_the_page_receive(
    redis_url: str, prefix: str, capsys: pytest.CaptureFixture[str], which: str, channel: str
) -> None:
    (example,) = re.findall(rf"<!-- tested: {which} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(example, "receiver.md", "exec"), scope)
    async with (
        gateway_process(redis_url, prefix) as node,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        await publisher.publish(channel, {"n": 1})
        running = asyncio.create_task(scope["main"](node.url, make_token("user-123")))  # type: ignore[operator]
        if which == "receiver waits":
            await publisher.grant(channel, "user-123")
        shown = ""
        async with asyncio.timeout(20):
            while not (shown := shown + capsys.readouterr().out):
                await asyncio.sleep(0.01)
        running.cancel()
        assert shown.endswith("{'n': 1}\n")


def test_the_page_names_what_a_message_has() -> None:
    for field in Message.__dataclass_fields__:
        assert f"`{field}`" in PAGE
