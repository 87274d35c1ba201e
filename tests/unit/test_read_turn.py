"""What came together from Redis goes out together, in the turn of the event loop in which it came."""

from __future__ import annotations

import logging

import pytest

from gateway.backplane.read_turn import ReadTurn
from gateway.node.hub import Hub
from tests.unit.fakes import NEWS, Node, make_connection, payload, turn
from tests.unit.wire import messages_in


async def test_what_is_to_run_soon_runs_at_the_end_of_the_read() -> None:
    read, ran = ReadTurn(), []
    read.begin()
    read.call_soon(lambda: ran.append(1))
    assert ran == []
    read.end()
    assert ran == [1]


async def test_where_nothing_is_read_it_runs_at_the_end_of_the_turn() -> None:
    read, ran = ReadTurn(), []
    read.call_soon(lambda: ran.append(1))
    assert ran == []
    await turn()
    assert ran == [1]


async def test_what_a_callback_asks_for_waits_for_the_next_turn() -> None:
    """A burst is carried on there, so that others have their turn in between."""
    read, ran = ReadTurn(), []
    read.begin()
    read.call_soon(lambda: read.call_soon(lambda: ran.append(1)))
    read.end()
    assert ran == []
    await turn()
    assert ran == [1]


async def test_a_callback_that_fails_is_logged_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    read, ran = ReadTurn(), []
    read.begin()
    read.call_soon(lambda: next(iter([])))
    read.call_soon(lambda: ran.append(1))
    read.end()
    assert ran == [1]
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == [
        "read_turn_failed"
    ]


async def test_messages_that_came_in_one_read_leave_at_its_end_in_one_write() -> None:
    node, read = Node(), ReadTurn()
    node.hub = Hub(read.call_soon, node.confirmation, node.stats, node.hub._events, 1_024)
    client, socket = make_connection()
    node.listen(client)
    read.begin()
    for id_ in (1, 2, 3):
        node.hub.receive(NEWS.name, payload(id_, id_ - 1))
    assert socket.writes == []
    read.end()
    assert len(socket.writes) == 1
    assert [message["id"] for message in messages_in(socket.received)] == [1, 2, 3]
    await turn()
    assert len(socket.writes) == 1
