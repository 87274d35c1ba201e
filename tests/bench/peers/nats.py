"""NATS with its WebSocket listener; messages are published over its own protocol."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import orjson

from tests.bench.peers.installing import debian_program, debian_version
from tests.bench.peers.peer import Peer
from tests.bench.peers.processes import START_SECONDS, listens, running
from tests.bench.servers import Message
from tests.support.redis_server import free_port
from tests.support.waiting import until

_PACKAGE: Final = "nats-server"
_CONFIGURATION: Final = """
host: 127.0.0.1
port: {client_port}
websocket {{ host: 127.0.0.1, port: {port}, no_tls: true, compression: false }}
"""
_CONNECT: Final = r'CONNECT {"verbose":false,"pedantic":false}\r\n'


@contextlib.asynccontextmanager
async def nats() -> AsyncIterator[Peer]:
    """NATS as Debian has it."""
    program = debian_program(_PACKAGE, "nats-server")
    port, client_port = free_port(), free_port()
    # The server greets with INFO; the answer to PING tells that the subscription stands.
    target = f"/\t~\t{_CONNECT}\tSUB bench 1\\r\\n\tPING\\r\\n"
    with tempfile.TemporaryDirectory(prefix="nats-") as folder:
        configuration = Path(folder) / "nats.conf"
        configuration.write_text(_CONFIGURATION.format(port=port, client_port=client_port), "utf-8")
        command = [program, "-c", str(configuration), "-l", f"{folder}/log"]
        async with running(*command, port=port) as process, _publisher(client_port) as publish:
            version = debian_version(_PACKAGE)
            yield Peer("NATS", version, port, 2, target, process, publish)


@contextlib.asynccontextmanager
async def _publisher(port: int) -> AsyncIterator[object]:
    # It listens for browsers first.
    await until(lambda: listens(port), START_SECONDS)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\n')

    async def publish(messages: Sequence[Message]) -> None:
        for each in messages:
            body = orjson.dumps(each)
            writer.write(b"PUB bench %d\r\n%b\r\n" % (len(body), body))
        await writer.drain()

    async def answer_pings() -> None:
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")

    answers = asyncio.create_task(answer_pings())
    try:
        yield publish
    finally:
        writer.close()
        answers.cancel()
