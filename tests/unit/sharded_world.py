"""A cluster of primaries that only know sharded pub/sub, and a node's side of it. What is said arrives when the test says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Self

from redis.exceptions import ResponseError

from gateway.backplane.cluster_map import ClusterMap
from gateway.backplane.pubsub import Confirmed, ListeningTime, ModeratedReader
from gateway.backplane.read_turn import ReadTurn
from gateway.backplane.shards import Shards, ShardSubscriber
from gateway.node.stats import Stats
from publisher.errors import Unavailable
from publisher.transport.cluster import Cluster, Slots, slot_of
from publisher.transport.redis_py import Connector, Host
from publisher.transport.resp import replies

HOSTS: tuple[Host, ...] = (("a", 1), ("b", 2), ("c", 3))
A, B, C = HOSTS


class Line:
    """A connection of the node, as an asyncio transport. Both ways hold what was said until it is delivered."""

    def __init__(self, primary: Primary) -> None:
        self.primary = primary
        self.said: deque[list[bytes]] = deque()
        self.answers: deque[bytes] = deque()
        self.names: set[bytes] = set()
        self._protocol: Any = None
        self._commands = replies()
        self._closed = False

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._commands.feed(data)
        while (command := self._commands.gets()) is not False:
            self.said.append(command)

    def is_closing(self) -> bool:
        return self._closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        """The connection is lost, with all that is on its way."""
        if not self._closed:
            self._closed = True
            self.primary.lines.remove(self)
            if self._protocol is not None:
                asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def arrive(self) -> None:
        """The primary reads one command."""
        if self.said and not self._closed:
            self.primary.take(self, *self.said.popleft())

    def answer(self) -> None:
        """The node reads one reply."""
        if self.answers and not self._closed:
            self._protocol.data_received(self.answers.popleft())


class Primary:
    """``view`` is what it believes of the owners; ``taken`` counts the commands that it has read."""

    def __init__(self, host: Host, view: dict[int, Host | None]) -> None:
        self.host = host
        self.view = view
        self.lines: list[Line] = []
        self.alive = True
        self.taken: Counter[bytes] = Counter()

    def owns(self, name: bytes) -> bool:
        return self.view[slot_of(name.decode())] == self.host

    def take(self, line: Line, verb: bytes, name: bytes) -> None:
        """As ``getNodeByQuery`` of Redis: a name of another server's slot is refused, also to be dropped."""
        self.taken[verb] += 1
        slot = slot_of(name.decode())
        owner = self.view[slot]
        if owner is None:
            line.answers.append(b"-CLUSTERDOWN Hash slot not served\r\n")
        elif owner != self.host:
            line.answers.append(b"-MOVED %d %b:%d\r\n" % (slot, owner[0].encode(), owner[1]))
        elif verb == b"SSUBSCRIBE":
            line.names.add(name)
            line.answers.append(_push(b"ssubscribe", name, b":1\r\n"))
        else:
            assert verb == b"SUNSUBSCRIBE"
            line.names.discard(name)
            line.answers.append(_push(b"sunsubscribe", name, b":1\r\n"))

    def learn(self, owners: dict[int, Host | None]) -> None:
        """Believe that these are the owners; who listens in a slot that has gone is told."""
        self.view = dict(owners)
        for line in self.lines:
            for name in sorted(line.names):
                if not self.owns(name):
                    line.names.discard(name)
                    line.answers.append(_push(b"sunsubscribe", name, b":0\r\n"))

    def publish(self, name: bytes, payload: bytes) -> None:
        for line in self.lines:
            if name in line.names:
                line.answers.append(_push(b"smessage", name, _bulk(payload)))

    def die(self) -> None:
        self.alive = False
        for line in list(self.lines):
            line.abort()


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _push(kind: bytes, name: bytes, last: bytes) -> bytes:
    return b"*3\r\n" + _bulk(kind) + _bulk(name) + last


class World:
    """``truth``: the owners, which each primary and the node learn when the test says so."""

    def __init__(self, names: list[str]) -> None:
        self.slots = {slot_of(each) for each in names}
        self.truth: dict[int, Host | None] = dict.fromkeys(self.slots, A)
        self.primaries = {host: Primary(host, dict(self.truth)) for host in HOSTS}
        self.heard: list[tuple[str, bytes]] = []
        self.missed: list[str] = []
        self.asked: list[Host] = []
        self._tasks: dict[Host, asyncio.Task[None]] = {}
        self.map = ClusterMap(Cluster((A,), Connector(object, {}, 1)), self._follow)
        self.map._ask = self._ask  # type: ignore[method-assign]
        self.shards = Shards(self.map, self._make, self._miss)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, *names: str) -> AsyncIterator[Self]:
        """One whose map the node knows."""
        world = cls(list(names))
        async with world.followed():
            await world.settle()
            yield world

    @contextlib.asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """The node follows it until the block ends."""
        looking = asyncio.create_task(self.map.run(self._silent))
        try:
            yield
        finally:
            running = looking, *self._tasks.values()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    # -- the node's side ----------------------------------------------------------------------

    def _make(
        self, host: Host, lost: Callable[[str, ResponseError | None], None]
    ) -> ShardSubscriber:
        clock = asyncio.get_running_loop().time
        shard = ShardSubscriber(
            partial(self._connect, host),
            lambda: f"{host[0]}:{host[1]}",
            partial(ModeratedReader, moment=0.0, clock=clock, turn=ReadTurn()),
            ListeningTime(clock),
            partial(self._changed, host),
            Stats(),
            lambda: 0.5,
            lost=lost,
        )
        self._tasks[host] = asyncio.create_task(shard.run())
        return shard

    @contextlib.asynccontextmanager
    async def _connect(self, host: Host) -> AsyncIterator[Any]:
        primary = self.primaries[host]
        if not primary.alive:
            raise ConnectionRefusedError
        line = Line(primary)
        primary.lines.append(line)
        try:
            yield line
        finally:
            line.abort()

    def _changed(self, host: Host, listening: bool) -> None:
        if listening:
            self.shards.restored(host)

    def _follow(self) -> None:
        self.shards.follow()
        for host in self._tasks.keys() - set(self.map.primaries):
            self._tasks.pop(host).cancel()

    def _silent(self) -> list[Host]:
        return [host for host, shard in self.shards.of.items() if not shard.connected]

    async def _ask(self, host: Host) -> Slots:
        self.asked.append(host)
        await asyncio.sleep(0)
        if not self.primaries[host].alive:
            raise Unavailable("refused", maybe_sent=False)
        return Slots([(slot, slot, to) for slot, to in self.primaries[host].view.items() if to])

    def _miss(self, names: list[str]) -> None:
        self.missed += names

    def listen(self, name: str) -> Confirmed:
        return self.shards.listen(name, lambda payload: self.heard.append((name, payload)))

    # -- the cluster's ------------------------------------------------------------------------

    def move(self, name: str, to: Host | None, *knowing: Host) -> None:
        """Give the slot of a name to ``to``; these know it at once."""
        self.truth[slot_of(name)] = to
        for host in knowing:
            self.primaries[host].learn(self.truth)

    def all_learn(self) -> None:
        for primary in self.primaries.values():
            primary.learn(self.truth)

    @property
    def lines(self) -> list[Line]:
        return [line for primary in self.primaries.values() for line in primary.lines]

    def publish(self, name: str, payload: bytes) -> bool:
        """Publish where publishers are led to; ``False`` where nobody takes it."""
        owner = self.truth[slot_of(name)]
        believers = [each for each in self.primaries.values() if each.owns(name.encode())]
        believers.sort(key=lambda each: each.host != owner)
        if not believers or not believers[0].alive:
            return False
        believers[0].publish(name.encode(), payload)
        return True

    def at(self, name: str) -> list[Host]:
        """Where the node is subscribed to a name."""
        return [line.primary.host for line in self.lines if name.encode() in line.names]

    # -- time -----------------------------------------------------------------------------------

    def deliver(self) -> None:
        """Let all arrive that is on its way."""
        for line in self.lines:
            while line.said and not line.is_closing():
                line.arrive()
            while line.answers and not line.is_closing():
                line.answer()

    async def settle(self, seconds: float = 0.2) -> None:
        """Let time pass while everything arrives soon."""
        for _ in range(round(seconds / 0.01)):
            await asyncio.sleep(0.01)
            self.deliver()

    async def turns(self, count: int = 3) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
