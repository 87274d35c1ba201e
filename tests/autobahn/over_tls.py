"""The same server over TLS of the gateway's own. The suite speaks none, so what it sends passes through a relay."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

from gateway.node.stats import Stats
from gateway.web.tls import Files, ServerTls
from tests.autobahn.endpoint import endpoint
from tests.support.certificates import Authority, trusting

_AT_ONCE = 65_536


@contextlib.asynccontextmanager
async def endpoint_over_tls(max_message_bytes: int) -> AsyncIterator[str]:
    """As ``endpoint``: the URL leads to a relay, which speaks TLS with the server."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        own = authority.sign("localhost", addresses=("127.0.0.1",))
        tls = ServerTls("clients", Files(own.certificate, own.key), Stats(), time.time)
        await tls.start()
        async with (
            endpoint(max_message_bytes, tls) as url,
            _relay(url, trusting(authority)) as relayed,
        ):
            yield relayed


@contextlib.asynccontextmanager
async def _relay(url: str, trust: ssl.SSLContext) -> AsyncIterator[str]:
    parts = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(parts.hostname, parts.port, ssl=trust)
        await asyncio.gather(_pass(reader, back), _pass(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield parts._replace(netloc=f"127.0.0.1:{port}").geturl()


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Hand on what comes, and the end."""
    with contextlib.suppress(ConnectionError):
        while data := await source.read(_AT_ONCE):
            target.write(data)
            await target.drain()
    target.close()
