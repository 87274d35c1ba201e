# ruff: noqa: T201 - a program that prints what it has measured
"""What the presence of many costs Redis and a node, in CPU time and bytes: ``python -m tests.bench.presence``.

One node with all the users, without their sockets: its writer and its reader against a Redis of its own. They are in one channel, or
each has a channel of their own.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import redis

from gateway.backplane.presence import PresenceTable, PresenceWriter
from gateway.backplane.presence_reader import PresenceReader
from gateway.backplane.redis_connections import connections
from gateway.core import protocol
from gateway.node.presence import PresentUsers
from gateway.node.stats import Stats
from gateway.node.tasks import Tasks
from publisher.contract.channels import Namespace, Presence, parse_channel
from publisher.contract.keys import Keys
from publisher.transport.topology import asyncio_topology
from tests.bench.measuring import cpu_seconds
from tests.bench.world import PREFIX, own_redis

USERS: Final = 10_000
CHANNELS: Final = 20_000
"""Of one user each."""
ROUNDS: Final = 10
ROOM: Final = parse_channel("rooms/all")


class Cost(NamedTuple):
    """Milliseconds of CPU of the node and of Redis, and the bytes on the way to Redis and back; of one round."""

    node: float
    redis: float
    sent: float
    answered: float


class Bench:
    """A writer and a reader, and the Redis that is theirs.

    Args:
        url: of that Redis.
        pids: its processes.
        announce: whether the namespace announces who joins and leaves.
    """

    def __init__(self, url: str, pids: list[int], *, announce: bool) -> None:
        self._pids = pids
        self._looking = redis.Redis.from_url(url)
        presence = Presence(announce=announce, max_members=USERS)
        namespaces = {"rooms": Namespace("rooms", presence=presence)}
        self._tasks = Tasks()
        self.connections = connections(
            asyncio_topology(url), Stats(), 30.0, lambda: None, self._tasks, random.random
        )
        keys, calls = Keys(PREFIX), self.connections.calls
        self.writer = PresenceWriter(
            calls, PresenceTable(keys, "node", 10, namespaces), random.random, Stats()
        )
        self.reader = PresenceReader(
            calls, keys, "another", PresentUsers(namespaces, _ignore, Stats())
        )

    def _bytes(self) -> tuple[int, int]:
        told = self._looking.info("stats")
        return told["total_net_input_bytes"], told["total_net_output_bytes"]

    async def cost(self, work: Callable[[], Awaitable[object]], rounds: int = ROUNDS) -> Cost:
        """What a round of ``work`` costs."""
        own = self._bytes()
        looking = [after - before for before, after in zip(own, self._bytes(), strict=True)]
        before, of_redis, of_node = self._bytes(), cpu_seconds(self._pids), time.process_time()
        for _ in range(rounds):
            await work()
        node, used = time.process_time() - of_node, cpu_seconds(self._pids) - of_redis
        went = [b - a - c for a, b, c in zip(before, self._bytes(), looking, strict=True)]
        return Cost(node * 1e3 / rounds, used * 1e3 / rounds, went[0] / rounds, went[1] / rounds)

    async def renew(self) -> None:
        """Renew the leases of all users."""
        self.writer.renew()
        await self.writer.flush()

    async def change(self) -> None:
        """One user comes, and leaves."""
        for step in (self.writer.present.enter, self.writer.present.leave):
            step(ROOM, "one-more")
            await self.writer.flush()

    async def answer(self) -> None:
        """Read who is there, and make the answer for all who have asked."""
        users = await self.reader.users(ROOM.name)
        assert len(users) == USERS
        protocol.presence(ROOM.name, users[:1_000], len(users))

    async def aclose(self) -> None:
        """End it."""
        await self._tasks.aclose()
        await self.connections.aclose()
        self._looking.close()


def _ignore(_channel: str, _user: str) -> None:
    pass


def _print(what: str, cost: Cost) -> None:
    print(
        f"{what}: node {cost.node:.1f} ms, Redis {cost.redis:.1f} ms, "
        f"{cost.sent / 1e3:.0f} kB to Redis, {cost.answered / 1e3:.0f} kB back"
    )


async def _measure(*, announce: bool) -> None:
    with own_redis() as server:
        bench = Bench(server.url, list(server.pids), announce=announce)
        try:
            print(f"{USERS} users of one node, {'announced' if announce else 'not announced'}")
            for number in range(USERS):
                bench.writer.present.enter(ROOM, f"user-{number:08}")
            _print("all come", await bench.cost(bench.writer.flush, 1))
            _print("leases renewed", await bench.cost(bench.renew))
            if announce:
                bench.writer.present.leave(ROOM, "user-00000000")
            _print("one comes and leaves", await bench.cost(bench.change))
            if not announce:
                _print("one answer", await bench.cost(bench.answer))
        finally:
            await bench.aclose()


async def _measure_channels(*, announce: bool) -> None:
    with own_redis() as server:
        bench = Bench(server.url, list(server.pids), announce=announce)
        try:
            print(f"{CHANNELS} channels, {'announced' if announce else 'not announced'}")
            for number in range(CHANNELS):
                channel = parse_channel(f"rooms/{number:08}")
                bench.writer.present.enter(channel, f"user-{number:08}")
            _print("all come", await bench.cost(bench.writer.flush, 1))
            cost = await bench.cost(bench.renew)
            _print("leases renewed", cost)
            print(f"a channel and renewal: Redis {cost.redis * 1e3 / CHANNELS:.1f} us")
        finally:
            await bench.aclose()


def main() -> None:
    """Measure all."""
    for announce in (False, True):
        asyncio.run(_measure(announce=announce))
        asyncio.run(_measure_channels(announce=announce))


if __name__ == "__main__":
    main()
