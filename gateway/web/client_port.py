"""The port that clients connect to: which connections it keeps, and who answers their requests."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

from gateway.core.addresses import TrustedProxies, address_of, block_of
from gateway.core.capacity import Capacity
from gateway.core.handshake import Refusal
from gateway.core.http import Head
from gateway.node.stats import Stats
from gateway.web.handshake import Handshakes
from gateway.web.new_connection import NewConnection
from gateway.web.pages import MALFORMED, NOT_FOUND, HttpPages
from gateway.web.refused_connections import RefusedConnections
from gateway.web.streams import StreamRequests
from gateway.web.unauthenticated import Unauthenticated

_PEERS_REMEMBERED: Final = 1_024
"""Addresses at the other ends of connections: where proxies stand in front, there are few, and they come again."""
_peer_address: Final = lru_cache(_PEERS_REMEMBERED)(address_of)

_TOO_MANY: Final = Refusal(
    429,
    "too_many_connections",
    "too many connections from this address have shown no valid token",
    {"Retry-After": "2"},
)
_WITH_BODY: Final = Refusal(400, "bad_request", "no page here takes a body")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a node stands.

    Attributes:
        paths: where WebSockets are served.
        trusted: the proxies in front of it.
        proxy_protocol: whether these begin each connection with a header of the PROXY protocol.
        capacity: how many connections it may hold.
        unauthenticated_per_address: how many of those without a token may come from one address.
    """

    paths: frozenset[str]
    trusted: TrustedProxies
    proxy_protocol: bool
    capacity: Capacity
    unauthenticated_per_address: int


class ClientPort:
    """Implements ``accepting.Service`` and ``new_connection.Entrance``.

    Args:
        handshakes: what serves WebSockets.
        streams: what serves clients without one, if anything does.
        pages: what serves other paths, if anything does.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        stats: Stats,
        refusals: RefusedConnections,
        handshakes: Handshakes,
        streams: StreamRequests | None,
        pages: HttpPages | None,
    ) -> None:
        self._surroundings = surroundings
        self._unauthenticated: Unauthenticated[NewConnection] = Unauthenticated(
            surroundings.capacity.unauthenticated, surroundings.unauthenticated_per_address, stats
        )
        self._refusals = refusals
        self._handshakes = handshakes
        self._streams = streams
        self._pages = pages

    async def aclose(self) -> None:
        """End what has not become a client's connection."""
        if self._streams is not None:
            self._streams.close()
        for connection in self._unauthenticated.all():
            connection.drop()
        await self._handshakes.aclose()

    # -- from the listener --------------------------------------------------------------------

    def tls_turn(self, address: object) -> float | None:
        """In how many seconds TLS may be begun with who comes from this address; ``None``: not at all."""
        peer = _peer(address)
        return self._refusals.tls_turn(self._block(peer), peer)

    def accept(self, accepted: socket.socket, address: object) -> NewConnection:
        """One was accepted. It counts from now on, also while it agrees on TLS; where there are too many, one of them goes."""
        connection = NewConnection(self, accepted)
        peer = _peer(address)
        trusted = peer in self._surroundings.trusted
        connection.peer = connection.address = peer
        connection.block = self._block(peer)
        connection.expects_proxy_header = trusted and self._surroundings.proxy_protocol
        self._count(connection)
        if connection.file >= self._surroundings.capacity.crowded_file:
            self._drop(self._unauthenticated.oldest, "files_exhausted")
        else:
            self._make_room()
        return connection

    def failed(
        self, connection: NewConnection, _address: object, cause: str, *, begun: bool
    ) -> None:
        """One is over, since the client and the node have not agreed on TLS."""
        if connection.begins and cause:
            self._refusals.note("tls_failed", connection.address, cause)
        if begun:
            self._refusals.wasted(connection)
        self.leave(connection)

    # -- from the connections -----------------------------------------------------------------

    def proxied(self, connection: NewConnection, source: str | None) -> None:
        """The proxy at the other end has told for whom a connection is."""
        if source is not None:
            connection.peer = connection.address = source
            connection.block = self._block(source)
            self._count(connection)

    def requested(self, connection: NewConnection, head: Head) -> None:
        """A request came."""
        trusted, peer = self._surroundings.trusted, connection.peer
        if peer is not None and trusted.ignores(peer, head):
            self._refusals.not_believed(peer)
        client = trusted.client(peer, head)
        connection.address = client.address
        connection.block = block_of(client.address) if client.address and client.counts else None
        self._count(connection)
        if head.path in self._surroundings.paths and not self._opens_a_page(head):
            self._handshakes.begin(connection, head)
        elif self._streams is not None and self._streams.serves(head.path):
            self._streams.requested(connection, head)
        elif head.announces_body:
            self._refusals.refuse(connection, _WITH_BODY, "body")
        elif self._pages is None or head.path not in self._pages.paths:
            # Only a client that wants a WebSocket sends a key.
            cause = "other_path" if "sec-websocket-key" in head.fields else ""
            self._refusals.refuse(connection, NOT_FOUND, cause)
        elif not self._handshakes.is_overlong(connection, head):
            # It counts as long as it lasts, for it shows no token.
            connection.pass_on(self._pages.protocol(partial(self.leave, connection)))

    def _opens_a_page(self, head: Head) -> bool:
        """Whether a browser's address bar asks where WebSockets are served, and a page is served there too."""
        return (
            self._pages is not None
            and head.path in self._pages.paths
            and "text/html" in (head.get("accept") or "")
            # Only a client that wants a WebSocket sends a key; some browsers accept HTML even then.
            and "sec-websocket-key" not in head.fields
        )

    def malformed(self, connection: NewConnection, cause: str) -> None:
        """What came is no request."""
        self._refusals.refuse(connection, MALFORMED, cause)

    def overdue(self, connection: NewConnection) -> None:
        """No request came in time."""
        self._refusals.note("no_request", connection.address)

    def wasted(self, connection: NewConnection) -> None:
        """One has agreed on TLS, and is over without a request."""
        self._refusals.wasted(connection)

    def refused(self, connection: NewConnection) -> None:
        """One was refused, and counts until it is gone, also one whose token was valid."""
        self._count(connection)
        self._make_room()

    def leave(self, connection: NewConnection) -> None:
        """One has shown a valid token, or is gone."""
        self._unauthenticated.leave(connection)

    def _block(self, peer: str | None) -> str | None:
        """What a connection from there counts for: nothing where a proxy stands for many."""
        return None if peer is None or peer in self._surroundings.trusted else block_of(peer)

    def _count(self, connection: NewConnection) -> None:
        """Count one for the address that it comes from, as far as that is known; where too many come from there, one of these goes.

        Who has just sent a request is the youngest: a crowd that sends none keeps nobody out who shares its address.
        """
        self._unauthenticated.enter(connection, connection.block)
        oldest = self._unauthenticated.one_too_many(connection.block)
        if oldest is not None:
            self._drop(oldest, "address_limit", _TOO_MANY)

    def _make_room(self) -> None:
        if self._unauthenticated.too_many:
            self._drop(self._unauthenticated.oldest, "unauthenticated_limit")

    def _drop(self, connection: NewConnection, reason: str, refusal: Refusal | None = None) -> None:
        """End one, with an answer if it has asked and there is one to give."""
        self._refusals.note(reason, connection.address)
        self._unauthenticated.leave(connection)
        if refusal is not None and connection.asked:
            connection.dismiss(refusal)
        else:
            connection.drop()


def _peer(address: object) -> str | None:
    """The address at the other end of a connection; a Unix socket has none."""
    return _peer_address(str(address[0])) if isinstance(address, tuple) else None
