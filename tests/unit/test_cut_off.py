"""What a node holds that has not heard the commands to all nodes, and until when."""

from __future__ import annotations

import asyncio

import pytest

from gateway.node.cut_off import CutOff
from gateway.node.tasks import Tasks
from tests.unit.fakes import FakeRevokedTokens, Node, make_connection, payload
from tests.unit.virtual_time import run_at_once

NEWS = "news/today"


class Places:
    """Restored when the test says so."""

    def __init__(self) -> None:
        self.restorations = 0
        self.restored = asyncio.Event()

    def restore(self) -> None:
        self.restorations += 1
        self.restored.clear()

    async def until_restored(self) -> None:
        await self.restored.wait()


class World:
    def __init__(self, patience: float) -> None:
        self.node = Node()
        self.places = Places()
        self.redis = FakeRevokedTokens()
        self.revocations = self.node.revocations(self.redis)
        self.released = 0
        self.tasks = Tasks()
        self.tasks.spawn(self.revocations.run(), "ask")
        self.cut_off = CutOff(
            self.node.hub, self.places, self.revocations, self.tasks, patience, self._note
        )

    def _note(self) -> None:
        self.released += 1

    @property
    def state(self) -> tuple[bool, bool]:
        """Whether it holds, and whether it knows what has ended."""
        return self.node.hub.held, self.cut_off.settled


def test_it_holds_at_once_and_goes_on_when_all_is_known() -> None:
    async def follow() -> None:
        world = World(patience=0.0)
        assert world.state == (False, True)
        world.cut_off.listens(False)
        assert world.state == (True, False)
        world.cut_off.listens(True)
        await asyncio.sleep(5)
        assert (world.state, world.places.restorations, world.released) == ((True, False), 1, 0)
        world.places.restored.set()
        await asyncio.sleep(1)
        assert (world.state, world.released) == ((False, True), 1)
        await world.tasks.aclose()

    run_at_once(follow())


def test_another_cut_meanwhile_begins_it_anew() -> None:
    async def follow() -> None:
        world = World(patience=0.0)
        world.cut_off.listens(False)
        world.cut_off.listens(True)
        await asyncio.sleep(1)
        world.cut_off.listens(False)
        world.places.restored.set()
        await asyncio.sleep(5)
        assert (world.state, world.released) == ((True, False), 0)
        world.cut_off.listens(True)
        world.places.restored.set()
        await asyncio.sleep(1)
        assert (world.state, world.released) == ((False, True), 1)
        await world.tasks.aclose()

    run_at_once(follow())


@pytest.mark.parametrize(
    ("silence", "asking", "held"), [(0.5, 0.4, False), (0.5, 0.6, True), (1.1, 0.1, True)]
)
def test_where_messages_come_over_other_connections_a_short_cut_holds_nothing(
    silence: float, asking: float, held: bool
) -> None:
    """It lasts from the loss of the commands until what was missed is known."""

    async def follow() -> None:
        world = World(patience=1.0)
        for released in (held, 2 * held):
            world.cut_off.listens(False)
            await asyncio.sleep(silence)
            world.cut_off.listens(True)
            await asyncio.sleep(asking)
            assert world.state == (held, not held)  # what was missed is asked for all the same
            world.places.restored.set()
            await asyncio.sleep(2)
            assert (world.state, world.released) == ((False, True), released)
        await world.tasks.aclose()

    run_at_once(follow())


async def test_what_comes_while_it_is_held_is_dropped_and_those_who_read_the_log_read_once_more() -> (
    None
):
    node = Node()
    client, socket = make_connection()
    node.listen(client)
    channel = node.open()
    buffer = channel.begin_buffering()
    mark = buffer.end
    node.hub.hold()
    node.hub.receive(NEWS, payload(1))
    await asyncio.sleep(0)
    assert socket.received == b""
    node.hub.release()
    assert buffer.since(mark) is None
    node.hub.receive(NEWS, payload(1))
    await asyncio.sleep(0)
    assert b'"id":1' in socket.received
