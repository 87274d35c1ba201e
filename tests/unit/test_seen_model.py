"""What users have confirmed, against a model: never more than arrived, never backwards, and in the end all of it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.backplane.store import Positions
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Connection, Subscription
from gateway.node.timings import Timings
from publisher.contract import scripts
from publisher.contract.calls import Call
from publisher.contract.channels import Namespace, Owner, Retention
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from tests.unit.fakes import NEWS, FakeClock, make_connection, run
from tests.unit.wire import PING, frames_in

NAMESPACES = {"news": Namespace("news", Owner.ANYONE, Retention(100, 60))}
USERS = ("ann", "ben")


class Redis:
    """Notes what is confirmed unless it is away, and goes away between any two commands."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.lifetimes = 0
        self.answers = 0
        """How many commands it still answers."""

    def begin(self, call: Call) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._answer(call))

    async def _answer(self, call: Call) -> None:
        await asyncio.sleep(0)
        if not self.answers:
            raise Unavailable("away", maybe_sent=True)
        self.answers -= 1
        assert call.script is scripts.CONFIRM
        names = int(call.arguments[0])
        _lifetime, *arguments = call.arguments[1 + names :]
        for id_, user in zip(arguments[::2], arguments[1::2], strict=True):
            self.seen[str(user)] = max(self.seen.get(str(user), 0), int(id_))
        self.lifetimes = len(self.seen)


class Bench:
    def __init__(self) -> None:
        self.redis = Redis()
        self.clock = FakeClock()
        self.positions = Positions(self.redis, Keys(), NAMESPACES, lambda: 1.0)  # type: ignore[arg-type]
        self.confirmation = Confirmation(self.positions, NAMESPACES, self.clock, 1.0, Timings())
        self.clients = [self.client(user) for user in (*USERS, "ann")]
        self.wires: list[deque[bytes | int]] = [deque() for _ in self.clients]
        self.arrived = [0] * len(self.clients)
        self.proven = dict.fromkeys(USERS, 0)
        self.published = 0

    @staticmethod
    def client(user: str) -> Connection:
        client = make_connection(user=user)[0]
        client.subscriptions[NEWS.name] = Subscription(client, NEWS)
        return client

    def publish(self) -> None:
        self.published += 2
        for client in self.clients:
            client.subscriptions[NEWS.name].position = self.published
        question = self.confirmation.sent(NEWS.name, self.published)
        for wire in self.wires:
            wire.append(self.published)
            if question:
                wire.append(question)

    def later(self) -> None:
        self.clock.now += 0.6
        for wire in self.wires:
            self.confirmation.tick(lambda _channel, ping, wire=wire: wire.append(ping))

    def take(self, number: int) -> None:
        """The client takes the next thing from its wire, and answers a ping."""
        if not self.wires[number]:
            return
        match self.wires[number].popleft():
            case int(id_):
                self.arrived[number] = id_
            case ping:
                [frame] = frames_in(ping)
                assert frame.opcode == PING
                self._prove(number, int(frame.payload.partition(b":")[2]))
                self.confirmation.pong(self.clients[number], frame.payload)

    def ack(self, number: int) -> None:
        self._prove(number, self.arrived[number])
        self.confirmation.confirm(self.clients[number], NEWS.name, self.arrived[number])

    def _prove(self, number: int, upto: int) -> None:
        assert upto <= self.arrived[number], "asked about what had not been sent"
        user = self.clients[number].user
        self.proven[user] = max(self.proven[user], upto)

    async def write(self) -> None:
        try:
            await self.positions.flush()
        except Unavailable:
            assert not self.redis.answers


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["publish", "later", "take", "take", "take", "ack", "write", "away", "half", "back"]
        ),
        st.integers(0, 2),
    ),
    min_size=30,
    max_size=80,
)


@settings(max_examples=200)
@given(STEPS)
def test_what_is_seen_is_what_was_proven(steps: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        bench = Bench()
        before: dict[str, int] = {}
        for step, number in steps:
            match step:
                case "take" | "ack":
                    getattr(bench, step)(number)
                case "write":
                    await bench.write()
                case "away" | "half" | "back":
                    bench.redis.answers = {"away": 0, "half": 1, "back": 1_000}[step]
                case _:
                    getattr(bench, step)()
            for user, id_ in bench.redis.seen.items():
                assert before.get(user, 0) <= id_ <= bench.proven[user]
            before = dict(bench.redis.seen)
        bench.redis.answers = 1_000
        await bench.write()
        assert {user: bench.redis.seen.get(user, 0) for user in USERS} == bench.proven
        assert bench.redis.lifetimes == len(bench.redis.seen)

    run(scenario())
