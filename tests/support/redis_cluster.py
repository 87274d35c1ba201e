"""A real Redis Cluster as local processes, three primaries with a replica each by default. It blocks; asyncio uses threads."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from publisher.transport.cluster import SLOTS, slot_of
from tests.support.redis_server import RedisServer, free_port

PRIMARIES = 3
SECONDS = 30.0
_OPTIONS = (
    *("--cluster-enabled", "yes"),
    *("--cluster-config-file", "nodes.conf"),
    *("--cluster-require-full-coverage", "no"),
    *("--cluster-allow-pubsubshard-when-down", "yes"),
    # A primary that has given its last slot away stays one.
    *("--cluster-allow-replica-migration", "no"),
    *("--cluster-replica-validity-factor", "0"),
    *("--repl-diskless-sync-delay", "0"),
)
_KEYS_AT_ONCE = 100


class ClusterServer(RedisServer):
    """One server of a cluster."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir()
        self.bus_port = free_port()
        super().__init__(folder, *_OPTIONS, "--cluster-port", str(self.bus_port), *options)
        self.alive = False
        """Whether it runs, and does not hang."""

    @property
    def host(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def start(self) -> None:
        """Start it, or start it again."""
        super().start()
        self.alive = True

    def kill(self) -> None:
        """End it without warning."""
        super().kill()
        self.alive = False

    def stop(self) -> None:
        """End it in order."""
        super().stop()
        self.alive = False

    def freeze(self) -> None:
        """Let it hang."""
        super().freeze()
        self.alive = False

    def thaw(self) -> None:
        """Let it go on."""
        super().thaw()
        self.alive = True

    def run(self, *command: str | int) -> Any:
        """What it answers, as text."""
        with redis.Redis(port=self.port, decode_responses=True, protocol=2) as client:
            # Without what the redis package makes of it.
            client.response_callbacks.clear()
            return client.execute_command(*command)

    @property
    def id(self) -> str:
        return str(self.run("CLUSTER", "MYID"))

    @property
    def leads(self) -> bool:
        """Whether it is a primary, as far as it knows."""
        return bool(self.run("ROLE")[0] == "master")

    def follows(self) -> bool:
        """Whether it is a replica that has what its primary has."""
        role, *rest = self.run("ROLE")
        return role == "slave" and rest[2] == "connected"


class RedisCluster:
    """``servers`` are the primaries and then a replica of each, if there are any, as they were at the start.

    Args:
        node_timeout_ms: so long a primary may be silent before its replica takes over.
        options: makes more options, of one server each time.
        replicated: whether the primaries have replicas; without them it starts faster.
    """

    def __init__(
        self,
        folder: Path,
        *,
        primaries: int = PRIMARIES,
        node_timeout_ms: int = 1_000,
        options: Callable[[], Sequence[str]] = tuple,
        replicated: bool = True,
    ) -> None:
        self._folder = folder
        self._count = primaries
        self._options = "--cluster-node-timeout", str(node_timeout_ms)
        self._more = options
        self._numbers = itertools.count()
        self.servers: list[ClusterServer] = []
        for _ in range(2 * primaries if replicated else primaries):
            self._append()

    def _append(self) -> ClusterServer:
        folder = self._folder / f"{next(self._numbers)}"
        self.servers.append(ClusterServer(folder, *self._options, *self._more()))
        return self.servers[-1]

    @property
    def url(self) -> str:
        """What publishers and gateways are given."""
        return self.url_of(self.servers)

    def url_of(self, servers: list[ClusterServer], login: str = "") -> str:
        """A URL that names these servers; ``login`` ends in ``@``."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in servers)
        return f"redis+cluster://{login}{hosts}"

    @property
    def living(self) -> list[ClusterServer]:
        """The servers that run."""
        return [each for each in self.servers if each.alive]

    @property
    def primaries(self) -> list[ClusterServer]:
        """The living servers that own slots now."""
        owners = {self.owner(slot) for slot in range(0, SLOTS, SLOTS // (4 * PRIMARIES))}
        return [each for each in self.living if each in owners]

    def start(self) -> None:
        """Start all, and return once they are a cluster and every replica follows."""
        for server in self.servers:
            server.start()
        self.form()

    def form(self) -> None:
        """Make a cluster of servers that know nothing of each other."""
        first, *others = self.servers
        for each in others:
            each.run("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus_port)
        for number, each in enumerate(self.servers[: self._count]):
            bounds = [SLOTS * part // self._count for part in (number, number + 1)]
            each.run("CLUSTER", "ADDSLOTSRANGE", bounds[0], bounds[1] - 1)
        wait_until(lambda: all(self._knows_all(each) for each in self.servers))
        for number, replica in enumerate(self.servers[self._count :]):
            replica.run("CLUSTER", "REPLICATE", self.servers[number].id)
        self.settle()

    def _knows_all(self, server: ClusterServer) -> bool:
        nodes = str(server.run("CLUSTER", "NODES")).splitlines()
        return len(nodes) == len(self.living) and not any("handshake" in each for each in nodes)

    def settle(self) -> None:
        """Return once all living servers agree on who owns what, and every replica follows."""
        wait_until(self._is_settled)

    def _is_settled(self) -> bool:
        maps = []
        for each in self.living:
            if "cluster_state:ok" not in each.run("CLUSTER", "INFO"):
                return False
            if not each.leads and not each.follows():
                return False
            parts = each.run("CLUSTER", "SLOTS")
            maps.append(sorted((first, last, owner[2]) for first, last, owner, *_ in parts))
            if sum(last + 1 - first for first, last, _ in maps[-1]) != SLOTS:
                return False
        return all(each == maps[0] for each in maps)

    def owner(self, slot: int) -> ClusterServer:
        """The primary that has a slot, as the first living server sees it."""
        for first, last, (_, port, *_), *_ in self.living[0].run("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(each for each in self.servers if each.port == port)
        raise LookupError(slot)

    def replica_of(self, primary: ClusterServer) -> ClusterServer:
        """A living server that follows ``primary``."""
        return next(
            each
            for each in self.living
            if not each.leads and int(each.run("ROLE")[2]) == primary.port
        )

    # -- slots that move ----------------------------------------------------------------------

    def begin_move(self, slot: int, to: ClusterServer) -> ClusterServer:
        """Let a slot be on its way; returns where it comes from."""
        source = self.owner(slot)
        to.run("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        return source

    def move_keys(self, slot: int, source: ClusterServer, to: ClusterServer) -> None:
        """Move all keys of a slot that is on its way."""
        while keys := source.run("CLUSTER", "GETKEYSINSLOT", slot, _KEYS_AT_ONCE):
            source.run("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)

    def end_move(self, slot: int, source: ClusterServer, to: ClusterServer) -> None:
        """Let a slot whose keys have been moved be of ``to``."""
        for each in (to, source, *self.primaries):
            each.run("CLUSTER", "SETSLOT", slot, "NODE", to.id)

    def move_slot(self, slot: int, to: ClusterServer) -> None:
        """Move a slot as ``redis-cli --cluster reshard`` does."""
        source = self.begin_move(slot, to)
        # Keys that are written meanwhile keep it from ending.
        while True:
            self.move_keys(slot, source, to)
            try:
                self.end_move(slot, source, to)
            except redis.ResponseError as error:
                if "keys" not in str(error).lower():
                    raise
            else:
                return

    def move_key(self, key: str, to: ClusterServer) -> None:
        """Move the slot of a key."""
        self.move_slot(slot_of(key), to)

    # -- servers that come and go -------------------------------------------------------------

    def fail_over(self, replica: ClusterServer) -> None:
        """Let ``replica`` take over while its primary lives; returns once all know."""
        replica.run("CLUSTER", "FAILOVER")
        wait_until(lambda: replica.leads)
        self.settle()

    def add_primary(self) -> ClusterServer:
        """A primary without slots that all others know."""
        first = self.living[0]
        server = self._append()
        server.start()
        server.run("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus_port)
        wait_until(lambda: all(self._knows_all(each) for each in self.living))
        return server

    def remove(self, server: ClusterServer) -> None:
        """End a server that has no slots, and let all others forget it."""
        identifier = server.id
        server.stop()
        self.servers.remove(server)
        for each in self.living:
            each.run("CLUSTER", "FORGET", identifier)

    def stop(self) -> None:
        """End all."""
        for server in self.servers:
            with contextlib.suppress(ProcessLookupError):
                server.kill()


def wait_until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Return once ``condition`` holds; what Redis refuses meanwhile counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError):
            if condition():
                return
        assert time.monotonic() < deadline, "the cluster has not come to that"
        time.sleep(0.02)


@contextlib.contextmanager
def redis_cluster(folder: Path, **arguments: Any) -> Iterator[RedisCluster]:
    """Run one until the block ends; the arguments are those of :class:`RedisCluster`."""
    cluster = RedisCluster(folder, **arguments)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
