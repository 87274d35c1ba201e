"""Servers of a cluster on ports of their own, which answer as the test says where no real one could be made to."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias

from publisher.transport.cluster import SLOTS
from publisher.transport.redis_py import Host
from publisher.transport.resp import replies

Reply: TypeAlias = bytes | None
"""``None`` for silence from then on."""

Answer: TypeAlias = Callable[[list[bytes], bool], Reply | Awaitable[Reply]]
"""Takes a command, and whether ``ASKING`` came before it."""

OK: Final = b"+OK\r\n"


class ScriptedServer:
    """``heard`` has the commands of clients, ``asked`` is how often it was asked for the map."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _command, _asking: OK
        self.heard: list[list[bytes]] = []
        self.asked = 0
        self.connections = 0
        self.host: Host = ("127.0.0.1", 0)
        self.owners: list[tuple[int, int, Host]] = []
        """What it says of the slots."""
        self.knows_map = True
        self.epoch = 1
        """How many elections it knows of."""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.host = "127.0.0.1", self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands, asking = replies(), False
        self.connections += 1
        try:
            while data := await reader.read(65_536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    reply = self._reply(command, asking)
                    asking = command[0] == b"ASKING"
                    if inspect.isawaitable(reply):
                        reply = await reply
                    if reply is None:
                        await reader.read()
                        return
                    writer.write(reply)
        except ConnectionError:
            pass
        finally:
            self.connections -= 1
            writer.close()

    def _reply(self, command: list[bytes], asking: bool) -> Reply | Awaitable[Reply]:
        if command[0] == b"CLIENT":
            return OK
        if command[0] == b"CLUSTER":
            about_itself = command[1] == b"INFO"
            self.asked += about_itself
            if not self.knows_map:
                return None
            return self._info() if about_itself else self._map()
        self.heard.append(command)
        return OK if command[0] == b"ASKING" else self.answer(command, asking)

    def _info(self) -> bytes:
        info = b"cluster_state:ok\r\ncluster_current_epoch:%d\r\n" % self.epoch
        return b"$%d\r\n%b\r\n" % (len(info), info)

    def _map(self) -> bytes:
        parts = [
            b"*3\r\n:%d\r\n:%d\r\n*2\r\n$%d\r\n%b\r\n:%d\r\n"
            % (first, last, len(host), host.encode(), port)
            for first, last, (host, port) in self.owners
        ]
        return b"*%d\r\n" % len(parts) + b"".join(parts)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()


@contextlib.asynccontextmanager
async def two_servers() -> AsyncIterator[tuple[ScriptedServer, ScriptedServer]]:
    """Two that own half of the slots each."""
    servers = ScriptedServer(), ScriptedServer()
    try:
        for each in servers:
            await each.start()
        share(servers[0], servers[1])
        yield servers
    finally:
        for each in servers:
            await each.stop()


def share(lower: ScriptedServer, upper: ScriptedServer, middle: int = SLOTS // 2) -> None:
    """Both say that ``lower`` owns the slots below ``middle``, and ``upper`` the others."""
    owners = [(0, middle - 1, lower.host), (middle, SLOTS - 1, upper.host)]
    for each in (lower, upper):
        each.owners = [part for part in owners if part[0] <= part[1]]
