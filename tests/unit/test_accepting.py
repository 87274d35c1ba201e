"""How connections are accepted."""

from __future__ import annotations

import asyncio
import socket

from gateway.web.accepting import Acceptor


async def test_what_was_accepted_has_its_protocol_when_the_port_is_closed() -> None:
    """It could not be ended otherwise: nobody else knows of it."""
    made: list[asyncio.BaseTransport] = []

    class Served(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    class Service:
        def accept(self, _accepted: socket.socket, _address: object) -> Served:
            return Served()

        def failed(self, *_why: object) -> None:
            raise AssertionError

    listener = socket.create_server(("127.0.0.1", 0))
    acceptor = Acceptor(listener, Service(), last_file=1_000_000)
    with socket.create_connection(listener.getsockname()):
        acceptor._accept()
        await acceptor.aclose()
        [transport] = made
        transport.close()
        await asyncio.sleep(0)
