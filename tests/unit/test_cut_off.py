"""What a node holds that has not heard the commands to all nodes, and until when."""

from __future__ import annotations

import asyncio

import pytest

from gateway.node.connection import Connection
from gateway.node.cut_off import CutOff
from gateway.node.tasks import Tasks
from tests.unit.fakes import FakeRevokedTokens, Node, make_connection, payload
from tests.unit.virtual_time import run_at_once

NEWS = "news/today"


class Delivery:
    """Notes who is paused, and how often channels were compared with their logs."""

    def __init__(self) -> None:
        self.paused: set[Connection] = set()
        self.checks = 0

    def pause_all(self, connection: Connection) -> None:
        assert connection not in self.paused
        self.paused.add(connection)

    def resume_all(self, connection: Connection) -> None:
        self.paused.remove(connection)

    async def check_all(self) -> None:
        self.checks += 1


class World:
    def __init__(self, patience: float) -> None:
        self.node = Node()
        self.delivery = Delivery()
        self.redis = FakeRevokedTokens()
        self.revocations = self.node.revocations(self.redis)
        self.tasks = Tasks()
        self.tasks.spawn(self.revocations.run(), "ask")
        self.cut_off = CutOff(
            self.node.hub,
            self.delivery,
            self.node.places,
            self.revocations,
            self.tasks,
            patience,
        )
        self.let_in("u")

    def let_in(self, user: str) -> Connection:
        client, _ = make_connection(user=user, id=user)
        self.revocations.watch(client)
        return client

    @property
    def released(self) -> int:
        """How often it has gone on after nothing was delivered."""
        return self.delivery.checks

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
        world.redis.answers.clear()
        world.cut_off.listens(True)
        await asyncio.sleep(5)
        assert (world.state, world.released) == ((True, False), 0)
        # A renewal of all places takes longer than all questions.
        assert world.node.places.restorations == 0
        world.redis.answers.set()
        await asyncio.sleep(1)
        assert (world.state, world.released) == ((False, True), 1)
        assert world.node.places.restorations == 1
        await world.tasks.aclose()

    run_at_once(follow())


def test_it_renews_no_places_that_are_being_renewed_since() -> None:
    async def follow() -> None:
        world = World(patience=0.0)
        world.cut_off.listens(False)
        world.cut_off.listens(True)
        world.node.places.rounds += 1
        await asyncio.sleep(1)
        assert (world.released, world.node.places.restorations) == (1, 0)
        await world.tasks.aclose()

    run_at_once(follow())


def test_another_cut_meanwhile_begins_it_anew() -> None:
    async def follow() -> None:
        world = World(patience=0.0)
        world.redis.answers.clear()
        world.cut_off.listens(False)
        world.cut_off.listens(True)
        await asyncio.sleep(1)
        world.cut_off.listens(False)
        world.redis.answers.set()
        await asyncio.sleep(5)
        assert (world.state, world.released) == ((True, False), 0)
        world.cut_off.listens(True)
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
            world.redis.answers.clear()
            world.cut_off.listens(False)
            await asyncio.sleep(silence)
            world.cut_off.listens(True)
            await asyncio.sleep(asking)
            assert world.state == (held, not held)  # what was missed is asked for all the same
            world.redis.answers.set()
            await asyncio.sleep(2)
            assert (world.state, world.released) == ((False, True), released)
        await world.tasks.aclose()

    run_at_once(follow())


@pytest.mark.parametrize("patience", [0.0, 1.0])
def test_of_whom_redis_cannot_tell_hears_nothing_until_it_has_told(patience: float) -> None:
    async def follow() -> None:
        world = World(patience)
        first, second = world.let_in("first"), world.let_in("second")
        world.redis.untold |= {"first", "second"}
        world.cut_off.listens(False)
        world.cut_off.listens(True)
        await asyncio.sleep(5)
        assert world.state == (False, True)
        assert world.delivery.paused == {first, second}
        # They stay paused over another cut.
        world.cut_off.listens(False)
        world.redis.untold.discard("first")
        world.cut_off.listens(True)
        await asyncio.sleep(5)
        assert world.delivery.paused == {second}
        world.redis.untold.clear()
        await asyncio.sleep(5)
        assert not world.delivery.paused
        await world.tasks.aclose()

    run_at_once(follow())


def test_whom_redis_cannot_tell_of_is_paused_before_anything_is_delivered() -> None:
    async def follow() -> None:
        world = World(patience=0.0)
        world.redis.untold.add("u")
        world.cut_off.listens(False)
        world.cut_off.listens(True)
        paused: list[int] = []
        release = world.node.hub.release
        world.node.hub.release = lambda: (  # type: ignore[method-assign]
            paused.append(len(world.delivery.paused)),
            release(),
        )[1]
        await asyncio.sleep(1)
        assert paused == [1]
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
