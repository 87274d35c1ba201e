"""Which spans a node makes of messages that carry a trace, and that the others cost nothing more."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.outboxes import WRITES_PER_TURN
from gateway.node.ports import Clocks, Span
from gateway.node.tracing import BURST, CONFIRMED_WITHIN_SECONDS, Tracing
from tests.unit.fakes import NEWS, Node, make_connection, payload, turn

ABOVE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
WALL = 1_700_000_000.0


def traced(id_: int, prev: int | None = 0, above: str = ABOVE) -> bytes:
    return payload(id_, prev).replace(b":n:", f":n/{above}:".encode())


class Recorder:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def record(self, span: Span) -> str:
        self.spans.append(span)
        return f"00-{'a' * 32}-{len(self.spans):016x}-01"

    @property
    def told(self) -> list[tuple[str, dict[str, Any]]]:
        return [(each.operation, dict(each.attributes)) for each in self.spans]


class World:
    """A hub whose messages are followed; the node's clock says how late it is."""

    def __init__(self) -> None:
        self.node = node = Node(interval=0.0)
        self.recorder = Recorder()
        node.stats.timings.redis_clock.learn(round(WALL * 1e6), node.clock())
        self._began = node.clock()
        self.tracing = Tracing(
            self.recorder,
            node.hub.channels,
            node.hub.outboxes,
            lambda callback: asyncio.get_running_loop().call_soon(callback),
            Clocks(node.clock, lambda: WALL + node.clock() - self._began),
            node.stats.timings.redis_clock,
        )
        node.confirmation._traced = self.tracing.confirmed
        self.receive = self.tracing.receiver(
            NEWS.name, lambda each: node.hub.receive(NEWS.name, each)
        )

    def listen(self, count: int) -> list[Connection]:
        clients = [make_connection(id=f"c{number}")[0] for number in range(count)]
        for each in clients:
            self.node.listen(each)
        return clients

    def answer(self, client: Connection, upto: int) -> None:
        self.node.confirmation.confirm(client, NEWS.name, upto)


@pytest.fixture
async def world() -> World:
    return World()


def at(seconds: float) -> int:
    """So long after the world has begun, as an id."""
    return round((WALL + seconds) * 1e6)


async def test_a_fan_out_is_one_span_and_its_confirmation_another_however_many_hear_it(
    world: World,
) -> None:
    clients = world.listen(3)
    world.node.clock.now += 2.0
    world.receive(traced(at(1.5)))
    assert world.recorder.spans == []  # before it is written
    await turn()
    (fan_out,) = world.recorder.spans
    assert (fan_out.operation, fan_out.namespace, fan_out.above) == ("fan-out", "news", ABOVE)
    assert (fan_out.began, fan_out.ended) == (at(1.5) * 1000, at(2.0) * 1000)
    assert fan_out.events == (("received", at(2.0) * 1000),)
    for client in clients:
        world.node.clock.now += 1.0
        world.answer(client, at(1.5))
        world.answer(client, at(1.5))
    (_, confirm) = world.recorder.spans
    assert (confirm.operation, confirm.namespace) == ("confirm", "news")
    assert confirm.above == f"00-{'a' * 32}-{1:016x}-01"
    assert (confirm.began, confirm.ended) == (at(2.0) * 1000, at(5.0) * 1000)
    assert confirm.events == (("first confirmation", at(3.0) * 1000),)
    assert dict(confirm.attributes) == {
        "messaging.message.id": str(at(1.5)),
        "gateway.receivers": 3,
        "gateway.confirmed": 3,
    }


async def test_an_answer_counts_for_all_that_it_confirms_and_for_nothing_else(world: World) -> None:
    (client,) = world.listen(1)
    for id_ in range(1, 5):
        world.receive(traced(id_, id_ - 1))
    await turn()
    world.answer(client, 2)
    assert [each.operation for each in world.recorder.spans[4:]] == ["confirm"] * 2
    world.answer(client, 4)
    ids = [each.attributes["messaging.message.id"] for each in world.recorder.spans[4:]]
    assert ids == ["1", "2", "3", "4"]
    assert not world.tracing._awaited


async def test_who_does_not_confirm_is_waited_for_a_while(world: World) -> None:
    first, _ = world.listen(2)
    world.receive(traced(1))
    await turn()
    world.answer(first, 1)
    world.node.clock.now += CONFIRMED_WITHIN_SECONDS - 1
    world.tracing.tick()
    assert len(world.recorder.spans) == 1
    world.node.clock.now += 1
    world.tracing.tick()
    assert world.recorder.spans[1].attributes["gateway.confirmed"] == 1
    assert not world.tracing._awaited


async def test_a_node_that_ends_tells_what_it_knows(world: World) -> None:
    world.listen(1)
    world.receive(traced(1))
    await turn()
    world.tracing.close()
    world.tracing.close()
    assert [each for each, _ in world.recorder.told] == ["fan-out", "confirm"]
    assert world.recorder.spans[1].attributes["gateway.confirmed"] == 0
    assert world.recorder.spans[1].events == ()


async def test_a_message_without_a_log_has_no_id_and_is_not_confirmed(world: World) -> None:
    world.listen(1)
    world.receive(traced(1, None))
    await turn()
    assert world.recorder.told == [("fan-out", {"gateway.receivers": 1})]
    assert world.recorder.spans[0].began == round(WALL * 1e9)


@pytest.mark.parametrize("entry", [payload(1), traced(1, above=ABOVE[:-1] + "0"), traced(9, 5)])
async def test_what_has_no_trace_or_is_not_next_has_no_span(world: World, entry: bytes) -> None:
    world.listen(1)
    world.node.hub.channels[NEWS.name].position = 0
    world.receive(entry)
    await turn()
    assert world.recorder.spans == []


async def test_where_nobody_listens_there_is_no_span(world: World) -> None:
    world.node.open()
    world.receive(traced(1))
    world.node.hub.channels.clear()
    world.receive(traced(2, 1))
    await turn()
    assert world.recorder.spans == []


async def test_a_fan_out_over_several_turns_ends_with_the_last(world: World) -> None:
    world.listen(WRITES_PER_TURN + 1)
    world.receive(traced(1))
    await asyncio.sleep(0)
    assert world.node.hub.outboxes.congested
    assert world.recorder.spans == []
    await turn()
    assert not world.node.hub.outboxes.congested
    assert [each for each, _ in world.recorder.told] == ["fan-out"]


async def test_a_fan_out_that_was_not_written_at_the_end_of_the_read_is_not_over(
    world: World,
) -> None:
    """What was due before has the turn end later than the read."""
    callbacks: list[Any] = []
    (client,) = world.listen(1)
    world.node.hub.send(client, b"x")
    world.tracing._call_soon = callbacks.append
    world.receive(traced(1))
    callbacks.pop()()
    assert world.recorder.spans == []
    await turn()
    callbacks.pop()()
    assert len(world.recorder.spans) == 1


async def test_a_node_makes_spans_for_so_many_messages_only(world: World) -> None:
    world.listen(1)
    for id_ in range(1, round(BURST) + 100):
        world.receive(traced(id_, id_ - 1))
    await turn()
    assert len(world.recorder.spans) == BURST
    assert sum(map(len, world.tracing._awaited.values())) == 16
    world.node.clock.now += 1.0
    world.receive(traced(10_000, round(BURST) + 99))
    await turn()
    assert len(world.recorder.spans) == BURST + 1


async def test_the_fan_out_pays_nothing_for_traces_that_nobody_follows() -> None:
    """Counted: what Python calls for a message without a trace, and for one with it."""
    node = Node()
    for number in range(5):
        node.listen(make_connection(id=f"c{number}")[0])
    node.hub.receive(NEWS.name, payload(1))
    node.hub.outboxes.flush()
    counts = [_calls(node.hub, each) for each in (payload(2, 1), traced(3, 2), payload(4, 3))]
    assert counts[0] == counts[1] == counts[2]
    assert node.confirmation._traced is None


def _calls(hub: Hub, entry: bytes) -> int:
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        hub.receive(NEWS.name, entry)
        hub.outboxes.flush()
    finally:
        sys.setprofile(None)
    return count
