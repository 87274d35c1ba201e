"""A real primary with a real replica, which a test can freeze."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import redis

from tests.support.redis_server import redis_server
from tests.support.waiting import PATIENCE


@dataclass(frozen=True)
class Replicated:
    """``url`` is the primary's."""

    url: str
    primary: redis.Redis
    replica: redis.Redis
    replica_pid: int

    @contextlib.contextmanager
    def replica_frozen(self) -> Iterator[None]:
        """The replica stays connected, and says nothing."""
        os.kill(self.replica_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.replica_pid, signal.SIGCONT)
            self.settle()

    def settle(self) -> None:
        """Wait until the replica has everything."""
        self.primary.set("settled", 1)
        assert self.primary.wait(1, int(PATIENCE * 1000)) == 1

    def waits(self) -> int:
        """How many ``WAIT`` the primary has been sent."""
        statistics = self.primary.info("commandstats")
        return int(statistics.get("cmdstat_wait", {"calls": 0})["calls"])


@contextlib.contextmanager
def replicated_redis(folder: Path) -> Iterator[Replicated]:
    """Run both in ``folder``."""
    folders = folder / "primary", folder / "replica"
    for each in folders:
        each.mkdir()
    with redis_server(folders[0], "--repl-diskless-sync-delay", "0") as url:
        port = urlsplit(url).port
        with (
            redis_server(folders[1], "--replicaof", "127.0.0.1", str(port)) as replica_url,
            redis.Redis.from_url(url) as primary,
            redis.Redis.from_url(replica_url) as replica,
        ):
            pid = replica.info("server")["process_id"]
            pair = Replicated(url, primary, replica, pid)
            pair.settle()
            yield pair
