"""How the commands `gateway` and `publisher` end where nobody reads what they print, and how both tell a mistake."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path

import pytest

from publisher import AsyncPublisher
from tests.support.processes import gateway_process
from tests.support.tokens import make_token

ROOT = Path(__file__).parents[2]
PLAN = ("gateway", "plan", "--connections", "1", "--publishes", "1")


def environment(**more: str) -> dict[str, str]:
    # Unbuffered, argparse itself meets with the closed pipe when it prints help, and says nothing of it.
    left_out = ("GATEWAY_", "PYTHONUNBUFFERED")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    return inherited | {"PYTHONPATH": str(ROOT)} | more


def ended(*command: str, stdout: int | None = None, closed: bool = False) -> tuple[int, str]:
    """The exit code, and what is on standard error; ``closed``: without a standard output."""
    shell = ("sh", "-c", 'exec "$0" "$@" >&-') if closed else ()
    run = subprocess.run(
        [*shell, sys.executable, "-m", *command],
        env=environment(),
        stdout=stdout,
        stderr=PIPE,
        text=True,
        check=False,
    )
    return run.returncode, run.stderr


@pytest.fixture
def left() -> Iterator[int]:
    """A pipe whose reader has had enough."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize(
    "command",
    [PLAN, ("gateway", "--help"), ("publisher", "--help")],
    ids=" ".join,
)
def test_a_reader_that_has_had_enough_ends_a_command_as_sigpipe_would(
    left: int, command: tuple[str, ...]
) -> None:
    assert ended(*command, stdout=left) == (141, "")


def test_a_command_without_a_standard_output_does_its_work() -> None:
    assert ended(*PLAN, closed=True) == (0, "")


async def test_commands_that_go_on_and_on_end_too(redis_url: str, prefix: str, left: int) -> None:
    where = environment(GATEWAY_REDIS_URL=redis_url, GATEWAY_REDIS_PREFIX=prefix)
    async with (
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
        gateway_process(redis_url, prefix) as node,
    ):
        pipe = f"{sys.executable} -m gateway top --every 0.1 | head -n 1"
        top = await asyncio.create_subprocess_exec(
            *("bash", "-o", "pipefail", "-c", pipe), env=where, stdout=PIPE, stderr=PIPE
        )
        out, err = await asyncio.wait_for(top.communicate(), 20)
        assert (top.returncode, out[:4], err) == (141, b"NODE", b"")
        await publisher.publish("notifications/u", 1)
        tail = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "tail", "--url", node.url, "notifications/u"),
            env=environment(GATEWAY_TOKEN=make_token("u")),
            stdout=left,
            stderr=PIPE,
        )
        _, err = await asyncio.wait_for(tail.communicate(), 20)
        assert (tail.returncode, err) == (141, b"")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            ("gateway", "drain"),
            "the following arguments are required: NODE (see gateway drain --help)",
        ),
        (
            ("gateway", "token", "--user"),
            "argument --user: expected one argument (see gateway token --help)",
        ),
        (("gateway", "plan", "--a\nb"), "unrecognized arguments: --a b (see gateway --help)"),
        (
            (
                "gateway",
                "tail",
                "--url",
                "ws://a",
                "--token",
                "a.secret",
                "--token=b.secret",
                "x/1",
            ),
            "unrecognized arguments: --token --token (see gateway --help)",
        ),
        (
            ("publisher", "notify", "u", "--titel", "a secret", "--message=--b c", "--acton=d"),
            "the following arguments are required: --title; unrecognized arguments: --titel --acton (see publisher notify --help)",
        ),
        (
            ("publisher", "history"),
            "the following arguments are required: CHANNEL (see publisher history --help)",
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_where_more_is_told(
    command: tuple[str, ...], told: str
) -> None:
    needed = PLAN[2:] if command[1] == "plan" else ()
    assert ended(*command, *needed) == (2, f"{command[0]}: {told}\n")
