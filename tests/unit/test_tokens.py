"""Tokens that are shown on open connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.access import Identity, TokenRejected
from gateway.core.closing import TOKEN_EXPIRED
from gateway.core.protocol import BadRequest
from gateway.node.passes import Passes
from gateway.node.recheck import Recheck
from gateway.node.rejected_tokens import RejectedTokens
from gateway.node.tasks import Tasks
from gateway.node.tokens import Tokens, TokenTimes
from publisher.contract.revocations import digest_of
from tests.unit.bench import Bench
from tests.unit.fakes import FakeClock, FakeRevokedTokens, RecordingFeed, make_connection
from tests.unit.test_recheck import NAMESPACES, Grants
from tests.unit.wire import messages_in


class Rejecting:
    """No token is good enough."""

    def verify(self, token: str) -> Identity:
        raise TokenRejected(f"{token!r} is made up")


class Accepting:
    """Each token is the same one."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity

    def verify(self, token: str) -> Identity:
        return self.identity


class World:
    """Tokens that end at a time on a wall clock of their own."""

    def __init__(
        self, leeway: float = 5.0, warning: float = 60.0, verifier: Accepting | None = None
    ) -> None:
        self.bench = Bench()
        self.node, grants = self.bench.node, Grants()
        self.wall_clock = FakeClock(1_700_000_000.0)
        refusals = self.bench.refusals(grants, RecordingFeed())
        recheck = Recheck(
            self.node.hub,
            self.bench.catchup,
            grants,
            refusals,
            NAMESPACES,
            Passes(self.node.revocations(), self.node.clock),
            self.node.clock,
            lambda: 0.0,
        )
        self.redis, self.tasks = FakeRevokedTokens(), Tasks()
        self.tokens = Tokens(
            self.node.hub,
            verifier or Rejecting(),
            recheck,
            self.node.revocations(self.redis),
            self.tasks,
            TokenTimes(leeway, warning),
            self.node.clock,
            self.wall_clock,
        )
        self.leeway = leeway
        self.client, self.socket = make_connection()

    def show(self, seconds: float) -> float:
        """A token that ends in so many seconds; returns its ``exp``."""
        exp = self.wall_clock.now + seconds
        self.client.identity = Identity(self.client.user, expires_at=exp + self.leeway)
        self.tokens.watch(self.client)
        return exp

    def told(self, seconds: float) -> list[dict[str, Any]]:
        """What the client is told while so many seconds pass."""
        self.socket.writes.clear()
        for _ in range(int(seconds * 4)):
            self.wall_clock.now += 0.25
            self.tokens.tick()
        self.node.hub.outboxes.flush()
        return messages_in(self.socket.received)


async def test_a_client_is_told_once_before_its_token_ends_and_closed_when_it_does() -> None:
    world = World()
    exp = world.show(200)
    assert world.told(139.75) == []
    assert world.told(0.5) == [{"type": "token_expiring", "expiresAt": int(exp * 1000)}]
    assert world.told(64.5) == []
    assert world.socket.closing is None
    assert [each["code"] for each in world.told(0.5)] == ["token_expired"]
    assert world.socket.closing is TOKEN_EXPIRED
    assert world.node.stats.tokens_expiring == 1


async def test_a_client_that_shows_another_token_is_told_of_that_ones_end() -> None:
    world = World()
    world.show(200)
    assert len(world.told(141)) == 1
    exp = world.show(200)
    assert world.told(139.5) == []
    assert [each["expiresAt"] for each in world.told(1)] == [int(exp * 1000)]


async def test_of_a_token_with_little_left_a_client_is_told_when_half_of_it_has_passed() -> None:
    world = World()
    exp = world.show(45)
    assert world.told(22.25) == []
    assert world.told(0.5) == [{"type": "token_expiring", "expiresAt": int(exp * 1000)}]
    assert world.told(27) == []
    assert world.socket.closing is None


@pytest.mark.parametrize(("seconds", "behind"), [(45, 0), (4, 0), (45, 60), (4, 250)])
async def test_a_client_whose_tokens_are_all_short_renews_them_twice_in_their_life(
    seconds: float, behind: float
) -> None:
    world = World(leeway=300 if behind else 5)
    renewals = 0
    for _ in range(400):
        if not renewals or world.told(1):
            world.show(seconds - behind)
            renewals += 1
    # Where the login's clock is behind, its tokens live on the leeway.
    lives = seconds if seconds > behind else 300 + seconds - behind
    assert world.socket.closing is None
    assert 1 <= renewals - 1 <= 800 / lives + 1


async def test_of_a_token_without_an_end_nothing_is_told() -> None:
    world = World()
    world.client.identity = Identity(world.client.user)
    world.tokens.watch(world.client)
    assert world.told(100) == []


async def test_nobody_is_told_where_that_is_switched_off() -> None:
    world = World(warning=0)
    world.show(10)
    assert world.told(14) == []
    assert [each["type"] for each in world.told(1.5)] == ["error"]


@pytest.mark.parametrize(("revoked", "ends_at"), [(False, 300), (True, 99)])
async def test_who_renews_in_time_is_not_ended_because_redis_is_away(
    revoked: bool, ends_at: int
) -> None:
    """But it hears nothing while none of its tokens is known to be good; it ends with the answer, at 99 s, if that is bad."""
    accepting = Accepting(Identity("u"))
    world = World(leeway=0, verifier=accepting)
    exp = world.show(60)
    accepting.identity = Identity(
        world.client.user, expires_at=exp + 240, token_id="t", issued_at=1.0
    )
    world.redis.answers.clear()
    world.redis.digests.update({digest_of("t")} if revoked else ())
    world.tokens.refresh(world.client, "t")
    await asyncio.sleep(0)
    it = world.node.listen(world.client)
    assert world.told(59) == []
    assert it.live is not None
    assert world.told(40) == []
    assert it.live is None
    assert it.pause is not None
    assert world.socket.closing is None
    world.redis.answers.set()
    await world.client.refreshed()
    assert (it.pause is None) == (not revoked)
    lived = 99.0
    while world.socket.closing is None:
        world.told(1)
        lived += 1
    assert lived == ends_at
    await world.tasks.aclose()


async def test_a_token_that_ends_before_redis_has_answered_about_it_is_never_in_force() -> None:
    accepting = Accepting(Identity("u"))
    world = World(leeway=0, warning=0, verifier=accepting)
    exp = world.show(60)
    before = world.client.identity
    accepting.identity = Identity(before.user, expires_at=exp - 40, token_id="t", issued_at=1.0)
    world.redis.answers.clear()
    world.tokens.refresh(world.client, "t")
    await asyncio.sleep(0)
    assert world.told(30) == []
    world.redis.answers.set()
    await world.client.refreshed()
    assert world.client.identity is before
    await asyncio.sleep(0)
    assert [each["code"] for each in messages_in(world.socket.received)] == ["token_expired"]
    assert world.told(29.75) == []
    assert world.socket.closing is None
    world.told(0.5)
    assert world.socket.closing is TOKEN_EXPIRED
    await world.tasks.aclose()


async def test_a_wall_clock_that_is_set_back_ends_no_token_early() -> None:
    world = World()
    world.show(10)
    assert len(world.told(5.5)) == 1
    world.wall_clock.now -= 3_600
    assert world.told(3_600) == []
    assert world.socket.closing is None
    world.told(10)
    assert world.socket.closing is TOKEN_EXPIRED


async def test_a_wall_clock_that_is_set_changes_nothing_of_how_many_rejections_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    node, wall_clock, tokens = world.node, world.wall_clock, world.tokens
    client, _ = make_connection()

    def logged_of(count: int) -> int:
        caplog.clear()
        for _ in range(count):
            with pytest.raises(BadRequest):
                tokens.refresh(client, "x")
        return sum(each.startswith("refresh_rejected") for each in caplog.messages)

    caplog.set_level("INFO")
    assert logged_of(100) == 10
    wall_clock.now += 86_400
    assert logged_of(100) == 0
    wall_clock.now -= 2 * 86_400
    node.clock.now += 10
    assert logged_of(100) == 1


async def test_a_token_that_is_not_accepted_is_told_of_with_what_it_was_shown_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rejected = RejectedTokens(lambda: 0.0)
    client, _ = make_connection(user="100% ann", id="c")
    with caplog.at_level("INFO"):
        rejected.tell("refresh_rejected", client, "expired")
        rejected.tell("channel_token_rejected", client, "expired", channel="a/%s")
    assert caplog.messages == [
        "refresh_rejected connection=c user='100% ann' reason=expired left_out=None",
        "channel_token_rejected connection=c user='100% ann' channel=a/%s reason=expired left_out=None",
    ]
