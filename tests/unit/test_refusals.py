"""Who was refused a channel is told when it is granted; what is remembered for that is bounded and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.node.connection import Connection
from gateway.node.refusals import MOST_OF_A_CONNECTION, REMEMBERED_SECONDS
from publisher.contract.grants import EVERYBODY, Grantee, member_of
from publisher.errors import Rejected, Unavailable
from tests.unit.bench import Bench
from tests.unit.fakes import RecordingFeed, RecordingSocket, make_connection, run, turn
from tests.unit.wire import messages_in

CHANNEL = "runs/1"


class Grants:
    """Answers with what the test has set; ``fails`` are raised first, one for each question."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], float] = {}
        self.fails: Iterator[Unavailable] = iter(())
        self.down: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    def server_of(self, channel: str) -> str:
        return "there" if "there" in channel else "here"

    async def remaining(self, channel: str, user: str) -> float:
        self.asked.append((channel, user))
        if self.server_of(channel) in self.down:
            raise Unavailable("down", maybe_sent=False)
        for error in self.fails:
            raise error
        return self.seconds.get((channel, user), 0.0)

    async def lost(self) -> bool:
        return False


class World:
    def __init__(self) -> None:
        self.bench = Bench()
        self.clock = self.bench.node.clock
        self.grants = Grants()
        self.feed = RecordingFeed()
        self.feed.confirm.set()
        self.refusals = self.bench.refusals(self.grants, self.feed)

    def client(self, user: str = "u", id: str = "") -> tuple[Connection, RecordingSocket]:
        return make_connection(user=user, id=id or user)

    def grant(self, grantee: Grantee, channel: str = CHANNEL) -> None:
        self.refusals.hear(channel, member_of(grantee).encode())

    @property
    def listens_to(self) -> set[str]:
        """The channels of whose grants Redis tells this node."""
        names: set[str] = set()
        for verb, name in self.feed.calls:
            (names.add if verb == "subscribe" else names.discard)(name)
        return names

    async def settle(self) -> None:
        for _ in range(30):
            await turn()

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is remembered."""
        r = self.refusals
        return not (r._refused or r._channels or r._expiries._step_of or r._expiries._ending)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.bench.close()


def told(socket: RecordingSocket) -> list[str]:
    messages = messages_in(socket.received)
    assert all(message.keys() == {"type", "channel"} for message in messages)
    assert {message["type"] for message in messages} <= {"granted"}
    return [message["channel"] for message in messages]


@pytest.mark.parametrize("grantee", ["u", EVERYBODY])
async def test_a_channel_that_is_granted_later_is_told_once(world: World, grantee: Grantee) -> None:
    client, socket = world.client()
    world.refusals.remember(client, CHANNEL)
    await world.settle()
    assert told(socket) == []
    for _ in range(2):
        world.grant(grantee)
        await world.settle()
    assert told(socket) == [CHANNEL]
    assert world.is_empty


@pytest.mark.parametrize("user", ["v", "*", "", "\ufffd"])
async def test_a_grant_to_somebody_else_is_not_told(world: World, user: str) -> None:
    client, socket = world.client()
    world.refusals.remember(client, CHANNEL)
    world.refusals.hear(CHANNEL, b"\xff")
    if user:
        world.grant(user)
    world.grant("u", "runs/2")
    await world.settle()
    assert told(socket) == []


async def test_a_user_whose_id_is_an_asterisk_is_told_of_their_own_grant(world: World) -> None:
    client, socket = world.client("*")
    other, others = world.client("u")
    for each in (client, other):
        world.refusals.remember(each, CHANNEL)
    world.grant("*")
    await world.settle()
    assert (told(socket), told(others)) == ([CHANNEL], [])


async def test_every_connection_of_the_user_that_was_refused_is_told(world: World) -> None:
    (one, first), (two, second), (_, third) = (world.client("u", id) for id in "abc")
    for each in (one, two):
        world.refusals.remember(each, CHANNEL)
    world.grant("u")
    await world.settle()
    assert (told(first), told(second), told(third)) == ([CHANNEL], [CHANNEL], [])


async def test_a_grant_just_before_redis_tells_of_any_is_asked_about(world: World) -> None:
    client, socket = world.client()
    world.feed.confirm.clear()
    world.refusals.remember(client, CHANNEL)
    await world.settle()
    assert world.grants.asked == []
    world.grants.seconds[CHANNEL, "u"] = 60
    world.feed.confirm.set()
    await world.settle()
    assert world.grants.asked == [(CHANNEL, "u")]
    assert told(socket) == [CHANNEL]


async def test_while_redis_does_not_answer_it_is_asked_again(world: World) -> None:
    client, socket = world.client()
    world.grants.seconds[CHANNEL, "u"] = 60
    world.grants.fails = iter([Unavailable("down", maybe_sent=False)] * 3)
    world.refusals.remember(client, CHANNEL)
    await world.settle()
    assert told(socket) == [CHANNEL]
    assert len(world.grants.asked) == 4


async def test_what_redis_refuses_for_good_is_left(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    client, socket = world.client()
    world.grants.fails = iter([Rejected("WRONGTYPE", maybe_sent=False)])
    world.refusals.remember(client, CHANNEL)
    await world.settle()
    assert len(world.grants.asked) == 1
    assert told(socket) == []
    assert not caplog.messages


async def test_after_a_break_all_refusals_are_asked_about(world: World) -> None:
    sockets = []
    for user in ("u", "v"):
        client, socket = world.client(user)
        sockets.append(socket)
        for number in range(3):
            world.refusals.remember(client, f"runs/{number}")
    await world.settle()
    world.grants.asked.clear()
    world.grants.seconds["runs/1", "u"] = 60
    world.refusals.ask_all()
    world.refusals.ask_all()
    await world.settle()
    assert len(world.grants.asked) == 6
    assert [told(socket) for socket in sockets] == [["runs/1"], []]


async def test_however_many_refusals_wait_for_a_server_that_is_down_the_others_are_asked_about(
    world: World,
) -> None:
    for number in range(6):
        client, _ = world.client(f"u{number}")
        for channel in range(MOST_OF_A_CONNECTION):
            world.refusals.remember(client, f"runs/there{channel}")
    client, socket = world.client("v")
    world.refusals.remember(client, CHANNEL)
    await world.settle()
    world.grants.down = {"there"}
    world.grants.seconds[CHANNEL, "v"] = 60
    world.refusals.ask_all()
    await world.settle()
    assert told(socket) == [CHANNEL]
    world.grants.asked.clear()
    world.grants.down = set()
    await world.settle()
    assert len({*world.grants.asked}) == 6 * MOST_OF_A_CONNECTION


async def test_redis_tells_of_a_channel_only_while_somebody_waits_for_it(world: World) -> None:
    one, _ = world.client("u")
    two, _ = world.client("v")
    for each in (one, two):
        world.refusals.remember(each, CHANNEL)
    await world.settle()
    assert world.listens_to == {CHANNEL}
    world.refusals.forget(one, CHANNEL)
    await asyncio.sleep(0.01)
    assert world.listens_to == {CHANNEL}
    world.refusals.forget_all(two)
    await asyncio.sleep(0.01)
    assert world.listens_to == set()
    assert world.is_empty


async def test_a_refusal_is_forgotten_after_five_minutes_and_a_new_one_counts_anew(
    world: World,
) -> None:
    client, socket = world.client()
    world.refusals.remember(client, CHANNEL)
    world.clock.now += REMEMBERED_SECONDS - 1
    world.refusals.tick()
    world.refusals.remember(client, CHANNEL)
    world.clock.now += REMEMBERED_SECONDS - 1
    world.refusals.tick()
    assert not world.is_empty
    world.clock.now += 2
    world.refusals.tick()
    assert world.is_empty
    world.grant("u")
    await world.settle()
    assert told(socket) == []


async def test_of_a_connections_refusals_the_last_ones_are_remembered(world: World) -> None:
    client, socket = world.client()
    for number in range(MOST_OF_A_CONNECTION + 5):
        world.refusals.remember(client, f"runs/{number}")
    await asyncio.sleep(0.01)
    assert world.listens_to == {f"runs/{5 + n}" for n in range(MOST_OF_A_CONNECTION)}
    for number in range(MOST_OF_A_CONNECTION + 5):
        world.grant("u", f"runs/{number}")
    await world.settle()
    assert told(socket) == [f"runs/{5 + n}" for n in range(MOST_OF_A_CONNECTION)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["remember", "remember", "forget", "leave", "grant", "wait", "turn"]),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    max_size=40,
)


class Model:
    """What should be remembered, and what should have been told."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[int, str], float] = {}
        self.told: list[list[str]] = [[], [], []]

    def remember(self, who: int, channel: str, now: float) -> None:
        self.waiting[who, channel] = now + REMEMBERED_SECONDS

    def forget(self, who: int, channel: str | None = None) -> None:
        for each in list(self.waiting):
            if each[0] == who and channel in (None, each[1]):
                del self.waiting[each]

    def grant(self, who: int, channel: str) -> None:
        if self.waiting.pop((who, channel), None):
            self.told[who].append(channel)

    def pass_time(self, now: float) -> None:
        self.waiting = {each: end for each, end in self.waiting.items() if end > now}


@settings(max_examples=150)
@given(STEPS)
def test_whatever_happens_nothing_is_left_and_nobody_is_told_what_was_not_refused(
    steps: list[tuple[str, int, int]],
) -> None:
    async def take(world: World, model: Model, step: str, who: int, channel: str) -> None:
        client = clients[who][0]
        match step:
            case "remember":
                world.refusals.remember(client, channel)
                model.remember(who, channel, world.clock.now)
            case "forget":
                world.refusals.forget(client, channel)
                model.forget(who, channel)
            case "leave":
                world.refusals.forget_all(client)
                model.forget(who)
            case "grant":
                world.grant(str(who), channel)
                model.grant(who, channel)
            case "wait":
                world.clock.now += 100.0
                world.refusals.tick()
                model.pass_time(world.clock.now)
            case _:
                await world.settle()

    async def scenario() -> None:
        world, model = World(), Model()
        for step, who, what in steps:
            await take(world, model, step, who, f"runs/{what}")
        await world.settle()
        assert [told(socket) for _, socket in clients] == model.told
        for client, _ in clients:
            world.refusals.forget_all(client)
        await asyncio.sleep(0.001)
        assert world.is_empty
        await world.settle()
        assert world.listens_to == set()
        await world.bench.close()

    clients = [make_connection(user=str(number), id=str(number)) for number in range(3)]
    run(scenario())
