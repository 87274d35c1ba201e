"""Who may hear a channel, and until when: what is asked, of whom, and what an answer that does not come means."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import NoReturn

import pytest

from gateway.core import budget
from gateway.core.access import Identity
from gateway.core.budget import Budget
from gateway.core.protocol import EndReason
from gateway.core.timing import Backoff
from gateway.node.connection import Connection, Subscription
from gateway.node.passes import Passes
from gateway.node.recheck import Recheck
from publisher.contract.channels import Namespace, Owner, parse_channel
from publisher.contract.grants import EVERYBODY
from publisher.errors import Rejected, Unavailable
from tests.support.waiting import until
from tests.unit.bench import Bench
from tests.unit.fakes import RecordingFeed, RecordingSocket, make_connection, turn
from tests.unit.wire import messages_in

NAMESPACES = {
    "runs": Namespace("runs", Owner.GRANT),
    "news": Namespace("news", Owner.ANYONE),
    "inbox": Namespace("inbox", Owner.USER),
}
DOWN = Unavailable("down", maybe_sent=False)
REFUSED = Rejected("WRONGTYPE", maybe_sent=False)


class Grants:
    """Answers what the test has set, when it lets it; ``asked`` holds every question."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], float] = {}
        self.fails: Unavailable | None = None
        self.down: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.losses: deque[bool] = deque()

    def server_of(self, channel: str) -> str:
        return "there" if "there" in channel else "here"

    async def remaining(self, channel: str, user: str) -> float:
        self.asked.append((channel, user))
        if self.server_of(channel) in self.down:
            raise DOWN
        if self.fails is not None:
            raise self.fails
        seconds = self.seconds.get((channel, user), 0.0)  # as it is when Redis answers
        await self.open.wait()
        return seconds

    async def lost(self) -> bool:
        if self.fails is not None:
            raise self.fails
        return self.losses.popleft() if self.losses else False


class World:
    def __init__(self) -> None:
        bench = Bench()
        self.node = bench.node
        self.grants = Grants()
        self.told_of_grants = RecordingFeed()
        self.begun: list[Subscription] = []
        self.recheck = Recheck(
            self.node.hub,
            bench.catchup,
            self.grants,
            bench.refusals(self.grants, self.told_of_grants),
            NAMESPACES,
            Passes(self.node.revocations(), self.node.clock),
            self.node.clock,
            lambda: -1.0,  # tries again without a pause
        )
        self.recheck.listens(True)

    @property
    def left(self) -> list[Subscription]:
        """The subscriptions that have ended."""
        return [
            each for each in self.begun if each.channel.name not in each.connection.subscriptions
        ]

    def begin(
        self, channel: str, user: str = "u", *channels: str
    ) -> tuple[Subscription, RecordingSocket]:
        client, socket = make_connection(user=user, id=f"{user}-{channel}")
        client.identity = Identity(user, frozenset(channels))
        self.node.hub.connections[client.id] = client
        subscription = Subscription(client, parse_channel(channel))
        client.subscriptions[channel] = subscription
        self.begun.append(subscription)
        return subscription, socket

    async def enter(
        self, channel: str, user: str = "u", seconds: float = math.inf
    ) -> tuple[Subscription, RecordingSocket]:
        """A subscription that a grant of so many seconds has let in."""
        self.grants.seconds[channel, user] = seconds
        subscription, socket = self.begin(channel, user)
        assert await self.recheck.admit(subscription)
        subscription.answers = 0
        self.grants.asked.clear()
        return subscription, socket

    async def pass_time(self, seconds: float) -> None:
        self.node.clock.now += seconds
        self.recheck.tick()
        for _ in range(8):
            await turn()


def ended(socket: RecordingSocket) -> list[tuple[str, str]]:
    return [
        (message["channel"], message["reason"])
        for message in messages_in(socket.received)
        if message["type"] == "unsubscribed"
    ]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    running = asyncio.create_task(world.recheck.run())
    await until(lambda: not world.recheck._all_are_due)
    yield world
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_rules_and_tokens_let_in_without_asking_redis(world: World) -> None:
    assert await world.recheck.admit(world.begin("news/1")[0])
    assert await world.recheck.admit(world.begin("inbox/u")[0])
    assert not await world.recheck.admit(world.begin("inbox/v")[0])
    assert await world.recheck.admit(world.begin("runs/1", "u", "runs/*")[0])
    assert not world.grants.asked


async def test_a_grant_is_asked_about_when_it_ends_and_not_before(world: World) -> None:
    _, socket = await world.enter("runs/1", seconds=10)
    await world.pass_time(9.75)
    assert not world.grants.asked
    world.grants.seconds.clear()
    await world.pass_time(0.5)
    assert ended(socket) == [("runs/1", "expired")]
    assert world.grants.asked == [("runs/1", "u")]


async def test_a_grant_given_anew_is_asked_about_again_at_its_new_end(world: World) -> None:
    _, socket = await world.enter("runs/1", seconds=10)
    world.grants.seconds["runs/1", "u"] = 30
    await world.pass_time(10.25)
    await world.pass_time(29.5)
    assert len(world.grants.asked) == 1
    world.grants.seconds.clear()
    await world.pass_time(0.75)
    assert ended(socket) == [("runs/1", "expired")]


async def test_a_revocation_asks_about_its_channel_and_user_and_looks_at_nobody_else(
    world: World,
) -> None:
    for number in range(50):
        await world.enter("runs/other", f"other-{number}")
    _, revoked = await world.enter("runs/1", "u")
    await world.enter("runs/1", "v")
    world.grants.asked.clear()

    class Unwalked(dict[str, Connection]):
        def __iter__(self) -> NoReturn:
            raise AssertionError("all connections were walked through")

        values = items = __iter__  # type: ignore[assignment]

    world.node.hub.connections = Unwalked(world.node.hub.connections)
    world.grants.seconds.clear()
    world.recheck.revoked("runs/1", "u")
    await until(lambda: ended(revoked) == [("runs/1", "revoked")])
    assert world.grants.asked == [("runs/1", "u")]
    world.recheck.revoked("runs/1", EVERYBODY)
    await until(lambda: len(world.left) == 2)
    assert world.grants.asked == [("runs/1", "u"), ("runs/1", "v")]


async def test_a_revocation_looks_at_as_many_as_are_in_the_channel(world: World) -> None:
    """At 20,000 connections elsewhere as at none."""
    for number in range(300):
        await world.enter(f"runs/{number}", f"u{number}")
    looked_at = 0
    granted = world.recheck._granted

    class Counted(dict[Subscription, None]):
        def __iter__(self) -> Iterator[Subscription]:
            nonlocal looked_at
            for each in super().__iter__():
                looked_at += 1
                yield each

    for name in granted:
        granted[name] = Counted(granted[name])
    world.recheck.revoked("runs/7", EVERYBODY)
    assert looked_at == 1


async def test_a_grant_revoked_while_it_is_asked_about_lets_nobody_in(world: World) -> None:
    world.grants.seconds["runs/1", "u"] = math.inf
    world.grants.open.clear()
    subscription, _ = world.begin("runs/1")
    admission = asyncio.create_task(world.recheck.admit(subscription))
    await until(lambda: world.grants.asked)
    world.grants.seconds.clear()
    world.recheck.revoked("runs/1", "u")
    world.grants.open.set()
    assert not await admission
    assert len(world.grants.asked) == 2
    assert not world.left  # whoever asked for it is told


async def test_a_token_shown_while_a_grant_is_asked_about_counts(world: World) -> None:
    world.grants.open.clear()
    subscription, _ = world.begin("runs/1")
    admission = asyncio.create_task(world.recheck.admit(subscription))
    await until(lambda: world.grants.asked)
    subscription.connection.identity = Identity("u", frozenset({"runs/1"}))
    world.recheck.refreshed(subscription.connection)
    world.grants.open.set()
    assert await admission


async def test_a_token_shown_during_a_recheck_counts(world: World) -> None:
    subscription, socket = await world.enter("runs/1", seconds=1)
    world.grants.seconds.clear()
    world.grants.open.clear()
    await world.pass_time(1.25)
    assert world.grants.asked
    subscription.connection.identity = Identity("u", frozenset({"runs/1"}))
    world.recheck.refreshed(subscription.connection)
    world.grants.open.set()
    await world.pass_time(60)
    assert not ended(socket)


async def test_a_new_token_costs_no_question_where_a_grant_lets_in(world: World) -> None:
    subscription, socket = await world.enter("runs/1", seconds=60)
    world.grants.fails = DOWN
    world.recheck.refreshed(subscription.connection)
    await world.pass_time(30)
    assert not world.grants.asked
    assert not ended(socket)
    world.grants.fails = None
    world.grants.seconds.clear()
    await world.pass_time(31)
    assert ended(socket) == [("runs/1", "expired")]


async def test_a_token_whose_user_the_rule_keeps_out_ends_the_subscription_and_no_other(
    world: World,
) -> None:
    denied, socket = world.begin("inbox/u")
    client = denied.connection
    client.subscriptions["news/1"] = allowed = Subscription(client, parse_channel("news/1"))
    for subscription in denied, allowed:
        assert await world.recheck.admit(subscription)
        subscription.answers = 0
    client.identity = Identity("v")
    world.recheck.refreshed(client)
    await turn()
    assert ended(socket) == [("inbox/u", "revoked")]
    assert list(client.subscriptions) == ["news/1"]


async def test_an_end_that_redis_does_not_confirm_is_told_when_it_does_and_nothing_is_heard_meanwhile(
    world: World,
) -> None:
    subscription, socket = await world.enter("runs/1", seconds=1)
    world.grants.fails = DOWN
    await world.pass_time(1.25)
    await world.pass_time(3_600)
    assert subscription.paused is not None
    assert not ended(socket)
    world.grants.seconds.clear()
    world.grants.fails = None
    await until(lambda: ended(socket) == [("runs/1", "expired")])


async def test_an_answer_from_before_the_last_revocation_lets_nobody_go_on(world: World) -> None:
    subscription, socket = await world.enter("runs/1", seconds=1)
    world.grants.seconds["runs/1", "u"] = 60
    world.grants.open.clear()
    await world.pass_time(1.25)
    assert world.grants.asked
    world.recheck.revoked("runs/1", "u")
    world.grants.seconds.clear()
    going_on = subscription.paused
    world.grants.open.set()
    await until(lambda: ended(socket))
    assert going_on is not None
    assert not going_on.is_set()


async def test_while_no_revocation_is_heard_nothing_is_asked_and_nobody_goes_on(
    world: World,
) -> None:
    running, _ = await world.enter("runs/1")
    named, _ = world.begin("runs/1", "v", "runs/1")
    assert await world.recheck.admit(named)
    world.recheck.listens(False)
    assert running.paused is not None
    assert named.paused is None
    joining, _ = world.begin("runs/1", "w")
    admission = asyncio.create_task(world.recheck.admit(joining))
    await world.pass_time(60)
    assert not world.grants.asked
    world.grants.seconds["runs/1", "w"] = 60
    world.recheck.listens(True)
    assert await admission
    await until(lambda: running.paused is None)
    assert set(world.grants.asked) == {("runs/1", "u"), ("runs/1", "w")}


@pytest.mark.parametrize(("fails", "code"), [(None, "forbidden"), (REFUSED, "internal_error")])
async def test_who_waits_for_an_answer_when_access_ends_gets_one_for_each_request(
    world: World, fails: Unavailable | None, code: str
) -> None:
    subscription, socket = await world.enter("runs/1")
    subscription.answers = 2
    world.grants.seconds.clear()
    world.grants.fails = fails
    world.recheck.revoked("runs/1", "u")
    await until(lambda: world.left)
    await turn()
    told = messages_in(socket.received)
    assert [(each["type"], each["code"], each["channel"]) for each in told] == [
        ("error", code, "runs/1")
    ] * 2
    assert world.node.stats.client_errors == {code: 2}


@pytest.mark.parametrize(("channel", "waits"), [("runs/1", True), ("inbox/v", False)])
async def test_only_a_refusal_that_a_grant_could_end_waits_for_one(
    world: World, channel: str, waits: bool
) -> None:
    subscription, socket = world.begin(channel)
    assert not await world.recheck.admit(subscription)
    world.recheck.end(subscription, EndReason.REVOKED)
    await turn()
    [told] = messages_in(socket.received)
    assert told["code"] == "forbidden"
    assert world.told_of_grants.calls == [("subscribe", channel)] * waits


async def test_an_answer_from_before_the_node_went_deaf_lets_nobody_in(world: World) -> None:
    world.grants.seconds["runs/1", "u"] = 60
    world.grants.open.clear()
    subscription, _ = world.begin("runs/1")
    admission = asyncio.create_task(world.recheck.admit(subscription))
    await until(lambda: world.grants.asked)
    world.recheck.listens(False)
    world.grants.seconds.clear()
    world.recheck.listens(True)
    world.grants.open.set()
    assert not await admission


async def test_a_token_that_names_the_channel_ends_the_recheck_at_once(world: World) -> None:
    subscription, socket = await world.enter("runs/1")
    world.recheck.listens(False)
    subscription.connection.identity = Identity("u", frozenset({"runs/1"}))
    world.recheck.refreshed(subscription.connection)
    assert subscription.paused is None
    world.recheck.listens(True)
    await world.pass_time(60)
    assert not ended(socket)
    assert not world.grants.asked


async def test_an_outage_ends_no_grant_that_lasts(world: World) -> None:
    _, socket = await world.enter("runs/1", seconds=1_000)
    world.recheck.listens(True)
    world.grants.fails = DOWN
    await world.pass_time(900)
    world.grants.fails = None
    asked = len(world.grants.asked)
    await until(lambda: len(world.grants.asked) > asked)
    assert not ended(socket)


async def test_what_redis_refuses_for_good_is_asked_once_and_ends(world: World) -> None:
    _, socket = await world.enter("runs/1", seconds=1)
    world.grants.fails = REFUSED
    await world.pass_time(1.25)
    assert ended(socket) == [("runs/1", "internal_error")]
    assert len(world.grants.asked) == 1
    with pytest.raises(Rejected):
        await world.recheck.admit(world.begin("runs/2")[0])


async def test_one_grant_that_cannot_be_read_keeps_no_other_waiting(world: World) -> None:
    _, broken = await world.enter("runs/broken", seconds=1)
    _, sound = await world.enter("runs/sound", seconds=1)
    answer = world.grants.remaining

    async def remaining(channel: str, user: str) -> float:
        if channel == "runs/broken":
            raise DOWN
        return await answer(channel, user)

    world.grants.remaining = remaining  # type: ignore[method-assign]
    world.grants.seconds.clear()
    await world.pass_time(1.25)
    assert ended(sound) == [("runs/sound", "expired")]
    assert not ended(broken)


async def test_an_outage_costs_few_questions_however_many_grants_there_are(world: World) -> None:
    for number in range(1_200):
        await world.enter("runs/1", f"u{number}")
    world.grants.asked.clear()
    world.grants.fails = DOWN
    world.recheck._backoff = Backoff(lambda: 1.0)
    world.recheck.revoked("runs/1", EVERYBODY)
    await until(lambda: world.grants.asked)
    world.recheck.revoked("runs/1", EVERYBODY)
    await world.pass_time(1)
    assert len(world.grants.asked) <= 500
    world.grants.fails = None
    world.grants.asked.clear()
    await until(lambda: len(set(world.grants.asked)) == 1_200)
    assert not world.left


async def test_however_many_grants_are_at_a_server_that_is_down_those_at_another_wait_for_nothing(
    world: World,
) -> None:
    for number in range(600):
        await world.enter("runs/there", f"u{number}")
    here = [(await world.enter("runs/here", f"u{number}"))[0] for number in range(600)]
    world.grants.asked.clear()
    world.grants.down = {"there"}
    world.recheck._backoff = Backoff(lambda: 1.0)
    world.recheck._backoff._seconds = 60.0  # nobody is asked a second time
    world.recheck.listens(True)
    await until(lambda: all(each.paused is None for each in here))
    assert [channel for channel, _ in world.grants.asked].count("runs/there") == 500
    assert not world.left


async def test_what_redis_refuses_for_good_is_logged_in_one_line_however_many_there_are(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1_200):
        await world.enter(f"runs/{number}", seconds=1)
    world.grants.fails = REFUSED
    await world.pass_time(1.25)
    await until(lambda: caplog.records)
    assert len(world.left) == 1_200
    await world.pass_time(60)
    assert len(caplog.records) == 1


async def test_the_first_reason_is_told(world: World) -> None:
    _, socket = await world.enter("runs/1")
    world.grants.seconds.clear()
    world.grants.losses.append(True)
    broken = world.grants.remaining
    failures = [DOWN, DOWN]

    async def remaining(channel: str, user: str) -> float:
        if failures:
            # By now a second reason waits behind the first.
            world.recheck.revoked("runs/1", "u")
            raise failures.pop()
        return await broken(channel, user)

    world.grants.remaining = remaining  # type: ignore[method-assign]
    world.recheck.listens(True)
    await until(lambda: ended(socket) == [("runs/1", "grant_lost")])
    assert not failures


async def test_a_break_while_many_are_asked_about_costs_no_answer_that_counts_for_nothing(
    world: World,
) -> None:
    for number in range(1_200):
        await world.enter("runs/1", f"u{number}")
    world.grants.asked.clear()
    world.grants.open.clear()
    world.recheck.revoked("runs/1", EVERYBODY)
    await until(lambda: len(world.grants.asked) == 500)
    world.recheck.listens(False)
    world.recheck.listens(True)
    world.grants.open.set()
    await until(lambda: all(each.paused is None for each in world.begun))
    assert len(world.grants.asked) == 500 + 1_200
    assert not world.left


async def test_whoever_leaves_while_others_are_asked_about_is_not_asked_about(
    world: World,
) -> None:
    subscriptions = [(await world.enter("runs/1", f"u{number}"))[0] for number in range(600)]
    world.grants.asked.clear()
    world.grants.open.clear()
    world.recheck.revoked("runs/1", EVERYBODY)
    await until(lambda: len(world.grants.asked) == 500)
    world.recheck.forget(subscriptions[-1])
    world.grants.open.set()
    await until(lambda: len(world.grants.asked) == 599)
    await world.pass_time(1)
    assert ("runs/1", "u599") not in world.grants.asked
    assert subscriptions[-1] not in world.recheck._granted["runs/1"]


async def test_a_defect_ends_one_subscription_and_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    _, broken = await world.enter("runs/broken", seconds=1)
    _, sound = await world.enter("runs/sound", seconds=1)
    answer = world.grants.remaining

    async def remaining(channel: str, user: str) -> float:
        if channel == "runs/broken":
            raise ZeroDivisionError
        return await answer(channel, user)

    world.grants.remaining = remaining  # type: ignore[method-assign]
    world.grants.seconds.clear()
    await world.pass_time(1.25)
    assert ended(broken) == [("runs/broken", "internal_error")]
    assert ended(sound) == [("runs/sound", "expired")]
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


async def test_lost_data_end_what_only_a_lost_grant_let_in(world: World) -> None:
    _, lost = await world.enter("runs/1")
    _, given_again = await world.enter("runs/2")
    world.grants.seconds = {("runs/2", "u"): 60.0}
    world.grants.losses.append(True)
    world.recheck.listens(True)
    await until(lambda: ended(lost) == [("runs/1", "grant_lost")])
    # Whoever asks a second time hears that nothing more was lost.
    world.recheck.listens(True)
    world.grants.asked.clear()
    await until(lambda: world.grants.asked == [("runs/2", "u")])
    assert not ended(given_again)


async def test_where_redis_was_away_and_has_its_data_still_nobody_is_asked_about(
    world: World,
) -> None:
    subscription, socket = await world.enter("runs/1")
    world.recheck.data_may_be_lost()
    assert subscription.paused is None
    await world.pass_time(60)
    assert not world.grants.asked
    world.grants.seconds.clear()
    world.grants.losses.append(True)
    world.recheck.data_may_be_lost()
    await until(lambda: ended(socket) == [("runs/1", "grant_lost")])


async def test_nothing_is_kept_of_a_subscription_that_has_left(world: World) -> None:
    subscriptions = [(await world.enter("runs/1", f"u{n}", seconds=5))[0] for n in range(9)]
    world.recheck.revoked("runs/1", EVERYBODY)
    for each in subscriptions:
        world.recheck.forget(each)
    recheck = world.recheck
    assert not recheck._granted
    assert not recheck._queue
    assert not recheck._admitting
    assert not recheck._expiries._ending
    await world.pass_time(60)
    assert not world.grants.asked
    assert not world.left


async def test_a_subscription_that_leaves_while_it_is_asked_about_is_ended_once(
    world: World,
) -> None:
    subscription, socket = await world.enter("runs/1", seconds=1)
    world.grants.seconds.clear()
    world.grants.open.clear()
    await world.pass_time(1.25)
    world.recheck.forget(subscription)
    world.grants.open.set()
    await world.pass_time(1)
    assert not world.left
    assert not ended(socket)


async def test_tokens_shown_in_turn_ask_redis_no_more_than_the_budget_bears(world: World) -> None:
    """One names the channels and the other does not, and a grant lets in to each."""
    names = [f"runs/{number}" for number in range(100)]
    world.grants.seconds = {(name, "u"): math.inf for name in names}
    client = world.begin(names[0], "u", *names)[0].connection
    for name in names[1:]:
        client.subscriptions[name] = Subscription(client, parse_channel(name))
    subscriptions = client.subscriptions.values()
    for each in subscriptions:
        assert await world.recheck.admit(each)
        each.answers = 0
    client.budget = Budget(100, 1_000, 0, world.node.clock())

    def show(*channels: str) -> None:
        client.identity = Identity("u", frozenset(channels))
        world.recheck.refreshed(client)

    show()
    await world.pass_time(0.0)
    assert len(world.grants.asked) == 100  # the budget bears one such token at once
    for _ in range(50):
        show(*names)
        show()
        await world.pass_time(0.1)
    assert len(world.grants.asked) <= (500 + 5 * 100) / budget.SUBSCRIBE + 1
    waiting = [each for each in subscriptions if each.paused is not None]
    assert waiting
    # A revocation lets nobody go on who waits.
    world.recheck.revoked(waiting[0].channel.name, "u")
    await world.pass_time(0.0)
    assert waiting[0].paused is not None
    show(*names)
    await world.pass_time(60.0)
    assert all(each.paused is None for each in subscriptions)
    assert not world.left


async def test_a_token_that_waits_for_its_budget_lets_nobody_hear_what_is_theirs_no_more(
    world: World,
) -> None:
    subscription, socket = world.begin("runs/1", "u", "runs/1")
    assert await world.recheck.admit(subscription)
    subscription.answers = 0
    client = subscription.connection
    client.budget = Budget(1, 10, 0, world.node.clock())
    client.budget.owe(30)
    client.identity = Identity("u")
    world.recheck.refreshed(client)
    await world.pass_time(20.0)
    assert subscription.paused is not None
    assert not world.grants.asked
    await world.pass_time(10.0)
    await until(lambda: ended(socket) == [("runs/1", "revoked")])
