"""What a client sends, cut into messages.

The parser of ``websockets`` does that, but for what nearly all of it is: one short frame that comes alone. A
pong, up to once a second from each client, and the few requests of a client that does not compress are
read here, at a quarter of the cost; and a connection that sends nothing else never has a parser.
"""

from __future__ import annotations

from typing import Final, Protocol

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER
from websockets.protocol import Protocol as Parser

from gateway.core import frames
from gateway.core.frames import Boundaries

_NO_CODE: Final = 1005
"""Never on the wire; what a browser calls a close frame without a code (RFC 6455 §7.4.1)."""

_INVALID_DATA: Final = 1007  # RFC 6455 §7.4.1

_USUAL_CLOSES: Final = {b"": _NO_CODE, b"\x03\xe8": 1000, b"\x03\xe9": 1001}
"""By payload: a crowd that leaves at once is no reason to make a parser for each. Others are checked by it."""

_SLICE_BYTES: Final = 16 * 1024
"""The parser gets so much at once: it returns all frames of it before the first of them is judged."""

# What a compressing client may do (RFC 7692 §7.1): any window, and messages that rest on those before them.
_CLIENT_KEEPS_CONTEXT: Final = False
_CLIENT_WINDOW_BITS: Final = 15


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

    __slots__ = (
        "_boundaries",
        "_compress",
        "_listener",
        "_max_bytes",
        "_over",
        "_parser",
        "_text_so_far",
    )

    def __init__(self, listener: Listener, max_bytes: int, *, compress: bool) -> None:
        self._listener = listener
        self._max_bytes = max_bytes
        self._compress = compress
        self._over = False
        self._parser: Parser | None = None
        self._boundaries: Boundaries | None = None
        # Of a text in fragments; ``None`` when none is under way. Of binary messages nothing is kept.
        self._text_so_far: bytearray | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream. Part of the hot path."""
        if self._over:
            return
        if (self._boundaries is None or self._boundaries.at_rest) and frames.is_short(data):
            if data[0] == frames.WHOLE_PONG:
                self._listener.pong(frames.unmasked(data))
                return
            # With a parser, a message may be half there: only it knows what a text or a close is then.
            if self._parser is None:
                if data[0] == frames.WHOLE_TEXT:
                    self._text(frames.unmasked(data))
                    return
                if (
                    data[0] == frames.WHOLE_CLOSE
                    and (payload := frames.unmasked(data)) in _USUAL_CLOSES
                ):
                    self._close(_USUAL_CLOSES[payload])
                    return
        self._parse(data)

    def release(self) -> None:
        """Nothing more will come."""
        self._over = True
        self._parser = self._text_so_far = None

    def _parse(self, data: bytes) -> None:
        if self._parser is None or self._boundaries is None:
            self._boundaries = Boundaries()
            self._parser = Parser(SERVER, max_size=self._max_bytes)
            if self._compress:
                self._parser.extensions = [
                    PerMessageDeflate(
                        _CLIENT_KEEPS_CONTEXT, True, _CLIENT_WINDOW_BITS, _CLIENT_WINDOW_BITS
                    )
                ]
        parser = self._parser
        self._boundaries.follow(data)
        for start in range(0, len(data), _SLICE_BYTES):
            parser.receive_data(data[start : start + _SLICE_BYTES])
            # It answers pings and close frames, and the node has answers of its own.
            parser.data_to_send()
            for event in parser.events_received():
                if isinstance(event, Frame) and not self._over:
                    self._take(parser, event)
            if self._over:
                return
            if parser.parser_exc is not None and parser.close_sent is not None:
                self._fail(parser.close_sent.code)
                return

    def _take(self, parser: Parser, frame: Frame) -> None:
        try:
            self._hear(parser, frame)
        except Exception as error:  # noqa: BLE001 - the listener logs it
            self._listener.failed(error)

    def _hear(self, parser: Parser, frame: Frame) -> None:
        listener = self._listener
        match frame.opcode:
            case Opcode.PONG:
                listener.pong(bytes(frame.data))
            case Opcode.PING:
                listener.ping(bytes(frame.data))
            case Opcode.CLOSE:
                assert parser.close_rcvd is not None
                self._close(parser.close_rcvd.code)
            case _:
                self._assemble(frame)

    def _assemble(self, frame: Frame) -> None:
        """Take a message, or a fragment of one (RFC 6455 §5.4)."""
        if frame.opcode is Opcode.TEXT:
            self._text_so_far = bytearray()
        elif frame.opcode is Opcode.BINARY:
            self._text_so_far = None
        if self._text_so_far is not None:
            self._text_so_far += frame.data
        if frame.fin:
            text, self._text_so_far = self._text_so_far, None
            if text is None:
                self._listener.binary()
            else:
                self._text(bytes(text))

    def _text(self, message: bytes) -> None:
        try:
            message.decode()
        except UnicodeDecodeError:
            self._fail(_INVALID_DATA)
            return
        self._listener.text(message)

    def _close(self, code: int) -> None:
        self._over = True
        self._listener.closed(code)

    def _fail(self, code: int) -> None:
        self._over = True
        self._listener.violated(code)
