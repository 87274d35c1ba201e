"""Who asks a cluster for its map, and whom, where several want it or some do not answer."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from redis.exceptions import ResponseError

from publisher import AsyncPublisher, Unavailable
from publisher.transport.cluster import DOUBTED_SECONDS, LEAST_SECONDS, SLOTS, Cluster, Map, Slots
from publisher.transport.redis_py import Connector
from tests.support.scripted_servers import two_servers
from tests.support.waiting import until

A, B, C = ("a", 1), ("b", 2), ("c", 3)


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def known(now: list[float]) -> Map:
    known = Map(Cluster((A,), Connector(object, {}, 1)), lambda: now[0])
    known.slots = Slots([(0, 8_191, A), (8_192, SLOTS - 2, B), (SLOTS - 1, SLOTS - 1, C)])
    return known


def test_while_one_asks_the_others_go_on_with_what_is_known(known: Map, now: list[float]):
    assert known.stale
    search = known.look()
    next(search)
    assert not known.stale
    now[0] += 0.2
    assert not known.stale
    # Unless something more has happened.
    known.doubt()
    assert known.stale


def test_what_is_doubted_while_the_map_is_on_its_way_is_asked_for_again(
    known: Map, now: list[float]
):
    search = known.look()
    next(search)
    known.doubt(B)
    with pytest.raises(StopIteration):
        search.send(known.slots)
    assert not known.stale
    now[0] += 0.1
    assert known.stale


def test_a_server_is_doubted_until_it_answers_itself_or_for_a_while(known: Map, now: list[float]):
    known.doubt(A)
    search = known.look()
    asked = next(search)
    assert asked != A
    with pytest.raises(StopIteration):
        search.send(known.slots)
    assert known.owner(None) == B
    now[0] += DOUBTED_SECONDS
    assert known.owner(None) == A
    known.doubt(A)
    known.doubt(B)
    known.doubt(C)
    assert known.owner(None) == A
    search = known.look()
    assert next(search) == C
    with pytest.raises(StopIteration):
        search.send(known.slots)
    assert known.owner(None) == C


@pytest.mark.parametrize("others", [True, False], ids=["others answer", "it answers itself"])
def test_what_is_said_of_the_same_server_again_and_again_is_asked_about_ever_more_seldom(
    others: bool, now: list[float]
):
    known = Map(Cluster((A,), Connector(object, {}, 1)), lambda: now[0], longest=1.0)
    known.slots = Slots([(0, 8_191, A), (8_192, SLOTS - 1, B if others else A)])

    def asked_at(seconds: float) -> list[float]:
        """When the map is asked for while something is said against A all the time."""
        moments, begun = [], now[0]
        while now[0] < begun + seconds:
            known.doubt(A)
            if known.stale:
                moments.append(round(now[0] - begun, 2))
                answer(known)
            now[0] += 0.01
        return moments

    first = asked_at(10)
    pauses = [after - before for before, after in pairwise(first)]
    assert pauses[0] <= 0.21
    assert pauses[:4] == sorted(pauses[:4])
    assert all(0.99 < each < 1.02 for each in pauses[3:])
    assert len(first) < 14
    # Something new: another server, a slot that has moved, an error that leads elsewhere.
    known.doubt(C)
    assert asked_at(0.5)[0] <= 0.11
    asked_at(10)
    known.hear(ResponseError("MOVED 7 c:3"), A)
    assert asked_at(0.5)[0] <= 0.11


def answer(known: Map) -> None:
    """Let the first that is asked for the map tell the one that is known."""
    search = known.look()
    next(search)
    assert known.slots is not None
    with pytest.raises(StopIteration):
        search.send(known.slots.copy())


def test_a_publisher_asks_for_as_long_as_it_is_told_of_trouble(known: Map, now: list[float]):
    for _ in range(20):
        known.doubt(A)
        assert known.stale
        answer(known)
        now[0] += LEAST_SECONDS


def test_a_primary_is_one_as_long_as_it_has_a_slot(known: Map):
    slots = known.slots
    assert slots is not None
    assert slots.move(SLOTS - 1, A)
    assert slots.primaries == (A, B)
    twin = slots.copy()
    assert twin.move(5, C)
    assert set(twin.primaries) == {A, B, C}
    assert slots.primaries == (A, B)
    assert twin.move(5, B)
    assert set(twin.primaries) == {A, B}


async def test_who_waits_for_the_map_is_told_when_the_publisher_is_closed():
    async with two_servers() as (first, _):
        first.knows_map = False
        publisher = AsyncPublisher.from_url(
            f"redis+cluster://127.0.0.1:{first.host[1]}", retries=0, timeout=5.0
        )
        waiting = [asyncio.create_task(publisher.ping()) for _ in range(3)]
        await until(lambda: first.asked)
        await publisher.aclose()
        for each in waiting:
            with pytest.raises(Unavailable):
                await each


async def test_many_calls_ask_for_the_map_once():
    async with two_servers() as (first, second):
        url = f"redis+cluster://127.0.0.1:{first.host[1]}"
        first.answer = second.answer = lambda _command, _asking: b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n"
        async with AsyncPublisher.from_url(url) as publisher:
            await asyncio.gather(*(publisher.ping() for _ in range(50)))
            await asyncio.gather(*(publisher.ping() for _ in range(50)))
        assert first.asked + second.asked == 1
