"""An application of the tests, on a port of its own."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.test_utils import TestServer


@contextlib.asynccontextmanager
async def served(app: web.Application, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port; it is given up without waiting for clients that stay."""
    server = TestServer(app, host="127.0.0.1")
    await server.start_server(shutdown_timeout=0.1, ssl=tls)
    assert server.port is not None
    try:
        yield server.port
    finally:
        await server.close()
