"""Messages that are to be published later, as they stand in Redis."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from publisher import AsyncPublisher, InvalidData, Outgoing, Publisher, Retention, UnknownNamespace
from publisher.contract.calls import Call
from publisher.contract.channels import Namespace, Owner
from publisher.contract.keys import Keys
from publisher.contract.scheduling import Planned
from publisher.contract.scripts import DUE, SCHEDULE
from tests.publisher.announcing import Announce
from tests.publisher.asking import ask
from tests.publisher.reply_cutter import ReplyCutter
from tests.support import topology

CHANNEL = "run-results/s"
LATER = 4_000_000_000


def look(
    server: topology.Looking,
    keys: Keys,
    node: str = "n",
    most: int = 16,
    again: int = 0,
    room: int = 1_000_000,
) -> list[Any]:
    """As a node looks: ms until it looks again, and what it has taken, which is handed out ``again`` after so many ms."""
    names = [keys.scheduled, keys.scheduled_publishing, keys.scheduled_taker]
    names.append(keys.scheduled_message(""))
    (reply,) = ask(server, [Call.run(DUE, names, node, 60_000, most, 1000, again, room)])
    assert not isinstance(reply, Exception), reply
    milliseconds, *told = reply
    _, _, left, taken = told or (0, None, [], [])
    for identifier, message in zip(taken[::2], taken[1::2], strict=True):
        assert message == server.get(keys.scheduled_message(identifier.decode()))
    return [milliseconds, *map(bytes.decode, [*left, *taken[::2]])]


def waiting(server: topology.Looking, keys: Keys) -> list[str]:
    return [each.decode() for each in server.zrange(keys.scheduled, 0, -1)]


def test_a_message_waits_for_its_moment_and_is_in_no_history(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    at = datetime.now(UTC) + timedelta(days=1)
    scheduled = publisher.publish(CHANNEL, {"a": 1}, at=at)
    assert scheduled.channel == CHANNEL
    assert publisher.scheduled(scheduled.id) == scheduled
    assert abs(scheduled.at - at.timestamp()) < 0.002
    assert publisher.history(CHANNEL) == []
    assert server.zscore(keys.scheduled, scheduled.id) == int(at.timestamp() * 1000)
    planned = Planned.decode(server.get(keys.scheduled_message(scheduled.id)))
    assert (planned.channel, planned.body) == (CHANNEL, b'{"a":1}')
    assert server.ttl(keys.scheduled_message(scheduled.id)) == -1
    assert look(server, keys) == [1000]


async def test_a_cancelled_message_leaves_nothing(
    async_publisher: AsyncPublisher, server: redis.Redis, keys: Keys
):
    scheduled = await async_publisher.publish(CHANNEL, 1, at=LATER)
    assert await async_publisher.scheduled(scheduled.id) == scheduled
    assert await async_publisher.cancel(scheduled)
    assert await async_publisher.scheduled(scheduled.id) is None
    assert not await async_publisher.cancel(scheduled.id)
    # It is known for a minute, so that a try of its schedule that comes late is known, too.
    (left,) = topology.names(server, f"{keys.prefix}:{{scheduled}}*")
    assert 0 < server.ttl(left) <= 60


def test_what_is_due_is_taken_once_and_cannot_be_cancelled(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    past = [publisher.publish(CHANNEL, n, at=time.time() - 9 + n) for n in range(3)]
    future = publisher.publish(CHANNEL, 9, at=LATER)
    assert look(server, keys, most=2) == [0, past[0].id, past[1].id]
    assert publisher.scheduled(past[0].id) is None
    assert not publisher.cancel(past[0])
    assert publisher.cancel(past[2])
    assert waiting(server, keys) == [future.id]
    # Until they are removed, they are handed out again: whoever had them may have ended.
    milliseconds, *again = look(server, keys)
    assert milliseconds == 0
    assert set(again) == {past[0].id, past[1].id}


def test_what_cannot_be_published_holds_up_nothing_else(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    stuck = [publisher.publish(CHANNEL, n, at=time.time() - 9 + n).id for n in range(3)]
    assert look(server, keys, most=2, again=60_000) == [0, *stuck[:2]]
    assert look(server, keys, most=2, again=0) == [0, stuck[2]]
    other = publisher.publish(CHANNEL, "other", at=time.time() - 1)
    assert look(server, keys, most=1) == [0, stuck[2], other.id]


def test_a_late_try_of_what_was_cancelled_schedules_nothing(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    first = publisher.publish(CHANNEL, "first", at=LATER, idempotency_key="reminder")
    names = [keys.scheduled_message(first.id), keys.scheduled, keys.scheduled_publishing]
    late = Call.run(SCHEDULE, names, first.id, str(LATER), server.get(names[0]))
    assert publisher.cancel(first)
    ask(server, [late])
    assert waiting(server, keys) == []
    assert 0 < server.ttl(names[0]) <= 60
    # A new call under the same key is another reminder.
    second = publisher.publish(CHANNEL, "second", at=LATER, idempotency_key="reminder")
    assert waiting(server, keys) == [second.id]
    assert server.ttl(names[0]) == -1
    assert b"second" in server.get(names[0])


def test_one_node_looks_at_a_time(publisher: Publisher, server: redis.Redis, keys: Keys):
    publisher.publish(CHANNEL, 1, at=time.time())
    assert len(look(server, keys, "first")) == 2
    (milliseconds,) = look(server, keys, "second")
    assert 0 < milliseconds <= 60_000
    server.delete(keys.scheduled_taker)
    assert len(look(server, keys, "second")) == 2


def test_a_node_comes_back_when_the_next_is_due(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.publish(CHANNEL, 1, at=time.time() + 0.5)
    (milliseconds,) = look(server, keys)
    assert 0 <= milliseconds <= 500


def test_what_a_node_publishes_is_what_was_asked_for(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.publish(CHANNEL, "old", collapse_key="c")
    scheduled = publisher.publish(
        CHANNEL,
        "new",
        at=1,
        idempotency_key="k",
        collapse_key="c",
        ttl=60,
        retention=Retention(5, 99),
    )
    planned = Planned.decode(server.get(keys.scheduled_message(scheduled.id)))
    for _ in range(2):  # by two nodes, one after the other
        (reply,) = ask(server, [planned.call(keys)])
        assert not isinstance(reply, Exception)
    assert [entry.data for entry in publisher.history(CHANNEL)] == ["new"]
    assert publisher.publish(CHANNEL, 1, idempotency_key="k").duplicate
    assert server.get(keys.retention(CHANNEL)).split()[1:] == [b"5", b"99"]
    (entry,) = server.zrange(keys.log(CHANNEL), -1, -1)
    assert b"+t60:" in entry


def test_in_an_encrypted_namespace_it_waits_sealed(
    publisher_url: str, prefix: str, server: redis.Redis, keys: Keys, announce: Announce
):
    announce(Namespace("run-results", encrypted=True))
    ring = "a:" + 43 * "A" + "="
    with Publisher.from_url(publisher_url, prefix=prefix, encryption_keys=ring) as publisher:
        scheduled = publisher.publish(CHANNEL, "secret\n\n", at=1)
        kept = server.get(keys.scheduled_message(scheduled.id))
        assert b"secret" not in kept
        ask(server, [Planned.decode(kept).call(keys)])
        assert [entry.data for entry in publisher.history(CHANNEL)] == ["secret\n\n"]


def test_a_second_call_with_the_same_key_is_the_first(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    first = publisher.publish(CHANNEL, "first", at=LATER, idempotency_key="k")
    second = publisher.publish(CHANNEL, "second", at=LATER + 5, idempotency_key="k")
    other = publisher.publish("run-results/t", "other", at=LATER, idempotency_key="k")
    assert second == first
    assert other.id != first.id
    assert b"first" in server.get(keys.scheduled_message(first.id))
    assert sorted(waiting(server, keys)) == sorted([first.id, other.id])


def test_a_lost_reply_schedules_once(
    cutter: ReplyCutter, prefix: str, server: redis.Redis, keys: Keys
):
    with Publisher.from_url(cutter.url, prefix=prefix) as publisher:
        cutter.cut(b'"lost"')
        scheduled = publisher.publish(CHANNEL, "lost", at=LATER)
        assert cutter.cut_replies == 1
        assert waiting(server, keys) == [scheduled.id]
        cutter.cut(scheduled.id.encode())
        assert not publisher.cancel(scheduled)  # the first try has
    assert waiting(server, keys) == []


@pytest.mark.parametrize("at", ["2030-01-31", datetime(2030, 1, 31), -1, True, float("nan"), 1e13])  # noqa: DTZ001
def test_what_is_no_moment_is_refused(publisher: Publisher, at: Any):
    with pytest.raises(InvalidData, match="at must"):
        publisher.publish(CHANNEL, 1, at=at)


@pytest.mark.parametrize("scheduled", ["", "x", 7, None, 32 * "g", b"0" * 32])
def test_what_is_no_id_is_refused(publisher: Publisher, scheduled: Any):
    with pytest.raises(InvalidData, match="no id of a scheduled message"):
        publisher.cancel(scheduled)


async def test_what_cannot_be_is_refused_now_and_not_later(
    async_publisher: AsyncPublisher, announce: Announce
):
    announce(Namespace("ticker", Owner.ANYONE, None), Namespace("run-results"))
    for channel, error, says in (
        ("ticker/x", InvalidData, "at needs a log"),
        ("unknown/x", UnknownNamespace, "unknown"),
    ):
        with pytest.raises(error, match=says):
            await async_publisher.publish(channel, 1, at=LATER)
    with pytest.raises(InvalidData, match="at or wait_confirmed"):
        await async_publisher.publish(CHANNEL, 1, at=LATER, wait_confirmed=1)  # type: ignore[call-overload]
    with pytest.raises(InvalidData, match="NaN"):
        await async_publisher.publish(CHANNEL, float("nan"), at=LATER)


def test_what_another_version_has_written_is_a_value_error():
    kept = Planned("a/b", "sk", "1 2 3 4 5", "", "k1.2+t5", b"\n1\n").encode()
    assert Planned.decode(kept).body == b"\n1\n"
    for other in (b"2" + kept[1:], b"", b"1\na/b"):
        with pytest.raises(ValueError):
            Planned.decode(other)


def test_an_outgoing_message_is_not_scheduled_with_others():
    assert "at" not in Outgoing.__dataclass_fields__


def test_of_large_messages_fewer_are_taken_together(
    publisher: Publisher, server: topology.Looking, keys: Keys
):
    for _ in range(4):
        publisher.publish(CHANNEL, "x" * 1_000, at=1)
    assert len(look(server, keys, room=1_500)) == 1 + 2
    # Of what was left unfinished as many, beside the others.
    assert len(look(server, keys, room=1_500)) == 1 + 2 + 2
    assert len(look(server, keys, room=1_500)) == 1 + 2
