"""A server that sends every message back: the clients' port of a node, in which only the node itself is a stand-in."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from gateway.core import closing, frames
from gateway.core.access import Identity
from gateway.core.addresses import TrustedProxies
from gateway.core.budget import Allowance
from gateway.core.capacity import capacity
from gateway.core.origins import AllowedOrigins
from gateway.node.connection import Connection
from gateway.node.ports import Claim
from gateway.node.stats import Stats
from gateway.node.timings import Timings
from gateway.web.admission import Admission, Room
from gateway.web.client_port import ClientPort, Surroundings
from gateway.web.failed_authentications import FailedAuthentications
from gateway.web.handshake import Handshakes, Limits
from gateway.web.handshake_queue import HandshakeQueue
from gateway.web.refused_connections import RefusedConnections
from gateway.web.server import Ports
from gateway.web.tls import ServerTls
from gateway.web.wasted_tls import WastedTls

_NEVER: Final = 1e9  # a rate, a burst and a mark that no client reaches
_FILES: Final = 1_000
_CONNECTIONS: Final = 500
_TEXT_OR_BINARY: Final = 0x1 ^ 0x2  # the opcodes in which these frames differ


class Anybody:
    """Lets everybody in, whatever their token. Implements ``ports.Verifier`` and ``ports.Places``, and
    stands in for ``Revocations``."""

    def verify(self, token: str) -> Identity:
        return Identity(token)

    async def acquire(self, claim: Claim, wanted: Callable[[], Awaitable[bool]]) -> int:
        return 1

    mark = 0

    def ask(self, token_id: str | None) -> None:
        return None

    def admits_still(self, mark: int, *shown: object) -> bool:
        return True

    def ends(self, claim: Claim, entered_at: int, mark: int) -> None:
        return None

    def give_back(self, user: str, connection: str) -> None:
        pass


class Echo:
    """Sends back what comes. Stands in for ``Lifetimes`` and ``Requests``."""

    def begin(self, connection: Connection, answer: bytes) -> None:
        connection.write(answer)

    def end(self, connection: Connection, code: int | None) -> None:
        connection.closed = True

    def fail(self, connection: Connection) -> None:
        connection.closed = True
        connection.socket.close(closing.INTERNAL_ERROR)

    def arrived(self, connection: Connection, cost: float) -> bool:
        return not connection.closed

    def text(self, connection: Connection, message: bytes, paid: float = 0.0) -> None:
        connection.write(_text(connection, message))

    def binary(self, connection: Connection, message: bytes) -> None:
        frame = _text(connection, message)
        connection.write(bytes([frame[0] ^ _TEXT_OR_BINARY]) + frame[1:])

    def ping(self, connection: Connection, payload: bytes) -> None:
        connection.write(frames.pong(payload))

    def pong(self, connection: Connection, payload: bytes) -> None:
        pass


def _text(connection: Connection, message: bytes) -> bytes:
    window_bits = connection.socket.encoding.window_bits
    return frames.deflated(message, window_bits) if window_bits else frames.text(message)


@contextlib.asynccontextmanager
async def endpoint(max_message_bytes: int, tls: ServerTls | None = None) -> AsyncIterator[str]:
    """The URL of a server that is there until the end of the block.

    Args:
        max_message_bytes: as ``GATEWAY_MAX_MESSAGE_BYTES``: what is sixteen times as long is still read.
        tls: what encrypts the connections, if anything does.
    """
    anybody, echo, timings = Anybody(), Echo(), Timings(time.monotonic)
    stats = Stats(timings=timings)
    failures = FailedAuthentications(int(_NEVER), stats, time.monotonic)
    wasted = WastedTls(int(_NEVER), time.monotonic)
    refusals = RefusedConnections(stats, failures, wasted, time.monotonic)
    endless = Allowance(_NEVER, _NEVER)
    room = capacity(_FILES, _CONNECTIONS, None)
    queue = HandshakeQueue(_NEVER, lambda: True, stats, time.monotonic)
    handshakes = Handshakes(
        Admission(anybody, anybody, lambda: True, Room(_CONNECTIONS, _CONNECTIONS), queue, timings),
        anybody,
        echo,
        echo,
        refusals,
        Limits(max_message_bytes, int(_NEVER), endless, endless, 0, AllowedOrigins([]), True),
        time.monotonic,
        time.time,
    )
    surroundings = Surroundings(
        frozenset({"/"}), TrustedProxies([]), False, room, room.unauthenticated
    )
    port = ClientPort(surroundings, stats, refusals, handshakes, None, None)
    ports = Ports(shared=False)
    try:
        host, number = await ports.listen(
            port, "127.0.0.1", 0, "port", last_file=room.last_file, tls=tls
        )
        yield f"ws://{host}:{number}/?token=anybody"
    finally:
        await ports.aclose()
        await port.aclose()
