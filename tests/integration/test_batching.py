"""Calls over a pipeline's own connection: together, in order, within their time, and told truthfully when not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis.asyncio
from pydantic import SecretStr

from gateway.backplane.place_table import PlaceTable
from gateway.backplane.places import PlaceEvents, Places
from gateway.backplane.store import GrantReader, LogReader, Positions
from gateway.credentials import make_topology
from gateway.node.opener import Opener
from gateway.node.ports import Claim
from gateway.node.stats import Stats
from gateway.node.tasks import Tasks
from gateway.settings import Settings
from publisher.contract import scripts
from publisher.contract.calls import Call, Reply
from publisher.contract.keys import Keys
from publisher.errors import Rejected, Unavailable
from publisher.transport import pipeline as batching
from publisher.transport.connection import MAX_UNDER_WAY, Commands
from publisher.transport.pipeline import Pipeline
from tests.faults.proxy import Proxy
from tests.support.redis_server import RedisServer, free_port
from tests.support.tokens import SECRET
from tests.support.waiting import until

PING = Call(("PING",))
TIMEOUT = 0.5

_LATER = (Call(("XREAD", "BLOCK", 300, "STREAMS", "none", "$")), PING)
"""Redis answers the first, and what comes behind it, after 0.3 s; also where it is a replica."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis whose scripts and role these tests may change."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def admin(server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(port=server.port) as client:
        yield client


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[Proxy]:
    """The way to it."""
    proxy = Proxy(server.port)
    await proxy.start()
    async with contextlib.aclosing(proxy):
        yield proxy


@pytest.fixture
async def pipeline(proxy: Proxy) -> AsyncIterator[Pipeline]:
    """One that has a connection."""
    pipeline = batcher_at(f"redis://127.0.0.1:{proxy.port}", 5.0)
    await pipeline.call(PING)
    async with contextlib.aclosing(pipeline):
        yield pipeline


@pytest.fixture
async def hasty(proxy: Proxy) -> AsyncIterator[Pipeline]:
    """One that has a connection, and does not wait long."""
    pipeline = batcher_at(f"redis://127.0.0.1:{proxy.port}", TIMEOUT)
    await pipeline.call(PING)
    async with contextlib.aclosing(pipeline):
        yield pipeline


def batcher_at(url: str, timeout: float) -> Pipeline:
    settings = Settings(redis_url=SecretStr(url), jwt_secret=SecretStr(SECRET))
    return Pipeline(make_topology(settings).for_loop(), Stats(), timeout)


def connection_of(pipeline: Pipeline) -> Commands:
    assert pipeline._commands is not None
    return pipeline._commands


class Counting:
    """A transport that counts the writes, and the calls that are under way at most."""

    def __init__(self, commands: Commands) -> None:
        self._transport: Any = commands.transport
        self._under_way = commands.under_way
        self.writes = 0
        self.most = 0
        commands.transport = self  # type: ignore[assignment]

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.most = max(self.most, len(self._under_way))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def outcomes(*answers: asyncio.Future[Reply]) -> list[tuple[str, bool]]:
    """The reasons of calls that failed, and whether they may have been carried out."""
    errors = await asyncio.gather(*answers, return_exceptions=True)
    assert all(isinstance(error, Unavailable) for error in errors), errors
    return [(error.reason, error.maybe_sent) for error in errors]  # type: ignore[union-attr]


# -- together ---------------------------------------------------------------------------------


async def test_what_handshakes_and_subscribes_of_one_turn_ask_is_one_write(
    pipeline: Pipeline, prefix: str
) -> None:
    keys = Keys(prefix)
    table = PlaceTable(keys, "n", 5, 60.0)

    async def look(_of_whom: object) -> None:
        raise AssertionError("nobody is at the limit")

    events = PlaceEvents(look, print, print)
    places = Places(pipeline, pipeline, table, events, Tasks(), lambda: 0.0)
    positions = Positions(pipeline, keys, {}, lambda: 0.0)
    history = LogReader(pipeline, keys, positions, Opener(None, Stats(), {}, time.time), Stats())
    grants = GrantReader(pipeline, keys, Stats())
    await asyncio.gather(
        places.acquire(Claim("u", "c")),
        history.read("a/b", "u", None, 9),
        grants.remaining("a/b", "u"),
    )
    counting = Counting(connection_of(pipeline))
    received = connection_of(pipeline).received
    answers = await asyncio.gather(
        *(places.acquire(Claim(f"u{number}", f"c{number}")) for number in range(300)),
        *(history.read(f"notifications/u{number}", "u", None, 9) for number in range(300)),
        *(grants.remaining(f"run-results/s{number}", "u") for number in range(300)),
    )
    assert all(isinstance(each, int) for each in answers[:300])
    assert answers[600:] == [False] * 300
    assert counting.writes == 1
    assert connection_of(pipeline).received - received <= 20


async def test_what_comes_turn_after_turn_gathers(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "_GATHERING_SECONDS", 60.0)
    counting = Counting(connection_of(pipeline))
    answers = []
    for _turn in range(10):
        answers += [pipeline.begin(PING) for _ in range(3)]
        await asyncio.sleep(0)
    await asyncio.gather(*answers)
    assert counting.writes == 1


async def test_what_comes_turn_after_turn_gathers_for_a_moment_only(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "_GATHERING_SECONDS", 0.02)
    first = pipeline.begin(PING)
    async with asyncio.timeout(2):
        while not first.done():
            pipeline.begin(PING)
            await asyncio.sleep(0)
    assert await first == b"PONG"


async def test_a_crowd_is_answered_in_order_with_few_writes_and_a_bound_on_what_is_under_way(
    pipeline: Pipeline, proxy: Proxy
) -> None:
    proxy.down.bytes_per_second = 60_000.0  # the replies trickle in
    counting = Counting(connection_of(pipeline))
    answers = [pipeline.begin(Call(("ECHO", str(number)))) for number in range(5 * MAX_UNDER_WAY)]
    assert await asyncio.gather(*answers) == [b"%d" % n for n in range(5 * MAX_UNDER_WAY)]
    assert counting.most == MAX_UNDER_WAY
    assert counting.writes <= 2 * 5


async def test_calls_cost_no_task_and_no_timer_each(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    timers = []
    call_at = loop.call_at

    def counting(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(arguments)
        return call_at(*arguments, **options)

    monkeypatch.setattr(loop, "call_at", counting)
    tasks = asyncio.all_tasks()
    answers = [pipeline.begin(PING) for _ in range(500)]
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    assert not timers  # the one for the first call is still there
    await asyncio.gather(*answers)


# -- scripts and errors -----------------------------------------------------------------------


async def test_a_script_that_redis_does_not_know_is_sent_whole(
    pipeline: Pipeline, admin: redis.asyncio.Redis, prefix: str
) -> None:
    await admin.script_flush()
    granted = Call.run(scripts.GRANTED, [Keys(prefix).grant("a/b")], "u")
    answers = await asyncio.gather(
        *(pipeline.call(call) for call in (granted, PING, granted, PING) for _ in range(50))
    )
    assert answers == ([0] * 50 + [b"PONG"] * 50) * 2
    assert pipeline._stats.redis_errors == 0
    assert await admin.script_exists(scripts.GRANTED.sha) == [True]


async def calls_of(admin: redis.asyncio.Redis, command: str) -> int:
    found = (await admin.info("commandstats")).get(f"cmdstat_{command}", {})
    return int(found.get("calls", 0))


async def test_of_many_calls_of_a_script_few_bring_its_text(
    pipeline: Pipeline, admin: redis.asyncio.Redis, prefix: str
) -> None:
    """Redis takes three times as long for a text as for its hash: in the storm after a failover for each client."""
    granted = Call.run(scripts.GRANTED, [Keys(prefix).grant("a/b")], "u")
    await admin.config_resetstat()
    for forgets in (False, True):
        if forgets:
            await admin.script_flush()
        assert await asyncio.gather(*(pipeline.call(granted) for _ in range(500))) == [0] * 500
    # One for each read that brings refusals.
    assert 2 <= await calls_of(admin, "eval") <= 20


async def test_an_error_answers_its_own_call_is_counted_and_logged_once(
    pipeline: Pipeline, admin: redis.asyncio.Redis, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    await admin.set(prefix, "no sorted set")
    wrong = [pipeline.begin(Call(("ZADD", prefix, 1, "u"))) for _ in range(3)]
    right = pipeline.begin(PING)
    assert {each[1] for each in await outcomes(*wrong)} == {False}
    assert await right == b"PONG"
    assert pipeline._stats.redis_errors == 3
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage().startswith("redis_error reason=WRONGTYPE ")


async def test_what_redis_repeats_of_a_call_is_told_to_nobody(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    [(reason, maybe_sent)] = await outcomes(pipeline.begin(Call(("NOSUCH", "s3cr3t"))))
    assert "NOSUCH" in reason
    assert not maybe_sent
    assert "s3cr3t" not in reason + caplog.text


async def test_a_primary_that_has_become_a_replica_is_looked_for_anew(
    pipeline: Pipeline, admin: redis.asyncio.Redis, prefix: str
) -> None:
    first = connection_of(pipeline)
    await admin.replicaof("127.0.0.1", free_port())
    try:
        [(reason, maybe_sent)] = await outcomes(pipeline.begin(Call(("SET", prefix, 1))))
    finally:
        await admin.replicaof("NO", "ONE")
    assert reason.startswith("READONLY ")
    assert not maybe_sent
    assert await pipeline.call(Call(("SET", prefix, 1))) == b"OK"
    assert connection_of(pipeline) is not first
    await asyncio.wait_for(first.lost, 1)


async def test_what_else_a_primary_has_that_became_a_replica_is_answered_before_its_connection_ends(
    pipeline: Pipeline, admin: redis.asyncio.Redis, prefix: str
) -> None:
    """Nothing of it is left in doubt, and what comes next goes over another connection."""
    first = connection_of(pipeline)
    await admin.replicaof("127.0.0.1", free_port())
    try:
        calls = (Call(("SET", prefix, 1)), *_LATER, Call(("SET", prefix, 2)))
        refused, *later, refused_later = map(pipeline.begin, calls)
        assert [maybe_sent for _, maybe_sent in await outcomes(refused)] == [False]
        assert await pipeline.call(PING) == b"PONG"
        assert connection_of(pipeline) is not first
        assert [each.done() for each in later] == [False, False]
        assert await asyncio.gather(*later) == [None, b"PONG"]
        assert [maybe_sent for _, maybe_sent in await outcomes(refused_later)] == [False]
    finally:
        await admin.replicaof("NO", "ONE")
    await asyncio.wait_for(first.lost, 1)


async def test_it_is_waited_for_no_longer_than_any_call(
    hasty: Pipeline, admin: redis.asyncio.Redis, proxy: Proxy, prefix: str
) -> None:
    first = connection_of(hasty)
    await admin.replicaof("127.0.0.1", free_port())
    try:
        refused, *later = map(hasty.begin, (Call(("SET", prefix, 1)), *_LATER))
        await outcomes(refused)
        proxy.links[0].down.freeze()
        assert await outcomes(*later) == [("no answer in time", True)] * 2
    finally:
        await admin.replicaof("NO", "ONE")
    await asyncio.wait_for(first.lost, 1)


async def test_a_connection_that_is_logged_in_no_more_is_made_anew(
    server: RedisServer, admin: redis.asyncio.Redis
) -> None:
    await admin.config_set("requirepass", "s3cr3t")
    pipeline = batcher_at(f"redis://:s3cr3t@127.0.0.1:{server.port}", 5.0)
    async with contextlib.aclosing(pipeline):
        assert await pipeline.call(Call(("RESET",))) == b"RESET"
        [(reason, maybe_sent)] = await outcomes(pipeline.begin(PING))
        assert "authentication failed" in reason
        assert not maybe_sent
        assert await pipeline.call(PING) == b"PONG"
    await admin.config_set("requirepass", "")


async def test_a_permanent_error_is_told_from_one_that_passes(
    pipeline: Pipeline, admin: redis.asyncio.Redis, prefix: str
) -> None:
    await admin.set(prefix, "no sorted set")
    with pytest.raises(Rejected, match="WRONGTYPE") as caught:
        await pipeline.call(Call(("ZADD", prefix, 1, "u")))
    assert not caught.value.retryable
    await admin.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(Unavailable, match="NOREPLICAS") as passing:
            await pipeline.call(Call(("SET", prefix, 1)))
    finally:
        await admin.config_set("min-replicas-to-write", 0)
    assert passing.value.retryable


# -- time -------------------------------------------------------------------------------------


async def test_what_is_not_answered_in_time_may_have_been_carried_out(
    hasty: Pipeline, proxy: Proxy
) -> None:
    loop, first = asyncio.get_running_loop(), connection_of(hasty)
    proxy.links[0].down.freeze()  # for ever: only another connection helps
    asked_at = loop.time()
    assert await outcomes(hasty.begin(PING), hasty.begin(PING)) == [("no answer in time", True)] * 2
    assert TIMEOUT - 0.05 <= loop.time() - asked_at < 2 * TIMEOUT
    assert await hasty.call(PING) == b"PONG"
    assert connection_of(hasty) is not first
    await asyncio.wait_for(first.lost, 1)


async def test_a_slow_redis_that_answers_keeps_its_connection_and_its_calls_fail_one_by_one(
    hasty: Pipeline, proxy: Proxy
) -> None:
    """A call's own time, in the queue or not, ends that call only."""
    first = connection_of(hasty)
    # PONG is 7 bytes: some 200 replies a second, so that the last of 2,000 would take ten seconds.
    proxy.down.bytes_per_second = 1_400.0
    await hasty.call(PING)  # the proxy reads so little at a time from the next reply on
    answers = [hasty.begin(PING) for _ in range(2 * MAX_UNDER_WAY)]
    done = await asyncio.gather(*answers, return_exceptions=True)
    assert done.count(b"PONG") >= 10
    late = [each for each in done if isinstance(each, Unavailable)]
    assert {each.maybe_sent for each in late} == {True, False}
    assert connection_of(hasty) is first
    assert not first.transport.is_closing()
    proxy.down.bytes_per_second = None
    await until(lambda: not hasty.under_way)
    assert await hasty.call(PING) == b"PONG"


async def test_what_waits_behind_too_much_has_not_been_carried_out(
    hasty: Pipeline, proxy: Proxy
) -> None:
    proxy.down.freeze()
    answers = [hasty.begin(PING) for _ in range(2 * MAX_UNDER_WAY)]
    written = [("no answer in time", True)] * MAX_UNDER_WAY
    assert await outcomes(*answers[:MAX_UNDER_WAY]) == written
    waiting = await outcomes(*answers[MAX_UNDER_WAY:])
    assert {maybe_sent for _, maybe_sent in waiting} == {False}


async def test_a_call_that_finds_no_room_in_its_time_is_told_why(
    hasty: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publisher.transport.connection.MAX_UNDER_WAY", 0)
    assert await outcomes(hasty.begin(PING)) == [("too many calls are waiting", False)]


async def test_a_connection_that_does_not_come_about_costs_each_call_no_more_than_its_time(
    proxy: Proxy,
) -> None:
    loop = asyncio.get_running_loop()
    proxy.up.freeze()
    hasty = batcher_at(f"redis://127.0.0.1:{proxy.port}", TIMEOUT)
    async with contextlib.aclosing(hasty):
        asked_at = loop.time()
        early = hasty.begin(PING)
        await until(lambda: proxy.links)
        late = hasty.begin(PING)
        assert {maybe_sent for _, maybe_sent in await outcomes(early, late)} == {False}
        assert loop.time() - asked_at < 2 * TIMEOUT
        proxy.up.thaw()
        assert await hasty.call(PING) == b"PONG"


async def test_a_redis_that_refuses_is_told_at_once_to_all_who_wait(
    pipeline: Pipeline, proxy: Proxy
) -> None:
    proxy.refuse()
    await until(lambda: pipeline._commands is None)
    async with asyncio.timeout(1):
        for _ in range(3):
            refused = await outcomes(*(pipeline.begin(PING) for _ in range(2 * MAX_UNDER_WAY)))
            assert {maybe_sent for _, maybe_sent in refused} == {False}
    await proxy.start()
    assert await pipeline.call(PING) == b"PONG"


async def test_a_connection_that_breaks_fails_what_is_under_way_and_nothing_else(
    pipeline: Pipeline, proxy: Proxy
) -> None:
    proxy.links[0].down.freeze()
    lost = pipeline.begin(PING)
    await until(lambda: pipeline.under_way)
    proxy.cut()
    assert await outcomes(lost) == [("connection lost", True)]
    assert await pipeline.call(PING) == b"PONG"


async def test_what_is_asked_while_the_connection_closes_goes_over_the_next(
    pipeline: Pipeline,
) -> None:
    connection_of(pipeline).transport.close()
    assert await pipeline.call(PING) == b"PONG"


async def test_after_a_reply_that_nobody_asked_for_none_is_taken_for_anothers(
    pipeline: Pipeline,
) -> None:
    first = connection_of(pipeline)
    first.transport.write(b"*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n")
    await first.lost
    assert await pipeline.call(PING) == b"PONG"


async def test_an_idle_connection_in_doubt_is_given_up_and_a_busy_one_is_not(
    pipeline: Pipeline, proxy: Proxy
) -> None:
    first = connection_of(pipeline)
    proxy.down.freeze()
    answer = pipeline.begin(PING)
    await until(lambda: pipeline.under_way)
    pipeline.drop_if_idle()
    proxy.down.thaw()
    assert await answer == b"PONG"
    pipeline.drop_if_idle()
    assert first.transport.is_closing()
    assert await pipeline.call(PING) == b"PONG"


async def test_trouble_is_told(proxy: Proxy, hasty: Pipeline) -> None:
    told = []
    hasty._troubled = lambda: told.append(1)
    proxy.refuse()
    await until(lambda: hasty._commands is None)
    assert not told  # nobody has missed anything
    await outcomes(hasty.begin(PING))
    assert len(told) == hasty._stats.redis_errors == 1


# -- those who ask ----------------------------------------------------------------------------


async def test_who_does_not_wait_any_more_confuses_nobody(
    pipeline: Pipeline, admin: redis.asyncio.Redis, prefix: str
) -> None:
    unsent = asyncio.create_task(pipeline.call(Call(("INCR", prefix))))
    await asyncio.sleep(0)
    unsent.cancel()
    connection_of(pipeline).transport.pause_reading()
    answers = [pipeline.begin(Call(("ECHO", str(number)))) for number in range(9)]
    await until(lambda: pipeline.under_way)
    for answer in answers[::2]:
        answer.cancel()
    connection_of(pipeline).transport.resume_reading()
    assert await asyncio.gather(*answers[1::2]) == [b"1", b"3", b"5", b"7"]
    assert await pipeline.call(PING) == b"PONG"
    assert await admin.get(prefix) is None


async def test_the_end_fails_what_is_not_answered_and_leaves_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publisher.transport.connection.MAX_UNDER_WAY", 1)
    tasks = asyncio.all_tasks()
    pipeline = batcher_at(server.url, 5.0)
    await pipeline.call(PING)
    connection_of(pipeline).transport.pause_reading()
    written = pipeline.begin(PING)
    await until(lambda: pipeline.under_way)
    waiting = pipeline.begin(PING)
    await pipeline.aclose()
    late = pipeline.begin(PING)
    maybe_sent = [each[1] for each in await outcomes(written, waiting, late)]
    assert maybe_sent == [True, False, False]
    assert asyncio.all_tasks() == tasks
