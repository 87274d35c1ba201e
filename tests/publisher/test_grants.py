"""Grants and connections, against a real server."""

from __future__ import annotations

import time

import pytest
import redis

from publisher import (
    EVERYBODY,
    AsyncPublisher,
    Connection,
    GrantWithoutEffect,
    InvalidData,
    Namespace,
    Owner,
    Publisher,
)
from publisher.contract.calls import GRANTED_FOR_EVER, Call
from publisher.contract.control import GrantRevoked, decode
from publisher.contract.grants import Grantee, member_of
from publisher.contract.keys import Keys
from publisher.contract.scripts import GRANTED
from tests.publisher.announcing import Announce
from tests.publisher.asking import ask
from tests.publisher.listening import listening

CHANNEL = "run-results/s"


@pytest.fixture
def granted(server: redis.Redis, keys: Keys):
    def remaining_ms(user: str) -> int:
        """The milliseconds that remain."""
        call = Call.run(GRANTED, [keys.grant(CHANNEL)], member_of(user))
        [remaining] = ask(server, [call])
        return remaining

    return remaining_ms


def test_a_grant_is_for_one_user_of_one_channel(publisher: Publisher, granted):
    assert not granted("u")
    publisher.grant(CHANNEL, "u")
    assert granted("u")
    assert not granted("v")


def test_a_grant_lasts_30_days_unless_told_otherwise(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.grant(CHANNEL, "u")
    publisher.grant(CHANNEL, "v", ttl=60)
    expiry = {user: server.zscore(keys.grant(CHANNEL), user) / 1000 - time.time() for user in "uv"}
    assert 30 * 86_400 - 10 < expiry["u"] <= 30 * 86_400
    assert 50 < expiry["v"] <= 60


def test_the_key_lives_as_long_as_its_longest_grant(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.grant(CHANNEL, "u", ttl=1_000)
    publisher.grant(CHANNEL, "v", ttl=60)
    assert 990 <= server.ttl(keys.grant(CHANNEL)) <= 1_000


def test_a_grant_for_ever_keeps_the_key_until_it_is_taken_back(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.grant(CHANNEL, "u", ttl=60)
    publisher.grant(CHANNEL, "v", ttl=None)
    publisher.grant(CHANNEL, "w", ttl=60)
    assert server.ttl(keys.grant(CHANNEL)) == -1
    publisher.revoke(CHANNEL, "v")
    publisher.grant(CHANNEL, "w", ttl=60)
    assert 0 < server.ttl(keys.grant(CHANNEL)) <= 60


def test_a_second_grant_replaces_the_time_of_the_first(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.grant(CHANNEL, "u", ttl=None)
    publisher.grant(CHANNEL, "u", ttl=60)
    assert server.zscore(keys.grant(CHANNEL), "u") < (time.time() + 61) * 1000


def test_a_grant_that_has_run_out_counts_no_more_and_is_dropped(
    publisher: Publisher, server: redis.Redis, keys: Keys, granted
):
    server.zadd(keys.grant(CHANNEL), {"u": (time.time() - 1) * 1000})
    assert not granted("u")
    publisher.grant(CHANNEL, "v")
    assert server.zrange(keys.grant(CHANNEL), 0, -1) == [b"v"]


@pytest.mark.parametrize("ttl", [60, None])
def test_everybody_can_be_granted(publisher: Publisher, granted, ttl: int | None):
    publisher.grant(CHANNEL, EVERYBODY, ttl)
    assert granted("anybody at all")
    assert granted("*")
    assert publisher.revoke(CHANNEL, EVERYBODY)
    assert not granted("anybody at all")


def test_a_user_whose_id_is_an_asterisk_is_a_user_like_any_other(publisher: Publisher, granted):
    publisher.grant(CHANNEL, "*")
    assert granted("*")
    assert not granted("anybody else")
    assert not publisher.revoke(CHANNEL, EVERYBODY)
    assert granted("*")
    assert publisher.revoke(CHANNEL, "*")
    assert not granted("*")


def test_taking_a_grant_from_the_user_asterisk_leaves_everybodys(publisher: Publisher, granted):
    publisher.grant(CHANNEL, EVERYBODY)
    publisher.grant(CHANNEL, "*")
    assert publisher.revoke(CHANNEL, "*")
    assert granted("anybody at all")


def test_everybodys_grants_have_the_name_in_redis_that_they_always_had(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.grant(CHANNEL, EVERYBODY)
    assert server.zrange(keys.grant(CHANNEL), 0, -1) == [b"*"]


def test_a_run_result_can_be_for_everybody(publisher: Publisher, granted):
    publisher.run_result("s", stdout="", stderr="", exit_code=0, duration=1, user=EVERYBODY)
    assert granted("anybody at all")


def test_what_is_for_one_user_is_not_for_everybody(publisher: Publisher):
    with pytest.raises(InvalidData):
        publisher.notify(EVERYBODY, title="t", message="m")  # type: ignore[arg-type]
    with pytest.raises(InvalidData):
        publisher.connections(EVERYBODY)  # type: ignore[arg-type]


def test_an_asterisk_that_meant_everybody_is_noticed_in_the_log_once(
    publisher: Publisher, caplog: pytest.LogCaptureFixture
):
    publisher.grant(CHANNEL, "u")
    publisher.revoke(CHANNEL, EVERYBODY)
    assert not caplog.messages
    for _ in range(2):
        publisher.revoke(CHANNEL, "*")
        publisher.grant(CHANNEL, "*")
    [told] = caplog.messages
    assert told.startswith("asterisk_is_a_user")
    assert "EVERYBODY" in told


@pytest.mark.parametrize("grantee", ["u", "*", EVERYBODY])
def test_a_grant_is_told_where_those_wait_who_were_refused(
    publisher: Publisher, server: redis.Redis, keys: Keys, grantee: Grantee
):
    publisher.grant(CHANNEL, "first")  # tries whether it may
    with listening(server, keys.granted(CHANNEL)) as pubsub:
        publisher.grant(CHANNEL, grantee)
        told = pubsub.get_message(timeout=10)
    assert told is not None
    assert told["data"].decode() == member_of(grantee)


def test_revoking_takes_the_grant_and_tells_every_node(
    publisher: Publisher, server: redis.Redis, keys: Keys, granted
):
    publisher.grant(CHANNEL, "u")
    # The first one of a client also tries whether it may.
    publisher.revoke(CHANNEL, "nobody")
    with listening(server, keys.control) as pubsub:
        assert publisher.revoke(CHANNEL, "u")
        told = pubsub.get_message(timeout=10)
        assert not publisher.revoke(CHANNEL, "u")
        assert pubsub.get_message(timeout=10)
    assert told is not None
    assert decode(told["data"]) == GrantRevoked(CHANNEL, "u")
    assert not granted("u")


@pytest.mark.parametrize(("user", "everybody"), [(60, 600), (600, 60)])
def test_of_two_grants_the_one_that_ends_last_counts(
    publisher: Publisher, granted, user: int, everybody: int
):
    publisher.grant(CHANNEL, "u", user)
    publisher.grant(CHANNEL, EVERYBODY, everybody)
    assert 590_000 < granted("u") <= 600_000
    publisher.grant(CHANNEL, "u", None)
    assert granted("u") == GRANTED_FOR_EVER


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [(None, 60, True), (600, 60, True), (60, 600, False), (60, None, False), (None, None, False)],
)
def test_nodes_are_told_of_a_grant_that_ends_sooner_than_before(
    publisher: Publisher,
    server: redis.Redis,
    keys: Keys,
    before: int | None,
    after: int | None,
    told: bool,
):
    # The first grant of a client also tries whether it may tell them.
    publisher.grant(CHANNEL, "u", before)
    with listening(server, keys.control) as pubsub:
        publisher.grant(CHANNEL, "u", after)
        if not told:  # in a cluster it might overtake what another server tells
            server.publish(keys.control, b"nothing else came")
        first = pubsub.get_message(timeout=10)
    assert first is not None
    if told:
        assert decode(first["data"]) == GrantRevoked(CHANNEL, "u")
    else:
        assert first["data"] == b"nothing else came"


@pytest.mark.parametrize("user", ["v", EVERYBODY, "*"])
def test_a_grant_that_cannot_let_the_user_in_is_refused(
    publisher: Publisher, server: redis.Redis, keys: Keys, user: Grantee
):
    with pytest.raises(GrantWithoutEffect, match="only the user whose id is") as caught:
        publisher.grant("notifications/u", user)
    assert (caught.value.channel, caught.value.owner) == ("notifications/u", "user")
    assert not server.exists(keys.grant("notifications/u"))


def test_a_grant_of_what_the_rule_allows_anyway_is_no_mistake(
    publisher: Publisher, announce: Announce
):
    publisher.grant("notifications/u", "u")
    announce(Namespace("run-results", Owner.ANYONE))
    publisher.grant(CHANNEL, "u")
    publisher.run_result("s", stdout="", stderr="", exit_code=0, duration=0, user="u")


def test_what_revoking_cannot_end_is_refused(publisher: Publisher, announce: Announce):
    with pytest.raises(GrantWithoutEffect, match="only the user whose id is"):
        publisher.revoke("notifications/u", "u")
    assert publisher.revoke("notifications/u", "v") is False
    announce(Namespace("news", Owner.ANYONE))
    for user in ("u", EVERYBODY):
        with pytest.raises(GrantWithoutEffect, match="every authenticated user may"):
            publisher.revoke("news/1", user)


def test_a_rule_that_has_just_been_changed_is_asked_for_before_a_grant_is_refused(
    publisher: Publisher, announce: Announce, granted
):
    announce(Namespace("run-results", Owner.USER))
    with pytest.raises(GrantWithoutEffect):
        publisher.grant(CHANNEL, "u")
    announce(Namespace("run-results", Owner.GRANT))
    publisher.grant(CHANNEL, "u")
    assert granted("u")


def test_a_grant_can_be_taken_back_in_a_namespace_that_no_gateway_has(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    server.zadd(keys.grant("gone/1"), {"u": 2**52})
    assert publisher.revoke("gone/1", "u")


async def test_the_asyncio_client_grants_and_revokes(async_publisher: AsyncPublisher, granted):
    await async_publisher.grant(CHANNEL, "u")
    assert granted("u")
    assert await async_publisher.revoke(CHANNEL, "u") is True
    assert await async_publisher.revoke(CHANNEL, "u") is False


def test_connections_are_those_whose_lease_runs_on_nodes_that_live(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    later = int(time.time() * 1000) + 60_000
    server.zadd(keys.nodes, {"node-1": later, "host/2": later, "killed": 1})
    places = {"node-1/a": later, "host/2/b": later + 1, "node-1/c": 1, "killed/d": later}
    server.zadd(keys.connections("u"), places)
    assert publisher.connections("u") == [
        Connection("node-1", "a", later),
        Connection("host/2", "b", later + 1),
    ]
    assert publisher.connections("nobody") == []
