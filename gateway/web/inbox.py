"""What a client sends, cut into messages.

aiohttp's parser (in C) does that, but for what nearly all of it is: one short frame that comes alone. A
pong, up to once a second from each client, and the few requests of a client that does not compress are
read here, at a third of the cost; and a connection that sends nothing else never has a parser.
"""

from __future__ import annotations

import zlib
from typing import Any, Final, Protocol, cast

from aiohttp import WSMessage, WSMsgType
from aiohttp._websocket.models import WebSocketError
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader

from gateway.core import frames
from gateway.core.frames import Boundaries

_NO_CODE: Final = 1005
"""Never on the wire; what a browser calls a close frame without a code (RFC 6455 §7.4.1)."""

_PROTOCOL_ERROR: Final = 1002  # RFC 6455 §7.4.1
_INVALID_DATA: Final = 1007

_USUAL_CLOSES: Final = {b"": _NO_CODE, b"\x03\xe8": 1000, b"\x03\xe9": 1001}
"""By payload: a crowd that leaves at once is no reason to make a parser for each. Others are checked by it."""


class Listener(Protocol):
    """Hears what a client sends."""

    def text(self, message: bytes) -> None:
        """A text message came: valid UTF-8."""

    def binary(self) -> None:
        """A binary message came."""

    def ping(self, payload: bytes) -> None:
        """A ping came."""

    def pong(self, payload: bytes) -> None:
        """A pong came."""

    def closed(self, code: int) -> None:
        """The client's close frame came; 1005 when it names no code. Nothing follows."""

    def violated(self, code: int) -> None:
        """The client has broken the protocol and is to be closed with ``code``. Nothing follows."""

    def failed(self, error: Exception) -> None:
        """What was heard could not be served."""


class Inbox:
    """Reads one client's stream.

    Args:
        max_bytes: the longest message.
        compress: whether permessage-deflate was agreed on.
    """

    __slots__ = ("_boundaries", "_compress", "_listener", "_max_bytes", "_over", "_parser")

    def __init__(self, listener: Listener, max_bytes: int, *, compress: bool) -> None:
        self._listener = listener
        self._max_bytes = max_bytes
        self._compress = compress
        self._over = False
        self._parser: WebSocketReader | None = None
        self._boundaries: Boundaries | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream. Part of the hot path."""
        if self._over:
            return
        if (self._boundaries is None or self._boundaries.at_rest) and frames.is_short(data):
            if data[0] == frames.WHOLE_PONG:
                self._listener.pong(frames.unmasked(data))
                return
            # With a parser, a message may be half there: only it knows what a text is then.
            if data[0] == frames.WHOLE_TEXT and self._parser is None:
                text = frames.unmasked(data)
                if _is_utf8(text):
                    self._listener.text(text)
                    return
            elif data[0] == frames.WHOLE_CLOSE:
                code = _USUAL_CLOSES.get(frames.unmasked(data))
                if code is not None:
                    self._close(code)
                    return
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        if self._parser is None or self._boundaries is None:
            self._boundaries = Boundaries()
            self._parser = WebSocketReader(
                _Messages(self), self._max_bytes, compress=self._compress, decode_text=True
            )
        unmasked = self._boundaries.follow(data)
        self._parser.feed_data(data if unmasked is None else data[:unmasked])
        if unmasked is not None:  # aiohttp's parser would take it
            self.fail(_PROTOCOL_ERROR)

    def release(self) -> None:
        """Nothing more will come: the parser, which knows this inbox, is freed with it."""
        self._over = True
        self._parser = None

    def take(self, message: WSMessage) -> None:
        """Take a message from the parser."""
        if self._over:
            return
        try:
            self._hear(message)
        except Exception as error:  # noqa: BLE001 - the listener logs it
            # It would end the parser, and the client's answer to our close frame would not be heard.
            self._listener.failed(error)

    def _hear(self, message: WSMessage) -> None:
        listener = self._listener
        match message.type:
            case WSMsgType.PONG:
                listener.pong(bytes(message.data))
            case WSMsgType.TEXT:
                listener.text(message.data.encode())
            case WSMsgType.PING:
                listener.ping(bytes(message.data))
            case WSMsgType.BINARY:
                listener.binary()
            case WSMsgType.CLOSE:
                self._close(message.data or _NO_CODE)

    def _close(self, code: int) -> None:
        self._over = True
        self._listener.closed(code)

    def fail(self, code: int) -> None:
        """Take the parser's complaint, as a close code."""
        if not self._over:
            self._over = True
            self._listener.violated(code)


class _Messages(WebSocketDataQueue):
    """Where aiohttp's parser puts messages: a queue that hands them on and so is always empty."""

    def __init__(self, inbox: Inbox) -> None:
        # It asks neither for the protocol nor for the loop before something is in it.
        super().__init__(cast(Any, None), 1, loop=cast(Any, None))
        self._inbox = inbox

    def feed_data(self, data: Any, _size: int) -> None:
        """Take a message from the parser."""
        self._inbox.take(data)

    def set_exception(self, exc: BaseException, _cause: Any = None) -> None:
        """Take what stopped the parser."""
        if isinstance(exc, WebSocketError):
            self._inbox.fail(exc.code)
        elif isinstance(exc, zlib.error):
            # Not what a compressed message is (RFC 7692 §7.2.2); aiohttp has no word for it.
            self._inbox.fail(_INVALID_DATA)
        else:
            raise exc


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
