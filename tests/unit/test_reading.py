"""Whether a client is read from: for each reason as long as it lasts, and those who have sent a lot share the turns."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.web.reading import SECONDS_PER_TURN, Reading, Reason, Turns
from tests.unit.fakes import FakeClock, run, turn

A_TURN = 3
"""Bytes of a client that are served in a turn."""


class Transport:
    def __init__(self) -> None:
        self.reads = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return False


class Client:
    """What it sent and was served; each turn of it takes so many seconds."""

    def __init__(self, turns: Turns, clock: FakeClock, seconds: float = 0.0) -> None:
        self.transport = Transport()
        self.served = b""
        self._clock = clock
        self._seconds = seconds
        self.reading = Reading(cast(Any, self.transport), self.feed, turns)

    def feed(self, data: bytes) -> int:
        self._clock.now += self._seconds
        self.served += data[:A_TURN]
        return max(0, len(data) - A_TURN)

    def receive(self, data: bytes) -> None:
        assert self.transport.reads
        if left := self.feed(data):
            self.reading.keep(data, len(data) - left)


async def test_what_is_left_is_served_in_order_and_nothing_is_read_meanwhile() -> None:
    clock = FakeClock()
    client = Client(Turns(clock), clock)
    client.receive(b"0123456789")
    for served in (b"012", b"012345", b"012345678"):
        assert client.served == served
        assert not client.transport.reads
        await turn()
    assert client.served == b"0123456789"
    assert client.transport.reads


async def test_those_who_have_sent_a_lot_share_a_part_of_each_turn() -> None:
    clock = FakeClock()
    turns = Turns(clock)
    clients = [Client(turns, clock, SECONDS_PER_TURN / 4) for _ in range(10)]
    for client in clients:
        client.receive(b"x" * 30)
    for _ in range(5):
        before = clock.now
        await turn()
        assert clock.now - before <= SECONDS_PER_TURN * 1.3
    # Twenty were served: each client twice, whoever came first.
    assert {len(client.served) for client in clients} == {3 * A_TURN}


async def test_what_a_client_that_is_gone_has_sent_is_dropped() -> None:
    clock = FakeClock()
    client = Client(Turns(clock), clock)
    client.receive(b"0123456789")
    client.reading.release()
    await turn()
    await turn()
    assert client.served == b"012"


async def test_nothing_more_is_served_of_a_flood() -> None:
    clock = FakeClock()
    client = Client(Turns(clock), clock)
    client.receive(b"0123456789")
    client.reading.pause(Reason.FLOOD)
    client.reading.keep(b"more", 0)
    for _ in range(5):
        await turn()
    assert client.served == b"012"
    assert not client.transport.reads


async def test_one_that_cannot_be_served_does_not_keep_the_others_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    turns = Turns(clock)
    broken, client = Client(turns, clock), Client(turns, clock)
    broken.receive(b"0123456789")
    client.receive(b"0123456789")
    broken.transport.resume_reading = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    for _ in range(5):
        await turn()
    assert client.served == b"0123456789"
    assert client.transport.reads
    assert "turn_failed" in caplog.text


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["receive", "congested", "drained", "turn"]), max_size=30))
def test_a_client_is_read_from_exactly_while_there_is_no_reason_not_to(steps: list[str]) -> None:
    async def live() -> None:
        clock = FakeClock()
        client = Client(Turns(clock), clock)
        sent, congested = b"", False
        for number, step in enumerate(steps):
            match step:
                case "receive" if client.transport.reads:
                    data = b"%07d" % number
                    sent += data
                    client.receive(data)
                case "congested":
                    congested = True
                    client.reading.pause(Reason.CONGESTED)
                case "drained":
                    congested = False
                    client.reading.resume(Reason.CONGESTED)
                case _:
                    before = client.served
                    await turn()
                    assert not congested or client.served == before
            assert sent.startswith(client.served)
            assert client.transport.reads == (not congested and client.served == sent)
        client.reading.resume(Reason.CONGESTED)
        for _ in range(5):
            await turn()
        assert client.served == sent
        assert client.transport.reads

    run(live())


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_that_was_none_may_go(reason: Reason) -> None:
    clock = FakeClock()
    client = Client(Turns(clock), clock)
    client.reading.resume(reason)
    assert client.transport.reads


async def test_what_was_read_of_a_client_that_floods_is_not_kept_until_its_connection_is_gone() -> (
    None
):
    clock = FakeClock()
    client = Client(Turns(clock), clock)
    client.receive(b"0123456789")
    client.reading.pause(Reason.FLOOD)
    assert client.reading._unserved == b""
    await turn()
    assert client.served == b"012"
