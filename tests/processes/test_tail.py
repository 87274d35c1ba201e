"""``gateway tail`` as people and scripts run it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from publisher import AsyncPublisher
from publisher.contract.channels import Retention
from tests.support.processes import gateway_process
from tests.support.redis_server import free_port
from tests.support.tokens import make_token

CHANNEL = "notifications/u"
ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def tail(*arguments: str, token: str = "") -> AsyncIterator[Process]:
    """The command, ended with the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "tail", *arguments),
        env=os.environ | {"PYTHONPATH": str(ROOT), "GATEWAY_TOKEN": token},
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 20)).decode()


async def ending(process: Process) -> tuple[int, str]:
    """Exit code and what was said on standard error."""
    _, err = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode or 0, err.decode()


async def test_it_shows_messages_over_a_restart_until_it_is_interrupted(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    file, port = tmp_path / "token", free_port()
    file.write_text(make_token("u") + "\n")
    url = f"ws://127.0.0.1:{port}"
    async with (
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
        tail("--url", url, "--token-file", str(file), CHANNEL, CHANNEL) as shown,
    ):
        assert shown.stderr is not None
        first = (await asyncio.wait_for(shown.stderr.readline(), 20)).decode()
        assert "reason='connection_failed' told=\"[Errno 111]" in first  # no gateway is there yet
        for number in range(2):
            await publisher.publish(CHANNEL, {"n": number})
            async with gateway_process(redis_url, prefix, port=port, drain_seconds=0) as node:
                time, channel, data = (await line(shown)).split(" ")
                assert time.endswith("Z")
                assert (channel, data) == (CHANNEL, f'{{"n":{number}}}\n')
                await node.terminate()
        shown.send_signal(signal.SIGINT)
        code, err = await ending(shown)
        assert code == 0
        assert {line.split(" ")[1] for line in err.splitlines()} == {"receiver_disconnected"}
        assert "reason='draining'" in err


async def test_programs_read_an_object_a_line_and_are_told_of_losses(
    redis_url: str, prefix: str
) -> None:
    async with (
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
        gateway_process(redis_url, prefix) as node,
    ):
        first = await publisher.publish(CHANNEL, 0)
        for data in (1, 2):
            last = await publisher.publish(CHANNEL, data, retention=Retention(1, 3600))
        options = ("--json", "--since", str(first.id), "--url", node.url)
        async with tail(*options, CHANNEL, token=make_token("u")) as shown:
            assert json.loads(await line(shown)) == {"channel": CHANNEL, "lost": True}
            assert json.loads(await line(shown)) == {
                "channel": CHANNEL,
                "data": 2,
                "timestamp": last.id // 1000,
                "id": last.id,
                "type": "notifications",
            }
            shown.terminate()
            assert await ending(shown) == (0, "")


async def test_what_cannot_be_shown_is_one_sentence_and_a_status(
    redis_url: str, prefix: str
) -> None:
    async with gateway_process(redis_url, prefix) as node:
        for channel, token, told in (
            (CHANNEL, "nonsense", "token_invalid (1008): Authentication failed"),
            ("run-results/s", make_token("u"), "run-results/s: forbidden: Not allowed"),
            ("nope", make_token("u"), "nope: invalid_channel: Invalid channel name: a channel is "),
        ):
            async with tail("--url", node.url, channel, token=token) as shown:
                code, err = await ending(shown)
                assert code == 1
                assert err.startswith(f"gateway: {told}")
                assert re.search(r" \(docs/errors\.md#\w+\)\n$", err)
                assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--url", "ws://127.0.0.1:1"),
            "give the user's token: --token-file FILE, or GATEWAY_TOKEN",
        ),
        (("--url", "ws://127.0.0.1:1", "--token-file", "nowhere"), "--token-file nowhere: "),
        (("--url", "http://127.0.0.1:1"), "the URL must be ws://"),
    ],
)
async def test_a_mistake_in_the_command_is_told(arguments: tuple[str, ...], told: str) -> None:
    token = "t" if "http" in arguments[1] else ""
    async with tail(*arguments, CHANNEL, token=token) as shown:
        code, err = await ending(shown)
        assert code == 2
        assert told in err
