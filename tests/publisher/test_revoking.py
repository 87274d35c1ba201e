"""What ends connections and tokens, as it stands in Redis and as it is told to the nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import redis

from publisher import AsyncPublisher, InvalidData, Publisher, Unavailable
from publisher.contract import control
from publisher.contract.control import (
    Command,
    Disconnect,
    GrantRevoked,
    TokenRevoked,
    TokensRevoked,
)
from publisher.contract.keys import Keys
from publisher.contract.revocations import DISCONNECTS_KEPT, digest_of
from publisher.contract.scripts import DISCONNECT, RENEW, REVOKE_TOKEN, REVOKE_TOKENS, Script
from tests.publisher.reply_cutter import ReplyCutter
from tests.support import topology
from tests.support.programs import leave_out

LATER = 4_000_000_000
SOON = int(time.time()) + 3_600
Heard = Callable[[], Command | None]


@pytest.fixture
def heard(redis_url: str, keys: Keys):
    """The next command that the nodes hear."""
    with topology.looking_at(redis_url) as client, client.pubsub() as pubsub:
        pubsub.subscribe(keys.control)
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"

        def next_command() -> Command | None:
            command = None
            while command is None:  # what tries the rights is no command
                command = control.decode(next_message()["data"])
            return command

        def next_message() -> Any:
            # It may return without one before its time is over.
            messages = (pubsub.get_message(timeout=1) for _ in range(20))
            message = next(filter(None, messages), None)
            assert message is not None, "nothing was heard"
            return message

        yield next_command


def now_us() -> int:
    return time.time_ns() // 1_000


def test_a_disconnect_is_told_with_its_moment_and_kept_for_nodes_that_do_not_hear_it(
    publisher_url: str, prefix: str, server: redis.Redis, keys: Keys, heard: Heard
):
    with Publisher.from_url(publisher_url, prefix=prefix, actor="ops") as publisher:
        earliest = now_us()
        publisher.disconnect('u "x"', reason="locked", connection="n1/a")
    command = heard()
    assert isinstance(command, Disconnect)
    assert earliest - 1_000_000 <= command.at <= now_us() + 1_000_000
    assert command == Disconnect('u "x"', command.at, "locked", "n1/a", "ops")
    [(entry, at)] = server.zrange(keys.disconnected('u "x"'), 0, -1, withscores=True)
    assert control.decode(control.whole(entry.partition(b":")[2], int(at))) == command
    assert 600 < server.ttl(keys.disconnected('u "x"')) <= 660


def test_a_lost_reply_to_a_disconnect_ends_nobody_who_has_come_back(
    cutter: ReplyCutter, prefix: str, server: redis.Redis, keys: Keys, heard: Heard
):
    with Publisher.from_url(cutter.url, prefix=prefix) as publisher:
        publisher.disconnect("other")
        heard()
        cutter.cut(b'disconnect","user":"u"', 2)
        publisher.disconnect("u")
    assert cutter.cut_replies == 2
    first, *others = [heard() for _ in range(3)]
    assert isinstance(first, Disconnect)
    assert not first.again
    assert others == [replace(first, again=True)] * 2  # with the moment of the first try
    assert server.zcard(keys.disconnected("u")) == 1


def test_a_disconnect_of_a_clock_that_was_ahead_ends_nobody_who_comes_afterwards(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.disconnect("u")
    names = [keys.connections("u"), keys.before("u"), keys.disconnected("u")]
    ahead = now_us() + 3_600_000_000
    server.zadd(names[2], {b"ahead:{": ahead})
    for _ in range(2):
        _, _, ended = server.eval(RENEW.text, 3, *names, 1000, 5, 900_000, "n1/", 0, "n1/a")
        assert [entry for entry in ended if entry.startswith(b"ahead")] == []
        assert len(ended) == 3  # before, and the disconnect with its moment


def test_only_the_last_disconnects_of_a_user_are_kept(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    old = now_us() - 601_000_000
    server.zadd(keys.disconnected("u"), {"old:{}": old, "young:{}": old + 60_000_000})
    publisher.disconnect("u")
    assert [each[:6] for each in server.zrange(keys.disconnected("u"), 0, 0)] == [b"young:"]
    for _ in range(DISCONNECTS_KEPT + 1):
        publisher.disconnect("u")
    assert server.zcard(keys.disconnected("u")) == DISCONNECTS_KEPT


def test_a_revoked_token_is_kept_until_no_gateway_accepts_it(
    publisher: Publisher, server: redis.Redis, keys: Keys, heard: Heard
):
    publisher.revoke_token("the-jti", LATER)
    assert heard() == TokenRevoked(digest_of("the-jti"))
    key = keys.revoked(digest_of("the-jti"))
    assert server.pexpiretime(key) == (LATER + 300) * 1000
    publisher.revoke_token("the-jti", LATER - 1_000)
    assert server.pexpiretime(key) == (LATER + 300) * 1000
    publisher.revoke_token("the-jti", datetime.fromtimestamp(LATER + 1, UTC))
    assert server.pexpiretime(key) == (LATER + 301) * 1000
    assert "the-jti" not in key


def test_a_token_that_has_just_ended_is_revoked_while_gateways_still_accept_it(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.revoke_token("t1", time.time() - 100)
    assert server.exists(keys.revoked(digest_of("t1")))


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (DISCONNECT, (b'n:{"type":"disconnect"', "control", 1000, 10)),
        (REVOKE_TOKEN, (LATER * 1000, "control", "{}")),
        (REVOKE_TOKENS, (SOON, "", "control", "{}")),
        (REVOKE_TOKENS, (SOON, LATER * 1000, "control", "{}")),
    ],
)
def test_a_second_try_writes_too_so_that_replicas_can_confirm_it(
    server: redis.Redis, keys: Keys, script: Script, arguments: tuple[Any, ...]
):
    """``WAIT`` is about what its connection has written: over another one it would count everybody at once."""
    if isinstance(server, redis.RedisCluster):
        leave_out("the writes of one server are counted")
    for _ in range(2):
        before = server.info("persistence")["rdb_changes_since_last_save"]
        server.eval(script.text, 1, keys.below("t").before("u"), *arguments)
        assert server.info("persistence")["rdb_changes_since_last_save"] > before


def test_the_time_before_which_tokens_are_revoked_moves_forward_only(
    publisher: Publisher, server: redis.Redis, keys: Keys, heard: Heard
):
    moment = datetime(2022, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    for given, kept in [(moment, b"1640995200.0"), (5, b"1640995200.0"), (1640995200.5,) * 2]:
        publisher.revoke_tokens_before("u", given)
        assert heard() == TokensRevoked("u", float(given.timestamp() if given is moment else given))
        found = server.get(keys.before("u"))
        assert found == kept or float(found) == kept
    assert server.ttl(keys.before("u")) == -1


@pytest.mark.parametrize(
    ("announced", "longest"),
    [
        ({"3600": 1, "60.5": 1}, 3600),
        ({"3600": 1, "": 1}, None),
        ({}, None),
    ],
)
def test_it_is_kept_as_long_as_a_token_may_live(
    publisher: Publisher,
    server: redis.Redis,
    keys: Keys,
    announced: dict[str, int],
    longest: int | None,
):
    for seconds, at in announced.items():
        server.hset(keys.lifetimes, seconds, f'{{"announced":{at}}}')
    publisher.revoke_tokens_before("u", SOON)
    ends = server.pexpiretime(keys.before("u"))
    assert ends == (-1 if longest is None else (SOON + longest + 600) * 1000)


def test_what_is_kept_for_ever_is_not_forgotten_because_of_a_later_limit(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.revoke_tokens_before("u", SOON)
    server.hset(keys.lifetimes, "60", "{}")
    publisher.revoke_tokens_before("u", SOON)
    assert server.ttl(keys.before("u")) == -1
    publisher.revoke_tokens_before("u", SOON + 1)  # whose tokens all live for a minute at most
    assert server.pexpiretime(keys.before("u")) == (SOON + 661) * 1000
    server.delete(keys.lifetimes)
    publisher.revoke_tokens_before("u", SOON)
    assert server.ttl(keys.before("u")) == -1


def test_grants_tell_the_nodes_who_has_acted(publisher_url: str, prefix: str, heard: Heard):
    with Publisher.from_url(publisher_url, prefix=prefix, actor="ops") as publisher:
        publisher.grant("run-results/s", "u")
        publisher.revoke("run-results/s", "u")
    assert heard() == GrantRevoked("run-results/s", "u", "ops")


def test_the_actor_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, publisher_url: str, prefix: str, heard: Heard
):
    monkeypatch.setenv("PUBLISHER_REDIS_URL", publisher_url)
    monkeypatch.setenv("PUBLISHER_REDIS_PREFIX", prefix)
    monkeypatch.setenv("PUBLISHER_ACTOR", "nightly")
    with Publisher.from_env() as publisher:
        publisher.revoke_token("t", LATER)
    assert heard() == TokenRevoked(digest_of("t"), "nightly")


async def test_the_asyncio_client_does_the_same(
    async_publisher: AsyncPublisher, server: redis.Redis, keys: Keys
):
    await async_publisher.disconnect("u")
    await async_publisher.revoke_token("t", LATER)
    await async_publisher.revoke_tokens_before("u", SOON)
    for key in (keys.disconnected("u"), keys.revoked(digest_of("t")), keys.before("u")):
        assert server.exists(key)


@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.disconnect(""),
        lambda p: p.disconnect("u", reason="x" * 501),
        lambda p: p.disconnect("u", reason="two\nlines"),
        lambda p: p.disconnect("u", connection="1"),
        lambda p: p.disconnect("u", connection="/1"),
        lambda p: p.disconnect("u", connection="n/"),
        lambda p: p.disconnect("u", connection="n/1/2"),
        lambda p: p.revoke_token("", LATER),
        lambda p: p.revoke_token("t", time.time() - 301),
        lambda p: p.revoke_token("t", LATER * 1000),
        lambda p: p.revoke_token("t", True),
        lambda p: p.revoke_token("t", float("nan")),
        lambda p: p.revoke_tokens_before("u", datetime(2026, 1, 1)),  # noqa: DTZ001 - that is what is wrong
        lambda p: p.revoke_tokens_before("u", "2026-01-01"),
        lambda p: p.revoke_tokens_before("u", -1),
        lambda p: p.revoke_tokens_before("u", time.time() + 86_500),
    ],
)
def test_what_cannot_be_meant_is_refused_and_sends_nothing(
    publisher: Publisher, server: redis.Redis, prefix: str, call: Callable[[Publisher], Any]
):
    with pytest.raises(InvalidData):
        call(publisher)
    assert not topology.names(server, f"{prefix}*")


@pytest.mark.parametrize("actor", ["a\tb", "x" * 256, 5])
def test_an_actor_is_a_short_line_of_text(publisher_url: str, actor: Any):
    with pytest.raises(InvalidData, match="actor"):
        Publisher.from_url(publisher_url, actor=actor)


@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.disconnect("u"),
        lambda p: p.revoke_token("t", LATER),
        lambda p: p.revoke_tokens_before("u", SOON),
    ],
)
def test_a_redis_that_is_down_is_told_to_the_caller(nobody: str, call: Callable[[Publisher], Any]):
    with Publisher.from_url(nobody, retries=1) as publisher, pytest.raises(Unavailable):
        call(publisher)


def test_the_scripts_write_before_they_tell():
    """A node that hears of it, and asks Redis, must find it there."""
    for script in (DISCONNECT, REVOKE_TOKEN, REVOKE_TOKENS):
        assert script.text.rindex("PUBLISH") > script.text.rindex(
            "'SET'" if "'SET'" in script.text else "ZADD"
        )
