"""Who is told who is in a channel, and when: with a Redis that answers when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.protocol import Refused
from gateway.node.connection import Connection, Subscription
from gateway.node.pacing import Pacing
from gateway.node.presence_requests import PresenceRequests
from gateway.node.tasks import Tasks
from publisher.contract.channels import Namespace, Presence, parse_channel
from publisher.errors import Rejected, Unavailable
from tests.support.waiting import until
from tests.unit.fakes import Node, RecordingSocket, make_connection
from tests.unit.wire import messages_in

ROOM = parse_channel("rooms/a")
NAMESPACES = {"rooms": Namespace("rooms", presence=Presence())}


class World:
    """One channel, and what Redis is asked about it."""

    def __init__(self) -> None:
        self.node = Node()
        self.tasks = Tasks()
        self.questions: list[asyncio.Future[list[str]]] = []
        log: Any = self
        self.requests = PresenceRequests(
            self.node.hub,
            log,
            NAMESPACES,
            Pacing(self.node.clock, self.node.stats),
            self.tasks,
            lambda: 0.0,
        )

    async def users(self, _channel: str) -> list[str]:
        question: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self.questions.append(question)
        return await question

    def member(self, id: str) -> tuple[Connection, RecordingSocket]:
        """A connection that is in the channel, and may hear it."""
        connection, socket = make_connection(id=id, user=id)
        subscription = connection.subscriptions[ROOM.name] = Subscription(connection, ROOM)
        subscription.answers = 0
        return connection, socket

    async def asked(self, count: int) -> None:
        await until(lambda: len(self.questions) == count)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.tasks.aclose()


def told(world: World, socket: RecordingSocket) -> list[Any]:
    world.node.hub.outboxes.flush()
    return messages_in(socket.received)


async def test_who_asks_while_redis_is_asked_hears_of_what_happens_after_that(world: World) -> None:
    (one, its), (other, others) = world.member("a"), world.member("b")
    world.requests.ask(one, ROOM)
    await world.asked(1)
    world.requests.ask(one, ROOM)
    world.requests.ask(other, ROOM)
    world.questions[0].set_result(["a"])
    await world.asked(2)
    assert [each["users"] for each in told(world, its)] == [["a"]]
    assert told(world, others) == []
    world.questions[1].set_result(["a", "b"])
    await until(lambda: told(world, others))
    assert [each["users"] for each in told(world, its)] == [["a"], ["a", "b"]]


async def test_nobody_is_told_while_their_access_is_in_question(world: World) -> None:
    connection, socket = world.member("a")
    subscription = connection.subscriptions[ROOM.name]
    world.requests.ask(connection, ROOM)
    await world.asked(1)
    subscription.paused = asyncio.Event()
    world.questions[0].set_result(["a"])
    await asyncio.sleep(0.2)
    assert told(world, socket) == []
    assert len(world.questions) == 1
    subscription.paused = None
    await world.asked(2)
    world.questions[1].set_result(["a", "b"])
    await until(lambda: told(world, socket))


async def test_who_leaves_meanwhile_is_not_told_who_is_there(world: World) -> None:
    connection, socket = world.member("a")
    world.requests.ask(connection, ROOM)
    await world.asked(1)
    del connection.subscriptions[ROOM.name]
    world.questions[0].set_result(["a"])
    await until(lambda: told(world, socket))
    assert [each["code"] for each in told(world, socket)] == ["not_subscribed"]
    with pytest.raises(Refused):
        world.requests.ask(connection, ROOM)


async def test_an_answer_waits_for_redis_and_ends_with_an_error_that_does_not_pass(
    world: World,
) -> None:
    connection, socket = world.member("a")
    world.requests.ask(connection, ROOM)
    await world.asked(1)
    world.questions[0].set_exception(Unavailable("cut", maybe_sent=False))
    await world.asked(2)
    assert told(world, socket) == []
    world.questions[1].set_exception(Rejected("WRONGTYPE", maybe_sent=False))
    await until(lambda: told(world, socket))
    assert [each["code"] for each in told(world, socket)] == ["internal_error"]
    await until(lambda: not world.requests._waiting)


async def test_who_owes_too_much_waits(world: World) -> None:
    (poor, its), (rich, others) = world.member("a"), world.member("b")
    poor.budget.owe(1e15)
    world.requests.ask(poor, ROOM)
    world.requests.ask(rich, ROOM)
    await world.asked(1)
    world.questions[0].set_result(["a", "b"])
    await until(lambda: told(world, others))
    assert told(world, its) == []


async def test_nothing_is_left_of_those_who_are_gone(world: World) -> None:
    connection, socket = world.member("a")
    connection.subscriptions[ROOM.name].paused = asyncio.Event()
    world.requests.ask(connection, ROOM)
    await until(lambda: world.requests._waiting)
    connection.closed = True
    await until(lambda: not world.requests._waiting)
    assert world.questions == []
    assert told(world, socket) == []
