"""Messages with a time to live, as they stand in Redis and in the history."""

from __future__ import annotations

import pytest
import redis

from publisher import AsyncPublisher, InvalidData, Outgoing, Publisher
from publisher.contract.channels import Namespace, Owner
from publisher.contract.keys import Keys
from publisher.contract.message import decode
from publisher.preflight import Preflight
from tests.publisher.announcing import Announce

CHANNEL = "run-results/s"
KEYS = "a:" + 43 * "A" + "="


def data(publisher: Publisher) -> list[object]:
    return [entry.data for entry in publisher.history(CHANNEL)]


def let_pass(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the history be read so much later."""
    now = Preflight.now
    monkeypatch.setattr(Preflight, "now", lambda self: now(self) + int(seconds * 1_000_000))


@pytest.mark.parametrize("encryption_keys", [None, KEYS])
def test_the_history_leaves_out_whose_time_is_over(
    publisher_url: str, prefix: str, encryption_keys: str | None, monkeypatch: pytest.MonkeyPatch
):
    with Publisher.from_url(
        publisher_url, prefix=prefix, encryption_keys=encryption_keys
    ) as publisher:
        publisher.publish(CHANNEL, "short", ttl=5)
        publisher.publish_many([Outgoing(CHANNEL, "long", ttl=60), (CHANNEL, "kept")])
        assert data(publisher) == ["short", "long", "kept"]
        let_pass(monkeypatch, 6)
        assert data(publisher) == ["long", "kept"]
        let_pass(monkeypatch, 60)
        assert data(publisher) == ["kept"]


async def test_the_entry_says_how_long_it_counts(
    async_publisher: AsyncPublisher, server: redis.Redis, keys: Keys
):
    await async_publisher.publish(CHANNEL, 1, ttl=7, idempotency_key="k")
    again = await async_publisher.publish(CHANNEL, 1, ttl=9, idempotency_key="k")
    assert again.duplicate
    (entry,) = server.zrange(keys.log(CHANNEL), 0, -1)
    assert decode(entry).extension == b"t7"


def test_one_that_is_sealed_says_both(
    publisher_url: str, prefix: str, server: redis.Redis, keys: Keys, announce: Announce
):
    announce(Namespace("run-results", encrypted=True))
    with Publisher.from_url(publisher_url, prefix=prefix, encryption_keys=KEYS) as publisher:
        publisher.publish(CHANNEL, "secret", ttl=7)
        assert data(publisher) == ["secret"]
    (entry,) = server.zrange(keys.log(CHANNEL), 0, -1)
    assert decode(entry).extension.startswith(b"t7,e1.a.")
    assert b"secret" not in entry


def test_one_may_be_deleted_and_collapsed_as_any_other(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    sent = publisher.publish(CHANNEL, 1, ttl=60, collapse_key="a")
    publisher.publish(CHANNEL, 2, ttl=60, collapse_key="a")
    assert data(publisher) == [2]
    assert not publisher.delete(CHANNEL, sent.id)
    assert decode(server.zrange(keys.removed(CHANNEL), 0, 0)[0]).removed


@pytest.mark.parametrize("ttl", [0, -1, 1.5, "5", True, 1_000_000_001])
def test_what_is_no_time_to_live_is_refused(publisher: Publisher, ttl: object):
    with pytest.raises(InvalidData, match="ttl"):
        publisher.publish(CHANNEL, 1, ttl=ttl)  # type: ignore[arg-type]


async def test_it_needs_a_log(async_publisher: AsyncPublisher, announce: Announce):
    announce(Namespace("ticker", Owner.ANYONE, None))
    with pytest.raises(InvalidData, match="ttl needs a log"):
        await async_publisher.publish("ticker/x", 1, ttl=5)
