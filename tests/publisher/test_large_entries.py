"""What is read of a log inside Redis, which serves nobody else meanwhile: no more than is asked for, however large the messages are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import redis

from publisher import Publisher
from publisher.contract import unconfirmed
from publisher.contract.calls import PAGE_BYTES, Call, read_log
from publisher.contract.keys import Keys
from publisher.contract.unconfirmed import Found
from tests.publisher.asking import ask

pytestmark = pytest.mark.one_server("its commands are listened to")

CHANNEL = "notifications/u"
LARGE = "x" * 300_000
"""More than a page has room for."""


@pytest.fixture
def asked(server: redis.Redis, keys: Keys) -> Callable[[Call], tuple[Any, list[int]]]:
    """Carries a call out; returns its reply, and for each read of the log how many entries were asked for."""

    def run(call: Call) -> tuple[Any, list[int]]:
        ask(server, [call])  # so that the script is known
        with server.monitor() as monitor:
            (reply,) = ask(server, [call])
            server.echo("end")
            sizes = []
            while "ECHO" not in (command := monitor.next_command()["command"]):
                if command.startswith(f"ZRANGEBYSCORE {keys.log(CHANNEL)} "):
                    limit = re.search(r"LIMIT \d+ (\d+)$", command)
                    assert limit is not None
                    sizes.append(int(limit[1]))
        return reply, sizes

    return run


def test_of_large_messages_a_page_reads_few(
    publisher: Publisher, keys: Keys, asked: Callable[[Call], tuple[Any, list[int]]]
) -> None:
    for _ in range(20):
        publisher.publish(CHANNEL, LARGE)
    (_, _, *entries), sizes = asked(read_log(keys, CHANNEL, "u", 0, 100))
    assert len(entries) == 1
    assert sum(sizes) <= 4


@pytest.mark.parametrize(("count", "reads"), [(3, 1), (100, 8)])
def test_small_ones_take_few_reads(
    publisher: Publisher,
    keys: Keys,
    asked: Callable[[Call], tuple[Any, list[int]]],
    count: int,
    reads: int,
) -> None:
    publisher.publish_many([(CHANNEL, number) for number in range(count)])
    (_, _, *entries), sizes = asked(read_log(keys, CHANNEL, "u", 0, 100))
    assert len(entries) == count
    assert len(sizes) <= reads


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 20, 21])
def test_a_page_has_as_many_as_are_asked_for(
    publisher: Publisher, keys: Keys, server: redis.Redis, limit: int
) -> None:
    outcomes = publisher.publish_many([(CHANNEL, number) for number in range(21)])
    ((_, _, *entries),) = ask(server, [read_log(keys, CHANNEL, "u", 0, limit)])
    ids = [int(each.partition(b":")[0]) for each in entries]
    assert ids == [each.id for each in outcomes][:limit]  # type: ignore[union-attr]


def test_a_page_ends_where_it_has_no_more_room(
    publisher: Publisher, keys: Keys, server: redis.Redis
) -> None:
    some = "x" * (PAGE_BYTES // 10)
    publisher.publish_many([(CHANNEL, each) for each in ["small"] * 5 + [some] * 20])
    ((_, _, *entries),) = ask(server, [read_log(keys, CHANNEL, "u", 0, 100)])
    assert len(entries) == 5 + 10


def test_large_messages_that_nobody_confirms_are_looked_at_a_few_at_a_time(
    publisher: Publisher, keys: Keys, asked: Callable[[Call], tuple[Any, list[int]]]
) -> None:
    ids = [publisher.publish(CHANNEL, LARGE).id for _ in range(3)]
    ids += [publisher.publish(CHANNEL, number).id for number in range(40)]
    found: list[int] = []
    first, looks = ids[0], 0
    while True:
        reply, sizes = asked(unconfirmed.find(keys, CHANNEL, first, 0))
        found += map(int, Found.parse(reply).ids)
        looks += 1
        assert sum(sizes) <= (32 if looks > 3 else 1)
        rest = Found.parse(reply).rest
        if rest is None:
            break
        first = rest
    assert found == ids
    assert looks == 3 + 2
