"""The receiver while gateways come and go."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.client import Message, Receiver
from gateway.client import receiver as receiving
from publisher import AsyncPublisher
from tests.support.nodes import running_node
from tests.support.processes import gateway_process
from tests.support.redis_server import free_port
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL, SESSION = "notifications/user-123", "run-results/session-123"
PAGE = (Path(__file__).parents[2] / "docs" / "receiver.md").read_text("utf-8")


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGKILL]
)
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


def example(which: str) -> dict[str, Any]:
    """What an example of the page defines."""
    (found,) = re.findall(rf"<!-- tested: {which} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(compile(found, "receiver.md", "exec"), scope)
    return scope


@pytest.mark.parametrize(
    ("which", "channel"),
    [
        ("receiver", CHANNEL),
        ("receiver waits", SESSION),
        ("receiver worker", SESSION),
        ("receiver backfill", SESSION),
        ("receiver forwards", CHANNEL),
    ],
)
async def test_the_examples_of_the_page_receive(
    redis_url: str,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    which: str,
    channel: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    main = example(which)["main"]
    async with (
        running_node(redis_url, prefix) as node,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):

        async def shown_by(n: int) -> str:
            running = asyncio.create_task(main(node.url, make_token("user-123")))
            if which == "receiver waits":
                await publisher.grant(channel, "user-123")
            shown = ""
            async with asyncio.timeout(20):
                while f"{{'n': {n}}}" not in (shown := shown + capsys.readouterr().out):
                    await asyncio.sleep(0.01)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            return shown

        if which != "receiver waits":
            await publisher.grant(SESSION, "user-123")
        await publisher.publish(channel, {"n": 1})
        assert (await shown_by(1)).endswith("{'n': 1}\n")
        if which == "receiver backfill":
            # While it was down; the second time it begins behind what it has.
            await publisher.publish(channel, {"n": 2})
            assert "'n': 1" not in await shown_by(2)


async def test_the_example_of_a_lifespan_receives(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = SimpleNamespace(state=SimpleNamespace())
    async with (
        running_node(redis_url, prefix) as node,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        monkeypatch.setenv("REALTIME_URL", node.url)
        monkeypatch.setenv("REALTIME_TOKEN", make_token("user-123"))
        async with example("receiver lifespan")["lifespan"](app):
            await publisher.publish(CHANNEL, {"n": 1})
            await until(lambda: vars(app.state) == {"last": {"n": 1}})
        while await publisher.connections("user-123"):
            await asyncio.sleep(0.01)


def test_the_page_names_what_a_message_has() -> None:
    for field in Message.__dataclass_fields__:
        assert f"`{field}`" in PAGE
