"""``publish_many`` of large messages: a round trip, and the memory, are bounded in bytes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from publisher import AsyncPublisher, InvalidChannel, Outgoing, Published, Publisher, Unavailable
from publisher.intake import BATCH_BYTES
from tests.faults.proxy import Proxy
from tests.publisher.reply_cutter import ReplyCutter

CHANNEL = "notifications/u"
MEGABYTE = 1_000_000


@pytest.mark.one_server("sentinels would lead past the proxy before it")
async def test_a_slow_line_takes_as_many_as_a_fast_one(redis_url: str, prefix: str):
    """Two fifths of 500 messages of 200 KB, in two fifths of the default timeout, at 100 Mbit/s."""
    proxy = Proxy(urlsplit(redis_url).port or 6379)
    await proxy.start()
    try:
        proxy.up.bytes_per_second = 12_500_000
        url = f"redis://127.0.0.1:{proxy.port}"
        async with AsyncPublisher.from_url(url, prefix=prefix, timeout=2, retries=0) as publisher:
            outcomes = await publisher.publish_many([(CHANNEL, "x" * 200_000)] * 200)
    finally:
        await proxy.aclose()
    assert [type(each) for each in outcomes] == [Published] * 200


def test_of_many_large_messages_few_exist_as_json_at_a_time(publisher: Publisher):
    publisher.publish(CHANNEL, 1)

    def messages() -> Iterator[tuple[str, list[str]]]:
        # Not one string: for that orjson takes eight times its length, and uses a part of it.
        return ((CHANNEL, ["x" * 97] * 10_000) for _ in range(60))

    tracemalloc.start()
    try:
        outcomes = publisher.publish_many(messages())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [type(each) for each in outcomes] == [Published] * 60
    # The JSON of a round trip, as it is and as it is sent.
    assert peak <= 8 * BATCH_BYTES


def test_all_are_checked_also_when_redis_is_gone(prefix: str):
    with Publisher.from_url("redis://127.0.0.1:1", prefix=prefix, retries=0) as publisher:
        messages = [Outgoing(CHANNEL, "x" * MEGABYTE)] * 5 + [Outgoing("nonsense", 1)]
        outcomes = publisher.publish_many(messages)
    assert [type(each) for each in outcomes] == [Unavailable] * 5 + [InvalidChannel]
    assert not any(each.maybe_sent for each in outcomes if isinstance(each, Unavailable))


def test_order_and_outcomes_hold_over_many_round_trips_with_a_lost_one(
    cutter: ReplyCutter, prefix: str, publisher: Publisher
):
    with Publisher.from_url(cutter.url, prefix=prefix) as hindered:
        hindered.publish("run-results/other", 0)
        cutter.cut(b"x" * 100)
        sizes = [1, 900_000, 1, 900_000, 900_000, 1, 1, 900_000]
        messages = [(CHANNEL, f"{n}{'x' * size}") for n, size in enumerate(sizes)]
        outcomes = hindered.publish_many([*messages[:3], ("no", 1), *messages[3:]])
    ids = [each.id for each in outcomes if isinstance(each, Published)]
    history = publisher.history(CHANNEL)
    assert [entry.id for entry in history] == ids
    assert [entry.data[0] for entry in history] == list("01234567")


@pytest.mark.parametrize("size", [1, MEGABYTE])
def test_what_a_generator_raises_comes_after_those_before_it_are_sent(
    publisher: Publisher, size: int
):
    def messages() -> Iterator[tuple[str, str]]:
        for _ in range(3):
            yield CHANNEL, "x" * size
        raise LookupError

    with pytest.raises(LookupError):
        publisher.publish_many(messages())
    assert len(publisher.history(CHANNEL)) == 3
