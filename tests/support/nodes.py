"""Gateway nodes inside the test's own process: real sockets, a real Redis, settings of the test's choice."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
from pydantic import SecretStr

from gateway.app import Gateway
from gateway.settings import Settings
from gateway.web.new_connection import NewConnection
from tests.support.tokens import SECRET
from tests.support.waiting import until


@dataclass
class Node:
    """A running node."""

    gateway: Gateway
    url: str
    internal_url: str
    api_url: str = ""

    @property
    def new_connections(self) -> list[NewConnection]:
        """Connections that have shown no valid token."""
        return self.gateway.entrance.client_port._unauthenticated.all()

    async def get(self, path: str) -> tuple[int, str]:
        """Ask the internal port."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.internal_url + path) as answer,
        ):
            return answer.status, await answer.text()


@contextlib.asynccontextmanager
async def running_node(redis_url: str, prefix: str, **settings: Any) -> AsyncIterator[Node]:
    """Run a node until the block ends."""
    given = {
        "host": "127.0.0.1",
        "port": 0,
        "internal_port": 0,
        "redis_url": SecretStr(redis_url),
        "redis_prefix": prefix,
        "jwt_secret": SecretStr(SECRET),
        "unsubscribe_linger_seconds": 0.05,
        "confirm_interval_seconds": 0.1,
        "drain_delay_seconds": 0.0,
        "drain_seconds": 0.0,
        **settings,
    }
    gateway = Gateway(Settings(**given))
    try:
        addresses = await gateway.start()
        await until(gateway.ready)
        yield Node(
            gateway,
            f"{'wss' if 'tls_certificate' in given else 'ws'}://127.0.0.1:{addresses.public[1]}",
            f"{'https' if 'internal_tls_certificate' in given else 'http'}://127.0.0.1:{addresses.internal[1]}",
            f"{'https' if 'internal_tls_certificate' in given else 'http'}://127.0.0.1:{addresses.api[1]}"
            if addresses.api
            else "",
        )
    finally:
        await gateway.stop()
