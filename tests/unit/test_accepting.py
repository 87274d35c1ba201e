"""How connections are accepted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any, cast

from gateway.core.rate_limit import TokenBucket
from gateway.web.accepting import Acceptor
from gateway.web.tls import ServerTls


class Tls:
    """Stands in for ``ServerTls``; nobody ever agrees with it."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class Doorkeeper:
    """Takes whoever comes."""

    def __init__(self) -> None:
        self.accepted: list[socket.socket] = []

    def tls_turn(self, _address: object) -> float:
        return 0.0

    def accept(self, accepted: socket.socket, _address: object) -> asyncio.Protocol:
        self.accepted.append(accepted)
        return asyncio.Protocol()

    def failed(self, *_who: object, **_how: object) -> None:
        pass


async def test_what_was_accepted_has_its_protocol_when_the_port_is_closed() -> None:
    """It could not be ended otherwise: nobody else knows of it."""
    made: list[asyncio.BaseTransport] = []

    class Served(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    class Service:
        def tls_turn(self, _address: object) -> float:
            raise AssertionError

        def accept(self, _accepted: socket.socket, _address: object) -> Served:
            return Served()

        def failed(self, *_who: object, **_how: object) -> None:
            raise AssertionError

    listener = socket.create_server(("127.0.0.1", 0))
    acceptor = Acceptor(listener, Service(), last_file=1_000_000)
    with socket.create_connection(listener.getsockname()):
        acceptor._accept()
        await acceptor.aclose()
        [transport] = made
        transport.close()
        await asyncio.sleep(0)


class Crowd:
    """A port with TLS, and so many in its backlog; its bucket holds ``at_once``, and is filled by nobody."""

    def __init__(
        self, stack: contextlib.AsyncExitStack, doorkeeper: Doorkeeper, count: int
    ) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=count)
        tls = cast(ServerTls, Tls())
        self.acceptor: Acceptor[Any] = Acceptor(listener, doorkeeper, 1_000_000, tls, 1.0)
        stack.push_async_callback(self.acceptor.aclose)
        self.fill(3)
        self.lines = [
            stack.enter_context(socket.create_connection(listener.getsockname()))
            for _ in range(count)
        ]

    def fill(self, tokens: int) -> None:
        self.acceptor._bucket = TokenBucket(0.0, tokens, 0.0)


async def test_no_more_than_the_rate_are_accepted_for_tls_and_the_others_wait_in_the_backlog() -> (
    None
):
    async with contextlib.AsyncExitStack() as stack:
        doorkeeper = Doorkeeper()
        crowd = Crowd(stack, doorkeeper, 8)
        crowd.acceptor._accept()
        assert len(doorkeeper.accepted) == 3
        # It does not look again at each turn of the loop, but after a moment.
        assert crowd.acceptor._pause is not None
        crowd.fill(4)
        while len(doorkeeper.accepted) < 7:
            await asyncio.sleep(0.001)
        assert len(doorkeeper.accepted) == 7
