"""What a node measures, and what that costs."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from itertools import pairwise

import pytest

from gateway.core.frames import Encoding
from gateway.metrics import NodeCollector
from gateway.node import timings
from gateway.node.outboxes import WRITES_PER_TURN
from gateway.node.timings import BOUNDS, Histogram, RedisClock, Timings
from tests.unit.fakes import NEWS, FakeClock, Node, make_connection, payload, turn

AHEAD = 1_700_000_000.0
"""Seconds by which the clock of Redis is ahead of the node's."""


def informed(node: Node) -> Node:
    """Let the node know what time it is by Redis."""
    node.stats.timings.redis_clock.learn(round((node.clock.now + AHEAD) * 1e6), node.clock.now)
    return node


def id_now(node: Node) -> int:
    """The id of a message that is published now."""
    return round((node.clock.now + AHEAD) * 1e6)


def observed(histogram: Histogram) -> tuple[int, float]:
    return sum(histogram.counts), pytest.approx(histogram.total, abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.0005, 0), (0.0006, 1), (60.0, 15), (61.0, 16)]
)
def test_a_duration_counts_in_the_bucket_that_ends_with_it(seconds: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert [index for index, count in enumerate(histogram.counts) if count] == [bucket]
    assert all(less < more for less, more in pairwise(BOUNDS))


def test_the_answer_that_came_fastest_says_what_time_it_is() -> None:
    clock = FakeClock(10.0)
    redis = RedisClock(clock)
    assert redis.age(1) is None
    clock.now = 10.2
    redis.learn(1_000_100_000, 10.0)  # 1000.1 s at 10.1
    clock.now = 12.0
    redis.learn(1_005_000_000, 11.0)  # slower, and so not believed
    assert redis.age(1_001_000_000) == pytest.approx(1.0)
    clock.now = 13.02
    redis.learn(1_004_010_000, 13.0)  # faster: 1004.01 s at 13.01
    assert redis.age(1_004_000_000) == pytest.approx(0.02)
    assert redis.age(9_000_000_000) == 0.0


def test_a_clock_that_was_set_is_believed_after_some_answers() -> None:
    clock = FakeClock(10.0)
    redis = RedisClock(clock)
    redis.learn(1_000_000_000, 10.0)
    for _ in range(timings._ANSWERS):
        asked, clock.now = clock.now, clock.now + 0.01
        redis.learn(2_000_000_000, asked)
    assert redis.age(1_999_000_000) == pytest.approx(1.005)


async def test_what_is_written_is_measured_from_the_oldest_message_of_the_turn() -> None:
    node = informed(Node())
    client = make_connection()[0]
    node.listen(client)
    node.listen(client, "news/other")
    first = id_now(node)
    node.clock.now += 0.25
    node.hub.receive(NEWS.name, payload(first))
    node.hub.receive(NEWS.name, payload(id_now(node), first))
    node.hub.receive("news/other", payload(id_now(node)))
    await turn()
    assert observed(node.stats.timings.publish_to_write) == (1, 0.25)


async def test_a_burst_over_several_turns_is_measured_to_its_last_write() -> None:
    node = informed(Node())
    for number in range(WRITES_PER_TURN + 1):
        node.listen(make_connection(id=str(number))[0])
    node.hub.receive(NEWS.name, payload(id_now(node)))
    await turn()
    assert observed(node.stats.timings.publish_to_write) == (0, 0)
    node.clock.now += 0.5
    await turn()
    assert observed(node.stats.timings.publish_to_write) == (1, 0.5)


async def test_nothing_is_measured_before_redis_has_told_its_time() -> None:
    node = Node()
    node.listen(make_connection()[0])
    node.hub.receive(NEWS.name, payload(1))
    await turn()
    assert observed(node.stats.timings.publish_to_write) == (0, 0)


async def test_a_confirmation_counts_if_its_user_was_there_when_it_was_published() -> None:
    node = informed(Node())
    client, _socket = make_connection()
    node.listen(client)
    published = id_now(node)
    node.hub.receive(NEWS.name, payload(published))
    node.hub.receive(NEWS.name, payload(published + 1, published))
    node.clock.now += 2.0
    node.confirmation.confirm(client, NEWS.name, published)
    node.confirmation.confirm(client, NEWS.name, published)  # told again
    assert observed(node.stats.timings.publish_to_confirmation) == (1, 2.0)
    client.entered_at = id_now(node)
    node.confirmation.confirm(client, NEWS.name, published + 1)
    assert observed(node.stats.timings.publish_to_confirmation) == (1, 2.0)


async def test_bytes_are_counted_as_they_are_written() -> None:
    node = Node()
    first, plain = make_connection()
    second, squeezed = make_connection(Encoding(15, False), id="c2")
    for client in (first, second):
        node.listen(client)
    node.hub.receive(NEWS.name, payload(1, 0, b'"%b"' % (b"x" * 2_000)))
    node.hub.flush_to(first)
    await turn()
    assert node.stats.socket_bytes == len(plain.received) + len(squeezed.received)
    assert node.stats.compression.before > 2_000
    assert node.stats.compression.after < 200


async def test_a_message_leaves_no_object_behind_for_what_is_measured() -> None:
    node = informed(Node())
    node.listen(make_connection()[0])
    held = []
    for _ in range(2):
        gc.collect()
        tracemalloc.start()
        for _ in range(500):
            id_ = id_now(node)
            node.clock.now += 0.001
            node.hub.receive(NEWS.name, payload(id_, None))
            node.hub.outboxes.flush()
        snapshot = tracemalloc.take_snapshot()
        tracemalloc.stop()
        here = snapshot.filter_traces([tracemalloc.Filter(True, timings.__file__)])
        held.append(sum(stat.count for stat in here.statistics("filename")))
    assert sum(node.stats.timings.publish_to_write.counts) == 1_000
    # A counter, the sum and the last age, each in place of the one before.
    assert held[-1] < 10


async def test_without_a_clock_the_event_loops_is_used() -> None:
    before = asyncio.get_running_loop().time()
    assert before <= Timings().clock() <= before + 60


def test_the_exposition_of_a_histogram_is_cumulative() -> None:
    node = Node()
    for seconds in (0.0001, 0.003, 0.003, 100.0):
        node.stats.timings.handshake["token"].observe(seconds)
    collector = NodeCollector(node.hub, node.stats, lambda: True, 1, lambda: {"a:1": False})
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in collector.collect()
        for sample in family.samples
    }
    name, phase = "gateway_handshake_seconds", ("phase", "token")
    assert samples[f"{name}_bucket", ("le", "0.0025"), phase] == 1
    assert samples[f"{name}_bucket", ("le", "0.005"), phase] == 3
    assert samples[f"{name}_bucket", ("le", "60.0"), phase] == 3
    assert samples[f"{name}_bucket", ("le", "+Inf"), phase] == 4
    assert samples[f"{name}_count", phase] == 4
    assert samples[f"{name}_sum", phase] == pytest.approx(100.0061)
    assert samples["gateway_redis_primary_up", ("server", "a:1")] == 0
