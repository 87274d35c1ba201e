"""Reading that is put off for a moment, and for a turn, over a real transport of either event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.backplane.pubsub import READ_BYTES_PER_TURN, ModeratedReader
from gateway.backplane.read_turn import ReadTurn
from tests.support.waiting import until
from tests.unit.conftest import Run
from tests.unit.fakes import FakeClock

MOMENT = 0.05


class Line:
    """What a reader has read, and when; and the other end, which writes."""

    def __init__(self, other: socket.socket, clock: FakeClock) -> None:
        self._other = other
        self.clock = clock
        self.read: list[bytes] = []
        self.at: list[float] = []
        self.turn = ReadTurn()
        self.reader: ModeratedReader

    def handle(self, reply: bytes) -> None:
        self.read.append(reply)
        self.at.append(asyncio.get_running_loop().time())

    def say(self, *words: bytes) -> None:
        self._other.sendall(b"".join(b"+%b\r\n" % word for word in words))

    async def hear(self, count: int) -> None:
        """Wait until so many words have been read."""
        await until(lambda: len(self.read) >= count)

    def hang_up(self) -> None:
        self._other.close()

    @property
    def transport(self) -> asyncio.Transport:
        return self.reader.transport


@contextlib.asynccontextmanager
async def line(moment: float) -> AsyncIterator[Line]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)  # who is not read must not wait for ever
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    line = Line(theirs, FakeClock())
    line.reader = ModeratedReader(transport, line.handle, moment, line.clock, line.turn)
    with theirs:
        yield line
    transport.abort()
    await line.reader.lost


def test_a_message_that_comes_alone_is_read_at_once(run: Run) -> None:
    async def work() -> None:
        async with line(60.0) as the:
            for number in range(3):
                the.say(b"alone")
                await the.hear(number + 1)
                assert the.transport.is_reading()
                the.clock.now += 2 * 60.0

    run(work())


def test_messages_in_quick_succession_are_read_together_a_moment_later(run: Run) -> None:
    async def work() -> None:
        async with line(MOMENT) as the:
            the.say(b"first")
            await the.hear(1)
            the.clock.now += MOMENT / 10
            the.say(b"second")
            await the.hear(2)
            assert not the.transport.is_reading()
            reads = the.reader.received
            for word in (b"third", b"fourth", b"fifth"):
                the.say(word)
                await asyncio.sleep(0)
            assert len(the.read) == 2
            await the.hear(5)
            assert the.reader.received == reads + 1
            assert the.at[2] - the.at[1] >= MOMENT / 2  # the loop's clock may lag behind its reads
            assert the.read == [b"first", b"second", b"third", b"fourth", b"fifth"]

    run(work())


def test_messages_of_which_a_moment_brings_few_are_read_at_once(run: Run) -> None:
    async def work() -> None:
        async with line(60.0) as the:
            for number in range(20):
                the.say(b"one of four in a moment")
                await the.hear(number + 1)
                assert the.transport.is_reading()
                the.clock.now += 60.0 / 4

    run(work())


@pytest.mark.parametrize(("brought", "goes_on"), [(3, False), (30, True)])
def test_what_a_moment_has_brought_decides_whether_another_is_waited_for(
    run: Run, brought: int, goes_on: bool
) -> None:
    async def work() -> None:
        async with line(MOMENT) as the:
            the.reader.data_received(b"+first\r\n")
            the.reader.data_received(b"+second\r\n")
            assert not the.transport.is_reading()
            await until(the.transport.is_reading)
            the.clock.now += MOMENT
            the.reader.data_received(b"+more\r\n" * brought)
            assert the.transport.is_reading() is not goes_on

    run(work())


def test_the_moment_begins_before_what_came_is_written(run: Run) -> None:
    """Else each moment would be longer by the writing, and by more the more there is."""

    async def work() -> None:
        async with line(MOMENT) as the:
            paused: list[bool] = []

            def note(reply: bytes) -> None:
                the.turn.call_soon(lambda: paused.append(not the.transport.is_reading()))

            the.reader = ModeratedReader(the.transport, note, MOMENT, the.clock, the.turn)
            the.reader.data_received(b"+first\r\n")
            the.reader.data_received(b"+second\r\n")
            assert paused == [False, True]

    run(work())


def test_after_a_quiet_while_nothing_is_put_off_any_more(run: Run) -> None:
    async def work() -> None:
        async with line(MOMENT) as the:
            for _ in range(2):
                the.say(b"quick")
                await the.hear(len(the.read) + 1)
            assert not the.transport.is_reading()
            await until(the.transport.is_reading)
            the.clock.now += 2 * MOMENT
            the.say(b"later")
            await the.hear(3)
            assert the.transport.is_reading()

    run(work())


def test_without_a_moment_nothing_is_put_off(run: Run) -> None:
    async def work() -> None:
        async with line(0.0) as the:
            for number in range(20):
                the.say(b"quick")
                await the.hear(number + 1)
                assert the.transport.is_reading()

    run(work())


@pytest.mark.parametrize("moment", [0.0, 0.001])
def test_much_at_once_is_read_whole_and_in_order(run: Run, moment: float) -> None:
    async def work() -> None:
        async with line(moment) as the:
            words = [b"%d" % number + b"x" * (READ_BYTES_PER_TURN // 8) for number in range(64)]
            sending = asyncio.create_task(asyncio.to_thread(the.say, *words))
            await the.hear(64)
            await sending
            assert the.read == words

    run(work())


def test_a_large_read_is_followed_by_a_turn_for_the_others(run: Run) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with line(0.0) as the:
            reading: list[bool] = []
            whole = b"+" + b"x" * READ_BYTES_PER_TURN + b"\r\n"
            # As the transport calls it, so that the size of a read is the test's choice.
            loop.call_soon(the.reader.data_received, whole)
            loop.call_soon(lambda: reading.append(the.transport.is_reading()))
            await until(lambda: reading)
            assert reading == [False]
            await asyncio.sleep(0)
            assert the.transport.is_reading()
            the.say(b"more")
            await the.hear(2)

    run(work())


@pytest.mark.parametrize("pause", ["for a moment", "for a turn"])
@pytest.mark.parametrize("end", ["close", "abort"])
def test_closing_while_it_is_put_off_is_harmless(run: Run, pause: str, end: str) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        errors: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _loop, context: errors.append(context))
        async with line(MOMENT) as the:
            the.reader.data_received(
                b"+1\r\n"
                if pause == "for a moment"
                else b"+" + b"x" * READ_BYTES_PER_TURN + b"\r\n"
            )
            the.reader.data_received(b"+2\r\n")
            assert not the.transport.is_reading()
            getattr(the.transport, end)()
            await the.reader.lost
            await asyncio.sleep(2 * MOMENT)  # until it would have been resumed
        assert errors == []

    run(work())


def test_an_end_that_comes_while_it_is_put_off_is_noticed(run: Run) -> None:
    async def work() -> None:
        async with line(MOMENT) as the:
            the.say(b"1")
            await the.hear(1)
            the.say(b"2")
            await the.hear(2)
            assert not the.transport.is_reading()
            the.say(b"3")
            the.hang_up()
            await asyncio.wait_for(the.reader.lost, 5)
            assert the.read == [b"1", b"2", b"3"]

    run(work())


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("words", [1, READ_BYTES_PER_TURN // 4])
def test_a_handler_that_ends_the_connection_is_harmless(run: Run, end: str, words: int) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        errors: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _loop, context: errors.append(context))
        async with line(MOMENT) as the:
            the.say(b"1")
            await the.hear(1)
            the.reader._handle = lambda _reply: getattr(the.transport, end)()
            sending = asyncio.create_task(asyncio.to_thread(the.say, *[b"2"] * words))
            await the.reader.lost
            await asyncio.gather(sending, return_exceptions=True)
        assert errors == []

    run(work())
