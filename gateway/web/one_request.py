"""One request in HTTP to be answered when there is an answer, which may be a while; its body is read before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.web import tcp
from gateway.web.transport_owner import TransportOwner

_BODY_SECONDS: Final = 10.0
"""How long a client may take to send the body of its request."""
_TAKE_SECONDS: Final = 10.0
"""How long it may take nothing of its answer, or not close its side behind it."""
_SLOWEST: Final = 1024
"""Bytes of a second that it has to take of it, on the whole: an answer holds memory as long as it lasts."""
_LOOK_SECONDS: Final = 0.5
"""So often it is looked whether it has taken a long answer under TLS."""
_AT_ONCE: Final = 16 * 1024
"""What systems take over of an answer, whatever the line. TLS that is ended gives what is left a few seconds."""
_MOST_BEHIND: Final = 64 * 1024
"""Bytes that it may send behind the request. Nobody reads them."""

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class OneRequest(TransportOwner):
    """Reads a body of so many bytes, and answers once.

    Args:
        expects: bytes of the body.
        whole: called with the body.
        gone: called once when the connection is over.
    """

    __slots__ = ("_answered", "_expects", "_gone", "_late_at", "_received", "_whole")

    def __init__(
        self, expects: int, whole: Callable[[bytes], None], gone: Callable[[], None]
    ) -> None:
        super().__init__()
        self._expects = expects
        self._whole: Callable[[bytes], None] | None = whole
        self._gone = gone
        self._received = b""
        self._answered = False

    def begin(self, early: bytes) -> None:
        """Read on behind what has come with the request."""
        self._set_deadline(_BODY_SECONDS, self._transport.abort)
        self.data_received(early)

    def invite(self) -> None:
        """Ask for the body: a client may wait for that before it sends one (RFC 9110 §10.1.1)."""
        self._transport.write(_CONTINUE)

    def answer(self, data: bytes) -> None:
        """Send the answer, and end the connection."""
        if self._answered or self._transport.is_closing():
            return
        self._answered = True
        self._late_at = _now() + _TAKE_SECONDS + len(data) / _SLOWEST
        whole = self._taken + tcp.unacknowledged(self._transport) + len(data)
        self._transport.write(data)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        elif len(data) > _AT_ONCE and tcp.acknowledged(self._transport) is not None:
            self._look_soon(self._taken, whole)
            return
        else:
            self._transport.close()
        self._set_deadline(_TAKE_SECONDS, self._look, self._taken)

    @property
    def over(self) -> bool:
        """Whether an answer would reach nobody."""
        return self._answered or self._transport.is_closing()

    @property
    def _taken(self) -> int:
        """What has reached the client, or left the transport where the system does not tell: only differences count."""
        acknowledged = tcp.acknowledged(self._transport)
        return -self._transport.get_write_buffer_size() if acknowledged is None else acknowledged

    def _look(self, before: int) -> None:
        taken = self._taken
        if taken == before or _now() >= self._late_at:
            self._transport.abort()
        else:
            self._set_deadline(_TAKE_SECONDS, self._look, taken)

    def _look_soon(self, before: int, whole: int, quiet: float = 0.0) -> None:
        """End TLS when the ``whole`` answer was taken, which nobody tells; ``quiet``: seconds without anything that was."""
        taken = self._taken
        quiet = 0.0 if taken > before else quiet
        if taken >= whole:
            self._transport.close()
        elif quiet >= _TAKE_SECONDS or _now() >= self._late_at:
            self._transport.abort()
        else:
            self._set_deadline(_LOOK_SECONDS, self._look_soon, taken, whole, quiet + _LOOK_SECONDS)

    # -- from the transport (asyncio.Protocol) ------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """A part of the body has come, or what nobody has asked for."""
        self._received += data
        if len(self._received) > self._expects + _MOST_BEHIND:
            self._transport.abort()
        elif self._whole is not None and len(self._received) >= self._expects:
            whole, self._whole = self._whole, None
            body, self._received = self._received[: self._expects], b""
            self._expects = 0
            self._cancel_deadline()
            whole(body)

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone."""
        self._cancel_deadline()
        self._whole = None
        self._gone()


def _now() -> float:
    return asyncio.get_running_loop().time()
