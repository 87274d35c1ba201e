"""A real primary with replicas, and three sentinels that watch over them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

from tests.support.redis_server import RedisServer, free_port, server_program
from tests.support.waiting import until

NAME = "mymaster"
START_SECONDS = 30.0
PROMOTION_SECONDS = 30.0


class SentinelServer:
    """A sentinel in ``folder``, where it also keeps its configuration.

    Args:
        monitored: the port of the primary.
        quorum: how many sentinels must find the primary down.
        lines: more of its configuration.
        tls: whether it is reached by TLS.
        down_after_ms: so long the primary may be silent.
    """

    def __init__(
        self,
        folder: Path,
        monitored: int,
        quorum: int,
        *lines: str,
        tls: bool = False,
        down_after_ms: int = 500,
    ) -> None:
        folder.mkdir()
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        ports = ("port 0", f"tls-port {self.port}") if tls else (f"port {self.port}",)
        configuration = (
            "bind 127.0.0.1",
            *ports,
            f"dir {folder}",
            f"sentinel monitor {NAME} 127.0.0.1 {monitored} {quorum}",
            f"sentinel down-after-milliseconds {NAME} {down_after_ms}",
            f"sentinel failover-timeout {NAME} 2000",
            *lines,
        )
        (folder / "sentinel.conf").write_text("\n".join(configuration) + "\n", "utf-8")

    def start(self) -> None:
        """Start it, or start it again."""
        with (self._folder / "sentinel.log").open("ab") as log:
            self._process = subprocess.Popen(
                [server_program(), str(self._folder / "sentinel.conf"), "--sentinel"],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Let it hang."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class SentinelServers:
    """The first of ``servers`` is the primary at the start, the others are its replicas.

    Args:
        password: of the sentinels.
        down_after_ms: so long the primary may be silent before a replica takes over.
        replicas: how many there are.
    """

    def __init__(
        self,
        folder: Path,
        password: str | None = None,
        *,
        down_after_ms: int = 500,
        replicas: int = 1,
    ) -> None:
        self.servers: list[RedisServer] = []
        for number in range(1 + replicas):
            name = f"server-{number}"
            (folder / name).mkdir()
            options: tuple[str, ...] = ("--repl-diskless-sync-delay", "0")
            if self.servers:
                options += ("--replicaof", "127.0.0.1", str(self.servers[0].port))
            self.servers.append(RedisServer(folder / name, *options))
        self._password = password
        self._down_after_ms = down_after_ms
        self._folder = folder
        self.sentinels: list[SentinelServer] = []

    @property
    def hosts(self) -> str:
        """The sentinels, as in a URL."""
        return ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)

    @property
    def url(self) -> str:
        """What publishers and gateways are given."""
        login = f"?sentinel_password={self._password}" if self._password else ""
        return f"redis+sentinel://{self.hosts}/{NAME}{login}"

    async def start(self) -> None:
        """Start all, and return once every sentinel knows the others and the replicas."""
        for server in self.servers:
            await asyncio.to_thread(server.start)
        primary, *replicas = self.servers
        for replica in replicas:
            await until(lambda each=replica: follows(each, primary), START_SECONDS)
        lines = ()
        if self._password:
            lines = (f"requirepass {self._password}", f"sentinel sentinel-pass {self._password}")
        for number in range(3):
            sentinel = SentinelServer(
                self._folder / f"sentinel-{number}",
                self.servers[0].port,
                2,
                *lines,
                down_after_ms=self._down_after_ms,
            )
            self.sentinels.append(sentinel)
            await asyncio.to_thread(sentinel.start)
        for sentinel in self.sentinels:
            await until(lambda each=sentinel: self._is_set_up(each), START_SECONDS)

    async def _is_set_up(self, sentinel: SentinelServer) -> bool:
        async with redis.asyncio.Redis(port=sentinel.port, password=self._password) as client:
            try:
                known = await client.execute_command("SENTINEL", "MASTER", NAME)
                replicas = await client.execute_command("SENTINEL", "REPLICAS", NAME)
            except redis.RedisError:
                return False
        known, replicas = _fields(known), list(map(_fields, replicas))
        return bool(
            known["num-other-sentinels"] == "2"
            and known["flags"] == "master"
            and len(replicas) == len(self.servers) - 1
            and all(each["flags"] == "slave" for each in replicas)
            and all(each["master-link-status"] == "ok" for each in replicas)
        )

    async def agree_on(self, primary: RedisServer) -> bool:
        """Whether every sentinel is there, and names this primary as one that is well."""
        for sentinel in self.sentinels:
            async with redis.asyncio.Redis(port=sentinel.port, password=self._password) as client:
                try:
                    known = _fields(await client.execute_command("SENTINEL", "MASTER", NAME))
                except redis.RedisError:
                    return False
            if (known["port"], known["flags"]) != (str(primary.port), "master"):
                return False
        return True

    async def fail_over(self) -> None:
        """Let a replica take over while the primary lives."""
        async with redis.asyncio.Redis(
            port=self.sentinels[0].port, password=self._password
        ) as client:
            await client.execute_command("SENTINEL", "FAILOVER", NAME)

    async def promoted(self) -> float:
        """When (in time of the event loop) the one replica was seen to have become the primary."""
        await until(lambda: leads(self.servers[1]), PROMOTION_SECONDS)
        return asyncio.get_running_loop().time()

    def stop(self) -> None:
        """End all."""
        for sentinel in self.sentinels:
            sentinel.kill()
        for server in self.servers:
            server.stop()


async def _role(server: RedisServer) -> list[str]:
    """``master``, or ``slave`` with the primary's host and port and the state of the link to it; then more."""
    async with redis.asyncio.Redis(port=server.port) as client:
        return [_text(each) for each in await client.execute_command("ROLE")]


async def leads(server: RedisServer) -> bool:
    """Whether it is a primary, as far as it knows."""
    return (await _role(server))[0] == "master"


async def follows(server: RedisServer, primary: RedisServer) -> bool:
    """Whether it is a replica of ``primary`` that has what that has."""
    role, *rest = await _role(server)
    return role == "slave" and rest[1:3] == [str(primary.port), "connected"]


def _fields(reply: Any) -> dict[str, str]:
    """The fields of a reply, whatever the redis package has made of it."""
    if isinstance(reply, dict):
        pairs = list(reply.items())
    else:
        pairs = list(zip(reply[::2], reply[1::2], strict=True))
    return {_text(name): _text(value) for name, value in pairs}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@contextlib.asynccontextmanager
async def sentinel_servers(
    folder: Path, password: str | None = None
) -> AsyncIterator[SentinelServers]:
    """Run them until the block ends."""
    servers = SentinelServers(folder, password)
    try:
        await servers.start()
        yield servers
    finally:
        servers.stop()
