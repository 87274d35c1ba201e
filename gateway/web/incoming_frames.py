"""What a client sends, cut into messages.

The parser of ``websockets`` does that, but for what nearly all of it is: one short frame that comes alone. A
pong, up to once a second from each client, and the few requests of a client that does not compress are
read here, at a quarter of the cost; and a connection that sends nothing else never has a parser.
"""

from __future__ import annotations

import logging
import zlib
from typing import Final, Protocol

from websockets.exceptions import PayloadTooBig
from websockets.extensions import Extension
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SERVER
from websockets.protocol import Protocol as Parser
from websockets.typing import ExtensionName

from gateway.core import budget, frames
from gateway.core.frames import Boundaries

_NO_CODE: Final = 1005
"""Never on the wire; what a browser calls a close frame without a code (RFC 6455 §7.4.1)."""

_USUAL_CLOSES: Final = {b"": _NO_CODE, b"\x03\xe8": 1000, b"\x03\xe9": 1001}
"""By payload: a crowd that leaves at once is no reason to make a parser for each. Others are checked by it."""

_MOST_STREAMS: Final = 4
"""Deflate streams in one message. Each costs a decompressor, and no client has a reason to end one amid a message."""

FRAMES_PER_TURN: Final = 16
BYTES_PER_TURN: Final = 65_536
"""Of one client, in one turn of the event loop: a frame may ask for a hundred times what it takes to parse it."""

_PARSER_LOG: Final = logging.getLogger(f"{__name__}.parser")
# At the level of debugging it would write down what clients say, and a token that they refresh among it.
_PARSER_LOG.setLevel(logging.ERROR)


class Listener(Protocol):
    """Hears what a client sends."""

    def arrived(self, cost: float) -> bool:
        """Bytes came that cost so much, and are about to be parsed. ``False``: nothing more is to be heard."""

    def text(self, message: bytes, paid: float = 0.0) -> None:
        """A text message came: valid UTF-8. So much was ``paid`` for its bytes."""

    def binary(self, message: bytes) -> None:
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
        "_deflate",
        "_kind",
        "_listener",
        "_max_bytes",
        "_over",
        "_paid",
        "_parser",
        "_so_far",
    )

    def __init__(self, listener: Listener, max_bytes: int, *, compress: bool) -> None:
        self._listener = listener
        self._max_bytes = max_bytes
        self._compress = compress
        self._over = False
        self._paid = 0.0
        self._parser: Parser | None = None
        self._boundaries: Boundaries | None = None
        self._deflate: Deflate | None = None
        # Of the message in fragments that is under way.
        self._kind = Opcode.TEXT
        self._so_far: bytearray | None = None

    def feed(self, data: bytes) -> int:
        """Take the next bytes of the stream. Part of the hot path.

        Returns how many of them, at the end, are left for another turn of the event loop.
        """
        if self._over:
            return 0
        try:
            if (self._boundaries is None or self._boundaries.at_rest) and frames.is_short(data):
                if data[0] == frames.WHOLE_PONG:
                    self._listener.pong(frames.unmasked(data))
                    return 0
                # With a parser, a message may be half there: only it knows what a text or a close is then.
                if self._parser is None:
                    if data[0] == frames.WHOLE_TEXT:
                        self._text(frames.unmasked(data))
                        return 0
                    if (
                        data[0] == frames.WHOLE_CLOSE
                        and (payload := frames.unmasked(data)) in _USUAL_CLOSES
                    ):
                        self._close(_USUAL_CLOSES[payload])
                        return 0
            return self._parse(data)
        except Exception as error:  # noqa: BLE001 - the listener logs it
            self._listener.failed(error)
            return 0

    def release(self) -> None:
        """Nothing more will be heard, and nothing is kept of what was."""
        self._over = True
        if self._parser is not None:
            # It knows its own generator and its error, which know it: it would be kept until some collection.
            self._parser.parser.close()
            self._parser.parser_exc = None
        self._parser = self._deflate = self._so_far = None

    def _parse(self, data: bytes) -> int:
        if self._parser is None or self._boundaries is None:
            self._boundaries = Boundaries()
            self._parser = Parser(SERVER, max_size=self._max_bytes, logger=_PARSER_LOG)
            if self._compress:
                self._deflate = Deflate()
                self._parser.extensions = [self._deflate]
        left = len(data)
        boundaries = self._boundaries
        pieces = boundaries.cut(data[:BYTES_PER_TURN], FRAMES_PER_TURN)
        # A frame is paid for before it is parsed, and judged before the next one is.
        for number, piece in enumerate(pieces, 1):
            ends_frame = number < len(pieces) or boundaries.at_rest
            cost = budget.arrived(len(piece), ends_frame=ends_frame, read=len(data))
            if not self._pay(cost):
                return 0
            self._parse_piece(self._parser, piece)
            if self._over:
                return 0
            left -= len(piece)
        return left

    def _pay(self, cost: float) -> bool:
        self._paid += cost
        if not self._listener.arrived(cost):
            self.release()
        return not self._over

    def _parse_piece(self, parser: Parser, piece: bytes) -> None:
        parser.receive_data(piece)
        # It answers pings and close frames, and the node has answers of its own.
        parser.data_to_send()
        for event in parser.events_received():
            if isinstance(event, Frame):
                self._take(parser, event)
        if not self._over and parser.parser_exc is not None:
            self._give_up(parser)

    def _give_up(self, parser: Parser) -> None:
        """The parser hears nothing more."""
        if parser.close_rcvd is not None:
            # It came amid a message in fragments, where a control frame may stand (RFC 6455 §5.4).
            self._close(parser.close_rcvd.code)
        elif parser.close_sent is not None:
            self._fail(parser.close_sent.code)

    def _take(self, parser: Parser, frame: Frame) -> None:
        try:
            self._hear(parser, frame)
        except Exception as error:  # noqa: BLE001 - the listener logs it
            self._listener.failed(error)
        # The parser keeps the frame until the next one.
        frame.data = b""

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
        if frame.opcode is not Opcode.CONT:
            self._kind = frame.opcode
            # Not bytes: they would be copied with each fragment.
            self._so_far = None if frame.fin else bytearray()
        if self._so_far is not None:
            self._so_far += frame.data
        if not frame.fin:
            return
        message = bytes(frame.data if self._so_far is None else self._so_far)
        self._so_far = None
        if self._deflate is not None and self._deflate.compressed:
            try:
                message = self._deflate.inflate(message, self._max_bytes)
            except zlib.error:
                self._fail(CloseCode.INVALID_DATA)
                return
            except PayloadTooBig:
                self._fail(CloseCode.MESSAGE_TOO_BIG)
                return
            if not self._pay(len(message) * budget.BYTE):
                return
        if self._kind is Opcode.TEXT:
            self._text(message)
        else:
            self._listener.binary(message)
        self._paid = 0.0

    def _text(self, message: bytes) -> None:
        try:
            message.decode()
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA)
            return
        self._listener.text(message, self._paid)

    def _close(self, code: int) -> None:
        self.release()
        self._listener.closed(code)

    def _fail(self, code: int) -> None:
        self.release()
        self._listener.violated(code)


class Deflate(Extension):
    """permessage-deflate, as clients use it: any window, and no message that rests on another one.

    A message is inflated when it is whole. The extension of ``websockets`` inflates each fragment, and counts
    towards the limit what comes out: of fragments that inflate to nothing there could be any number. It also
    hears nothing more after a deflate stream that has ended, which a client may do (RFC 7692 §7.2.3.4).

    ``compressed``: whether the message under way is.
    """

    name = ExtensionName("permessage-deflate")

    def __init__(self) -> None:
        self.compressed = False

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:  # noqa: ARG002 - the parser's
        """Note which messages are compressed. On any other frame the mark stays, and is a violation (§6.1)."""
        if frame.opcode in {Opcode.TEXT, Opcode.BINARY}:
            self.compressed, frame.rsv1 = frame.rsv1, False
        return frame

    def encode(self, frame: Frame) -> Frame:
        """Leave the parser's own answers as they are; nobody is sent them."""
        return frame

    def inflate(self, message: bytes, max_bytes: int) -> bytes:
        """The message as it was before it was compressed.

        Raises:
            zlib.error: it is not what compressing makes.
            PayloadTooBig: it has more than ``max_bytes``.
        """
        inflated = b""
        rest = message + frames.DEFLATE_TAIL
        for _ in range(_MOST_STREAMS):
            decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
            inflated += decompressor.decompress(rest, max_bytes + 1 - len(inflated))
            if len(inflated) > max_bytes:
                raise PayloadTooBig(None, max_bytes)
            if not decompressor.eof:
                return inflated
            # What comes after the end of a stream begins another one.
            rest = decompressor.unused_data
            if not rest:
                return inflated
        raise zlib.error("too many streams")
