"""The pub/sub connection's bookkeeping, over a real transport whose other end is the test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from functools import partial

from gateway.backplane.pubsub import ListeningTime, ModeratedReader, Subscriber
from gateway.backplane.read_turn import ReadTurn
from gateway.node.stats import Stats
from tests.support.waiting import until
from tests.unit.fakes import FakeClock


class Other:
    """Plays Redis: hears what is sent, and says what the test wants."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.told: list[bool] = []
        self.refuses = False
        self.refused = 0

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[asyncio.Transport]:
        if self.refuses:
            self.refused += 1
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.sockets.append(theirs)
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        except asyncio.CancelledError:
            ours.close()
            theirs.close()
            raise
        try:
            yield transport
        finally:
            transport.abort()
            theirs.close()
            await asyncio.sleep(0)  # the event loop closes our end in its next turn

    async def heard(self, *words: bytes) -> None:
        """Wait until each of the words was sent, in one or more writes."""
        said = b""
        loop = asyncio.get_running_loop()
        while not all(word in said for word in words):
            said += await loop.sock_recv(self.sockets[-1], 65536)

    def answer(self, kind: bytes, name: bytes) -> None:
        self.sockets[-1].send(
            b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n:1\r\n" % (len(kind), kind, len(name), name)
        )

    def say(self, raw: bytes) -> None:
        self.sockets[-1].send(raw)

    def note_change(self, listening: bool) -> None:
        self.told.append(listening)


@contextlib.asynccontextmanager
async def subscriber(other: Other) -> AsyncIterator[Subscriber]:
    clock = FakeClock()
    it = Subscriber(
        other.connect,
        lambda: "a:1",
        partial(ModeratedReader, moment=0.0, clock=clock, turn=ReadTurn()),
        ListeningTime(clock),
        other.note_change,
        Stats(),
        lambda: 0.0,
    )
    running = asyncio.create_task(it.run())
    try:
        await until(lambda: it._protocol)
        yield it
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_connection_that_leaves_a_command_unanswered_is_given_up_with_the_next_answer() -> (
    None
):
    other = Other()
    async with subscriber(other) as it:
        first = it.listen("first", print)
        second = it.listen("second", print)
        await other.heard(b"second")
        other.answer(b"subscribe", b"second")
        await until(lambda: len(other.sockets) == 2)
        assert not first.done()
        assert not second.done()
        await other.heard(b"first", b"second")
        other.answer(b"subscribe", b"first")
        other.answer(b"subscribe", b"second")
        await asyncio.gather(first, second)


async def test_what_is_subscribed_again_waits_for_an_answer_of_its_own() -> None:
    other = Other()
    async with subscriber(other) as it:
        first = it.listen("name", print)
        it.drop("name")
        second = it.listen("name", print)
        assert first.cancelled()
        await other.heard(b"UNSUBSCRIBE")
        other.answer(b"subscribe", b"name")
        other.answer(b"unsubscribe", b"name")
        await until(lambda: it.answered == 2)
        assert not second.done()
        other.answer(b"subscribe", b"name")
        await second


async def test_a_connection_that_is_made_anew_counts_once_however_many_attempts_it_takes() -> None:
    other = Other()
    async with subscriber(other) as it:
        assert it._stats.redis_reconnects == 0
        for made_anew in range(1, 3):
            other.refuses, other.refused = True, 0
            it.rebuild()
            await until(lambda: other.refused >= 3)
            assert it._stats.redis_reconnects == made_anew - 1
            other.refuses = False
            await until(lambda: it._protocol)
            assert it._stats.redis_reconnects == made_anew


async def test_a_command_that_redis_refuses_costs_the_connection_and_is_logged_once(caplog) -> None:
    other = Other()
    async with subscriber(other) as it:
        it.listen("name", print)
        for number in range(1, 4):
            await other.heard(b"name")
            other.say(b"-NOPERM no permissions to access a channel\r\n")
            await until(lambda number=number: len(other.sockets) == number + 1)
        assert not it.connected
    warnings = [each for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].getMessage().startswith("subscriber_refused server=a:1 reason=NOPERM ")
    assert "subscriber_connected" not in caplog.text
    assert other.told == [False]


def test_only_time_in_which_the_connection_was_read_counts() -> None:
    clock = FakeClock()
    listening = ListeningTime(clock)
    began = listening.seconds

    def passed() -> float:
        return round(listening.seconds - began, 6)

    clock.now += 0.25
    listening.tick()
    assert passed() == 0.25
    listening.throttle(True)
    for _ in range(20):
        clock.now += 0.25
        listening.tick()
    assert passed() == 0.25
    clock.now += 0.1
    listening.throttle(False)
    clock.now += 0.1
    assert passed() == 0.35
    listening.tick()
    assert passed() == 0.35


def test_an_event_loop_that_stood_still_was_not_listening() -> None:
    clock = FakeClock()
    listening = ListeningTime(clock)
    before = listening.seconds
    clock.now += 60
    assert listening.seconds - before <= 0.5
    listening.tick()
    assert listening.seconds - before <= 0.5


def test_what_was_throttled_before_the_loop_stood_still_is_not_counted_either() -> None:
    clock = FakeClock()
    listening = ListeningTime(clock)
    before = listening.seconds
    listening.throttle(True)
    clock.now += 60
    assert listening.seconds == before
    listening.tick()
    assert listening.seconds == before
