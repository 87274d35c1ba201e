"""A client's stay, from the greeting to the end."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.core import closing
from gateway.core.closing import Closing
from gateway.node.connection import Connection
from gateway.node.requests import Dispatcher
from gateway.web.socket import ClientSocket

log = logging.getLogger(__name__)

Left = Callable[[Connection, int | None], None]
"""Told once that a client has left, and its close code; ``None`` when it is just gone."""


class Session:
    """Hands on what a client says, and sees to it that its end is noticed once."""

    __slots__ = ("_connection", "_dispatcher", "_left", "_socket")

    def __init__(
        self, dispatcher: Dispatcher, connection: Connection, socket: ClientSocket, left: Left
    ) -> None:
        self._dispatcher = dispatcher
        self._connection = connection
        self._socket = socket
        self._left: Left | None = left

    def begin(self, max_message_bytes: int, early: bytes) -> None:
        """Greet the client, and serve what it has said ``early`` and will say."""
        self._socket.serve(self, max_message_bytes)
        try:
            self._dispatcher.arrive(self._connection)
        except Exception as error:  # noqa: BLE001 - logged there
            self.failed(error)
        if early:
            self._socket.data_received(early)

    def text(self, message: bytes) -> None:
        """A text message came."""
        if not self._connection.closed:
            self._dispatcher.text(self._connection, message)

    def binary(self) -> None:
        """A binary message came."""
        if not self._connection.closed:
            self._dispatcher.binary(self._connection)

    def ping(self, payload: bytes) -> None:
        """A ping came."""
        if not self._connection.closed:
            self._dispatcher.ping(self._connection, payload)

    def pong(self, payload: bytes) -> None:
        """A pong came."""
        self._dispatcher.pong(self._connection, payload)

    def failed(self, error: Exception) -> None:
        """Something it said could not be served."""
        log.error("message_failed connection=%s", self._connection.id, exc_info=error)
        self._dispatcher.fail(self._connection)

    def closed(self, code: int) -> None:
        """The client has closed, or answered our close frame."""
        self._end(code, closing.NORMAL)

    def violated(self, code: int) -> None:
        """The client has broken the protocol."""
        self._end(code, Closing(code, ""))

    def lost(self) -> None:
        """The client is gone."""
        self._end(None, closing.NORMAL)

    def _end(self, code: int | None, reason: Closing) -> None:
        left, self._left = self._left, None
        if left is None:
            return
        try:
            left(self._connection, code)
        except Exception:
            log.exception("departure_failed connection=%s", self._connection.id)
        self._socket.finish(reason)
