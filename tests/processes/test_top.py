"""``gateway top`` in a terminal: nodes and Redis come and go while somebody looks."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.processes import gateway_process
from tests.support.redis_server import RedisServer
from tests.support.terminal import INTERRUPT, Terminal, terminal
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
SUSPEND = "\x1a"
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")
OTHER_SCREEN, BACK = "\x1b[?1049h", "\x1b[?1049l"
CURSOR_HIDDEN, CURSOR_SHOWN = "\x1b[?25l", "\x1b[?25h"


@contextlib.asynccontextmanager
async def top(
    redis_url: str, prefix: str, *, columns: int = 100, **environment: str
) -> AsyncIterator[Terminal]:
    """The command, which looks every 0.2 s."""
    variables = os.environ | {
        "PYTHONPATH": str(ROOT),
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_REDIS_PREFIX": prefix,
        "TERM": "xterm",
        **environment,
    }
    command = [sys.executable, "-m", "gateway", "top", "--every", "0.2"]
    async with terminal(command, variables, columns=columns) as shown:
        yield shown


def assert_left_as_found(shown: Terminal) -> None:
    assert shown.raw.rindex(BACK) > shown.raw.rindex(OTHER_SCREEN)
    assert shown.raw.rindex(CURSOR_SHOWN) > shown.raw.rindex(CURSOR_HIDDEN)
    assert shown.is_as_before()
    assert "Traceback" not in shown.text


async def test_nodes_that_come_and_go_are_seen(redis_url: str, prefix: str) -> None:
    async with gateway_process(redis_url, prefix) as staying, top(redis_url, prefix) as shown:
        await shown.shows("NODE", "1 gateway ", "ready", "q: quit")
        async with gateway_process(
            redis_url, prefix, drain_delay_seconds=2, node_lease_seconds=1
        ) as leaving:
            await shown.shows("2 gateways")
            await until(lambda: "node_started" in leaving.output)
            leaving.process.send_signal(signal.SIGTERM)
            await shown.shows("draining")
            await leaving.process.wait()
        shown.forget()
        await shown.shows("1 gateway ", "gone")
        assert staying.process.returncode is None
        shown.type("q")
        assert await shown.ended() == 0
        assert_left_as_found(shown)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    made = RedisServer(tmp_path)
    made.start()
    yield made
    made.stop()


async def test_redis_may_go_and_come_back(server: RedisServer, prefix: str) -> None:
    async with gateway_process(server.url, prefix), top(server.url, prefix) as shown:
        await shown.shows("1 gateway ", "ready")
        server.kill()
        text = await shown.shows("s ago: ")
        assert "Traceback" not in text
        server.restart()
        shown.forget()
        await shown.shows("1 gateway ", "ready")
        shown.type(INTERRUPT)
        assert await shown.ended() == 0
        assert_left_as_found(shown)


async def test_it_waits_for_a_redis_that_is_not_there_yet(server: RedisServer, prefix: str) -> None:
    server.kill()
    async with top(server.url, prefix) as shown:
        await shown.shows("Redis")
        server.restart()
        await shown.shows("0 gateways")


@pytest.mark.parametrize(
    "variables", [{}, pytest.param({"COLUMNS": "80", "LINES": "24"}, marks=pytest.mark.long)]
)
async def test_a_narrow_terminal_has_the_columns_that_fit(
    redis_url: str, prefix: str, variables: dict[str, str]
) -> None:
    async with (
        gateway_process(redis_url, prefix),
        top(redis_url, prefix, columns=48, **variables) as shown,
    ):
        # Until its first probe a node is not ready, and says at length which Redis it waits for.
        await shown.shows("up")
        shown.forget()
        shown.resize(47, 20)
        text = await shown.shows("STATE", "up")
        assert "VERSION" not in text
        assert "CONNECTIONS" in text
        shown.forget()
        shown.resize(120, 20)
        await shown.shows("VERSION", "LAG MS", "REDIS")


async def test_keys_sort_and_ctrl_z_gives_the_terminal_back(redis_url: str, prefix: str) -> None:
    async with gateway_process(redis_url, prefix), top(redis_url, prefix) as shown:
        await shown.shows("s: sort (by name)", "ready")
        shown.type("s")
        await shown.shows("by connections")
        shown.type(SUSPEND)
        await shown.until(lambda: shown.raw.count(BACK) == 1)
        await shown.until(shown.is_as_before)
        await shown.until(lambda: is_stopped(shown.process.pid))
        shown.forget()
        os.kill(shown.process.pid, signal.SIGCONT)
        await shown.shows("by connections")
        shown.type("q")
        assert await shown.ended() == 0
        assert_left_as_found(shown)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T")


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
async def test_colours_are_left_out_where_nobody_wants_them(
    redis_url: str, prefix: str, variables: dict[str, str], coloured: bool
) -> None:
    slow = {"drain_delay_seconds": 30, "node_lease_seconds": 1}
    async with gateway_process(redis_url, prefix, **slow) as node:
        async with top(redis_url, prefix, **variables) as shown:
            await shown.shows("ready")
            node.process.send_signal(signal.SIGTERM)
            await shown.shows("draining")
            assert bool(COLOUR.search(shown.raw)) == coloured


async def test_a_terminal_that_can_nothing_has_one_table_below_the_other(
    redis_url: str, prefix: str
) -> None:
    async with gateway_process(redis_url, prefix), top(redis_url, prefix, TERM="dumb") as shown:
        await shown.until(lambda: shown.raw.count("NODE") > 2)
        assert "\x1b" not in shown.raw
        shown.type(INTERRUPT)
        assert await shown.ended() == 0
