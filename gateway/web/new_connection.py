"""A connection from its acceptance until it is a client's: the request that comes over it, and the answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, Protocol

from gateway.core import frames
from gateway.core.frames import Boundaries
from gateway.core.handshake import Refusal
from gateway.core.http import Head, Malformed, read_head
from gateway.core.proxy_protocol import read_proxy_header
from gateway.web import tcp, tls
from gateway.web.transport_owner import TransportOwner

log = logging.getLogger(__name__)

_REQUEST_SECONDS: Final = 10.0
"""How long a client may take to send its request."""
_LINGER_SECONDS: Final = 1.0
"""How long one that was told why it is not let in may take to close."""
_MOST_DISCARDED: Final = 8 * 2**20
"""Bytes that it may go on sending meanwhile. It would not see the answer if they were not read."""
_MOST_LOOKED_AT: Final = 4_096
"""Bytes in which the answer to a close frame is looked for; the rest is not worth the time."""
_WHOLE_CLOSE: Final = bytes([frames.WHOLE_CLOSE])


class Entrance(Protocol):
    """Decides what becomes of new connections."""

    def proxied(self, connection: NewConnection, source: str | None) -> None:
        """The proxy at its other end has told for whom it is; ``None``: for itself."""

    def requested(self, connection: NewConnection, head: Head) -> None:
        """Its request came. Until it is answered, nothing more is read."""

    def malformed(self, connection: NewConnection, cause: str) -> None:
        """What came is no request."""

    def overdue(self, connection: NewConnection) -> None:
        """No request came in time."""

    def wasted(self, connection: NewConnection) -> None:
        """It is over without a request, though its client has agreed on TLS, which costs more than a request."""

    def refused(self, connection: NewConnection) -> None:
        """It was told that it is not let in, and has a moment to read that."""

    def leave(self, connection: NewConnection) -> None:
        """It has shown a valid token, or is gone; may be told twice."""


class _Stage(Enum):
    BEGINNING = auto()
    READING = auto()
    DECIDING = auto()
    LEAVING = auto()
    OVER = auto()


class NewConnection(TransportOwner):
    """Reads one request. Then the connection gets another protocol, or ends.

    ``peer`` is the address at its other end, ``address`` the client's, and ``block`` what it counts for; each is
    ``None`` while it is not known. ``expects_proxy_header``: a proxy's header comes before the request. ``refusal_fields``: what
    is added to whatever it is refused with, so that whoever has asked can read that.
    """

    __slots__ = (
        "_boundaries",
        "_discarded",
        "_entrance",
        "_head_end",
        "_head_only",
        "_received",
        "_seen",
        "_socket",
        "_stage",
        "address",
        "block",
        "expects_proxy_header",
        "peer",
        "refusal_fields",
    )

    def __init__(self, entrance: Entrance, accepted: socket.socket) -> None:
        super().__init__()
        self._entrance = entrance
        self._socket = accepted
        self._stage = _Stage.BEGINNING
        self._received = b""
        self._seen = 0
        self._head_end = 0
        self._head_only = False
        self._discarded = 0
        self._boundaries: Boundaries | None = None
        self.peer: str | None = None
        self.address: str | None = None
        self.block: str | None = None
        self.expects_proxy_header = False
        self.refusal_fields: Mapping[str, str] = {}

    # -- from the transport (asyncio.Protocol) ------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is there; under TLS both sides have agreed."""
        super().connection_made(transport)
        if self._stage is _Stage.OVER:
            self._transport.abort()
            return
        self._stage = _Stage.READING
        if self.plain_socket is None:
            tls.bound(self._transport)
        self._set_deadline(_REQUEST_SECONDS, self._overdue)

    def data_received(self, data: bytes) -> None:
        """Take a part of the request, or of what follows a refused one."""
        if self._stage is _Stage.LEAVING:
            self._discard(data)
            return
        self._received += data
        if self._stage is not _Stage.READING:
            return
        try:
            self._read()
        except Malformed as malformed:
            self._entrance.malformed(self, malformed.cause)
        except Exception:
            log.exception("handshake_failed")
            self.drop()

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone."""
        self._stage = _Stage.OVER
        self._cancel_deadline()
        if not self._head_end and self.plain_socket is None:
            self._entrance.wasted(self)
        self._entrance.leave(self)

    def _read(self) -> None:
        if self.expects_proxy_header:
            proxied = read_proxy_header(self._received)
            if proxied is None:
                return
            source, end = proxied
            self._received = self._received[end:]
            self.expects_proxy_header = False
            self._entrance.proxied(self, source)
        found = read_head(self._received, self._seen)
        if found is None:
            self._seen = len(self._received)
            return
        head, self._head_end = found
        self._head_only = head.method == "HEAD"
        self._stage = _Stage.DECIDING
        # It may wait for its turn. What it sends meanwhile fills the system's buffer, not the node's.
        self._transport.pause_reading()
        self._cancel_deadline()
        self._entrance.requested(self, head)

    def _overdue(self) -> None:
        self._entrance.overdue(self)
        self.drop()

    # -- what becomes of it -------------------------------------------------------------------

    @property
    def file(self) -> int:
        """The number of its file: the lowest that was free."""
        return self._socket.fileno()

    @property
    def plain_socket(self) -> socket.socket | None:
        """What bytes may be sent through past the transport; ``None`` under TLS, where it has to encrypt them."""
        encrypts = self._transport.get_extra_info("sslcontext") is not None
        return None if encrypts else self._socket

    @property
    def begins(self) -> bool:
        """Whether its transport is not there yet, and nobody has dropped it."""
        return self._stage is _Stage.BEGINNING

    @property
    def gone(self) -> bool:
        """Whether the client has left, or was dropped."""
        return self._stage is _Stage.OVER or self._transport.is_closing()

    @property
    def waits(self) -> bool:
        """Whether the client still waits to be let in: one that has closed its side does not."""
        return not (self.gone or tcp.ended(self._socket))

    @property
    def asked(self) -> bool:
        """Whether its request is here and has no answer yet."""
        return self._stage is _Stage.DECIDING

    def known(self) -> None:
        """It has shown a valid token."""
        self._entrance.leave(self)

    def drop(self) -> None:
        """End it at once."""
        if not self.begins:
            self._transport.abort()
            return
        self._stage = _Stage.OVER
        # Who is in a TLS handshake then sees the end of the line, which ends the handshake.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def dismiss(self, refusal: Refusal) -> None:
        """Refuse it in HTTP and end it at once: it may hold nothing meanwhile."""
        self._stage = _Stage.LEAVING
        self._set_deadline(_LINGER_SECONDS, self.drop)  # the end of TLS takes an answer
        self._transport.write(refusal.also(self.refusal_fields).answer)
        self._transport.close()

    def refuse(self, refusal: Refusal) -> None:
        """Refuse it in HTTP and leave; the client has a moment to read that."""
        self.answer(refusal.also(self.refusal_fields).answer)

    def answer(self, answer: bytes) -> None:
        """Send an answer in HTTP and leave, as with a refusal."""
        if not self.gone:
            head, end, _body = answer.partition(b"\r\n\r\n")
            self._begin_leaving(head + end if self._head_only else answer)
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()  # TLS ends for both sides at once

    def reject(self, answer: bytes) -> None:
        """Send an answer that ends with a close frame, and leave when the client has answered that."""
        if not self.gone:
            self._boundaries = Boundaries()
            self._begin_leaving(answer)

    def hand_over(self, protocol: asyncio.Protocol) -> bytes:
        """Give the connection to ``protocol``, which answers the request.

        Returns what the client has sent since its request.
        """
        early = self._received[self._head_end :]
        self._give(protocol)
        return early

    def pass_on(self, protocol: asyncio.Protocol) -> None:
        """Let ``protocol`` answer the request."""
        # A further request would not be answered: the connection serves one.
        received = self._received[: self._head_end]
        self._give(protocol)
        protocol.data_received(received)

    def _give(self, protocol: asyncio.Protocol) -> None:
        self._received = b""
        self._stage = _Stage.OVER
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        self._transport.resume_reading()

    # -- the end of one that was refused ------------------------------------------------------

    def _begin_leaving(self, answer: bytes) -> None:
        self._stage = _Stage.LEAVING
        # What follows a refused request is never kept.
        self._received = b""
        self._set_deadline(_LINGER_SECONDS, self.drop)
        self._entrance.refused(self)
        self._transport.write(answer)
        self._transport.resume_reading()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > _MOST_DISCARDED:
            self.drop()
        elif (
            self._boundaries is not None
            and self._discarded <= _MOST_LOOKED_AT
            and _has_close(self._boundaries, data)
        ):
            self._transport.close()


def _has_close(boundaries: Boundaries, data: bytes) -> bool:
    """Whether a close frame begins in this part of a client's stream."""
    begins = boundaries.at_rest
    for piece in boundaries.cut(data):
        if begins and piece[:1] == _WHOLE_CLOSE:
            return True
        begins = True
    return False
