"""The benchmark works: what it measures here says nothing, that it measures says it has not rotted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.bench import fanout, running
from tests.bench import receiving as receiving_module
from tests.bench.__main__ import _parser, _scale
from tests.bench.document import document
from tests.bench.failed_peers import FailedPeers
from tests.bench.fanout import message
from tests.bench.measuring import cpu_seconds, memory_bytes, with_children
from tests.bench.peers.installing import Missing, debian_program
from tests.bench.peers.peer import Peer
from tests.bench.plot import plot
from tests.bench.programs import built
from tests.bench.receiving import Receiver, ReceiverError, receiving
from tests.bench.report import comparison, rows, table
from tests.bench.running import PARTS
from tests.bench.scale import TINY
from tests.bench.servers import FloorServer, Message, floor_server

ROOT = Path(__file__).parents[2]
SOCKETS = 20


@pytest.mark.long
@pytest.mark.timeout(120)
def test_all_parts_are_measured_reported_and_drawn(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--tiny", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert set(PARTS) <= set(told["results"])
    assert {row.item for row in rows(told["results"])} == {*"123456789", "10", "11", "12", "13"}
    assert table(told["results"]) in done.stdout
    assert "gateway" in comparison(told["results"])
    drawing = ET.fromstring((tmp_path / "fan-out.svg").read_text("utf-8"))
    assert "this gateway" in [element.text for element in drawing.iter()]


def test_an_unknown_part_is_refused() -> None:
    command = [sys.executable, "-m", "tests.bench", "--only", "fanout,nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown: nonsense" in done.stderr


def test_the_large_parts_are_as_large_as_is_asked_for() -> None:
    scale = _scale(_parser().parse_args(["--connections", "50000", "--channels", "7"]))
    assert scale.many_connections == (1_000, 50_000)
    assert scale.many_logs == 7


@contextlib.asynccontextmanager
async def listening(floor: FloorServer) -> AsyncIterator[Receiver]:
    async with receiving(floor.port, floor.targets(SOCKETS), greetings=0) as receiver:
        yield receiver


@pytest.fixture
async def floor(require_program) -> AsyncIterator[FloorServer]:
    require_program("cc")
    async with floor_server() as server:
        assert server is not None
        yield server


@pytest.fixture(params=["c", "python"])
def receiver_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "python":
        monkeypatch.setattr(receiving_module, "built", lambda _name: None)
    return request.param


async def test_both_receivers_count_the_same(floor: FloorServer, receiver_kind: str) -> None:
    async with listening(floor) as receiver:
        await receiver.reset()
        await floor.publish([message(200), message(20_000)])
        report = await receiver.report(2 * SOCKETS)
    assert {name: report[name] for name in ("messages", "frames", "fewest", "most")} == {
        "messages": 2 * SOCKETS,
        "frames": 2 * SOCKETS,
        "fewest": 2,
        "most": 2,
    }
    assert report["bytes"] == SOCKETS * (200 + 20_000 + 2 * 4)
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["max"] < 10_000


async def test_a_reset_forgets(floor: FloorServer, receiver_kind: str) -> None:
    async with listening(floor) as receiver:
        for size in (50, 100):
            await receiver.reset()
            await floor.publish([message(size)])
            report = await receiver.report(SOCKETS)
            assert report["messages"] == SOCKETS
            assert report["fewest"] == report["most"] == 1


async def test_messages_that_do_not_come_are_an_error(
    floor: FloorServer, receiver_kind: str
) -> None:
    async with listening(floor) as receiver:
        await receiver.reset()
        await floor.publish([message(200)])
        with pytest.raises(ReceiverError, match=f"expected {SOCKETS + 1} messages"):
            await receiver.report(SOCKETS + 1, idle_ms=100)


async def test_sockets_that_are_refused_are_an_error(receiver_kind: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ReceiverError, match="only 0 of 3 sockets joined"):
            async with receiving(port, ["/"] * 3, greetings=0):
                pass


def test_the_cpu_of_another_process_is_read_in_full() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    program = f"{burn}print(time.process_time(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        used = float(process.stdout.readline())
        expected = pytest.approx(used + time.process_time(), abs=0.05)
        assert cpu_seconds([process.pid, os.getpid()]) == expected
        process.communicate(b"\n")


def test_own_figures_agree_with_the_systems() -> None:
    assert cpu_seconds([os.getpid()]) == pytest.approx(time.process_time(), abs=0.1)
    assert memory_bytes([os.getpid()]) > 10 * 2**20
    assert os.getpid() in with_children(os.getpid())


def test_a_message_has_its_size() -> None:
    assert [len(json.dumps(message(size), separators=(",", ":"))) for size in (200, 4096)] == [
        200,
        4096,
    ]


def test_a_peer_that_cannot_be_had_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Missing, match="the Debian package no-such-server is not installed"):
        debian_program("no-such-server", "no-such-server")


async def no_messages(_messages: Sequence[Message]) -> None:
    """Publishes nothing, so that the receiver waits in vain."""


async def a_broken_line(_messages: Sequence[Message]) -> None:
    raise ConnectionResetError("the line to the peer is broken")


async def for_ever(_messages: Sequence[Message]) -> None:
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def peer_that_fails(kind: str) -> AsyncIterator[Peer]:
    """A peer that has sockets like the floor and publishes badly, or one that nobody can join."""
    send = {"line": a_broken_line, "hang": for_ever}.get(kind, no_messages)
    async with floor_server() as floor:
        assert floor is not None
        # Nothing listens there.
        port = 1 if kind == "refuses" else floor.port
        yield Peer(f"peer:{kind}", "1", port, 0, "/", floor._process, send)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("line", "the line to the peer is broken"),
        ("silent", "expected 1000 messages"),
        ("refuses", "only 0 of 50 sockets joined"),
        ("hang", "it took too long"),
    ],
)
async def test_a_peer_that_fails_costs_its_own_row_only(
    kind: str, reason: str, floor: FloorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "hang":
        monkeypatch.setattr(fanout, "PATIENCE", 1.0)
    told: list[str] = []
    failed = FailedPeers(told.append)
    async with peer_that_fails(kind) as peer:
        results = await fanout.measure([floor, peer], TINY, ["fanout", "burst"], failed)
    assert [*results["fanout"], *results["burst"]] == ["floor", "floor"]
    assert reason in failed.reasons[peer.name]
    assert told == [f"without {peer.name}: {failed.reasons[peer.name]}"]


async def test_a_peer_that_does_not_start_is_in_the_results(
    require_program, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_program("cc")

    @contextlib.asynccontextmanager
    async def peer() -> AsyncIterator[Peer]:
        raise Missing("it cannot be had")
        yield

    monkeypatch.setattr(running, "PEERS", {"Other": peer})
    told: list[str] = []
    results = await running.run(["burst"], TINY, peers=True, tell=told.append)
    assert results["without"] == {"Other": "it cannot be had"}
    assert "without Other: it cannot be had" in told
    assert comparison(results).endswith("\n\nNot measured: Other (it cannot be had)")
    assert set(results["burst"]) == {"gateway", "floor"}


async def test_a_gateway_that_fails_ends_the_run(
    floor: FloorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "publish", a_broken_line)
    with pytest.raises(ConnectionResetError):
        await fanout.measure([floor], TINY, ["burst"], FailedPeers(lambda _text: None))


def test_a_peer_that_failed_after_its_first_load_is_drawn_nowhere() -> None:
    burst = {name: cost for name, cost in RESULTS["burst"].items() if name != "Nchan"}
    drawing = plot({"fanout": RESULTS["fanout"], "burst": burst}, "a machine", 2_000)
    assert "Nchan" not in drawing
    assert "gateway" in drawing


COSTS = {"gateway": 2.6, "floor": 2.0, "Nchan": 2.5, "slow": 150.0}
RESULTS = {
    kind: {name: {"us_per_delivery": cost} for name, cost in COSTS.items()}
    for kind in ("fanout", "burst")
}


def test_a_run_is_written_into_the_page(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    part = "a\n<!-- bench: {} -->\nold\n<!-- bench: end -->\nz\n"
    page = tmp_path / "docs" / "performance.md"
    page.write_text(part.format("comparison") + part.format("table"), "utf-8")
    told = {"machine": "a machine", "results": RESULTS, "scale": {"sockets": 2_000}}
    for _ in range(2):  # what was written is found again
        document(told, tmp_path)
        assert page.read_text("utf-8") == "".join(
            part.format(name).replace("old", f"a machine:\n\n{text}")
            for name, text in (("comparison", comparison(RESULTS)), ("table", table(RESULTS)))
        )
    assert (tmp_path / "docs" / "fan-out.svg").exists()


def test_a_goal_that_is_missed_is_said() -> None:
    told = {row.what: row.good for row in rows(RESULTS)}
    assert told["the same, as a multiple of the C floor"] is True
    assert told["the same; best peer: Nchan"] is False
    assert "**no**" in table(RESULTS)


def test_a_server_that_is_far_slower_does_not_flatten_the_others() -> None:
    drawing = ET.fromstring(plot(RESULTS, "a machine", 2_000))
    bars = [element for element in drawing.findall("{*}rect") if "x" in element.attrib]
    assert len(bars) == 2 * len(COSTS)
    widths = [float(bar.attrib["width"]) for bar in bars[: len(COSTS)]]
    assert widths[-1] <= 1.5 * widths[-2]
    assert "150" in [element.text for element in drawing.iter()]


def test_the_programs_are_built_where_there_is_a_compiler(require_program) -> None:
    require_program("cc")
    assert built("receiver") is not None
