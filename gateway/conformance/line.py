"""One WebSocket as it is: each frame, when it came, and whatever breaks a rule (RFC 6455 §5, RFC 7692 §7)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle
from operator import xor
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any, Final

import orjson

from gateway.conformance.opening import Opening
from gateway.conformance.receiving import Receiving
from gateway.conformance.verdicts import Failed

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_LARGEST_BYTES: Final = 32 * 2**20
_SMALL_BUFFER_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class End:
    """How the server has ended a connection; 1006 where no close frame came (RFC 6455 §7.1.5)."""

    code: int
    reason: str

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".rstrip()


class Line(Receiving[End]):
    """A connection from its 101 on. Pings are answered, unless it is ``deaf``.

    Attributes:
        compressed: messages that came compressed.
        arrays: frames that held an array of messages.
        pings: when each ping came, in seconds of a monotonic clock.
        broken: what the server did that no server may, in a few words each.
        has_stopped: whether it has stopped reading at some time: the end of the TCP connection may then overtake a close frame.
        before_end: the last message before the end.
    """

    def __init__(self, opening: Opening, *, patience: float, deaf: bool = False) -> None:
        super().__init__(patience)
        self.opening = opening
        self.deaf = deaf
        self.compressed = 0
        self.arrays = 0
        self.pings: list[float] = []
        self.broken: list[str] = []
        self.has_stopped = False
        self.before_end: dict[str, Any] = {}
        self._may_compress = "permessage-deflate" in opening.fields.get(
            "sec-websocket-extensions", ""
        )
        self._reads = asyncio.Event()
        self._reads.set()
        self._pongs: asyncio.Queue[bytes] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    # -- what the client does --------------------------------------------------------------------

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self.send_frame(TEXT, orjson.dumps(message))

    def send_frame(
        self, opcode: int, payload: bytes, *, last: bool = True, masked: bool = True
    ) -> None:
        """Send a frame, right or wrong."""
        self.opening.writer.write(_framed(opcode, payload, last, masked))

    def send_together(self, payloads: Iterable[bytes]) -> None:
        """Send text frames in one write."""
        self.opening.writer.write(b"".join(_framed(TEXT, each, True, True) for each in payloads))

    async def close(self) -> None:
        """Close as a client does; what comes of it is in ``ended``."""
        self.send_frame(CLOSE, struct.pack("!H", 1000))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.ended), self.patience)

    async def drop(self) -> None:
        """Let go of the connection without a word."""
        self._reading.cancel()
        self.opening.writer.transport.abort()
        await asyncio.wait([self._reading])

    def stop_reading(self) -> None:
        """Take no more than the buffers of this machine take, which are small from now on."""
        socket = self.opening.writer.get_extra_info("socket")
        socket.setsockopt(SOL_SOCKET, SO_RCVBUF, _SMALL_BUFFER_BYTES)
        self._reads.clear()
        self.has_stopped = True

    def read_on(self) -> None:
        """Take what has come, and comes."""
        self._reads.set()

    # -- what comes --------------------------------------------------------------------------------

    async def pong(self, seconds: float | None = None) -> bytes:
        """The payload of the next pong.

        Raises:
            Failed: none comes in time.
        """
        seconds = self.patience if seconds is None else seconds
        try:
            return await asyncio.wait_for(self._pongs.get(), seconds)
        except TimeoutError:
            raise Failed("no pong came") from None

    async def at_end_of_stream(self) -> bool:
        """Whether the server ends the TCP connection in time."""
        done, _ = await asyncio.wait([self._reading], timeout=self.patience)
        return bool(done)

    # -- frames ------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read until the stream ends."""
        try:
            while await self._reads.wait():
                await self._message()
        except (asyncio.IncompleteReadError, OSError):
            pass
        except (ValueError, zlib.error) as error:
            self.broken.append(str(error))
        if not self.ended.done():
            self.ended.set_result(End(1006, ""))

    async def _frame(self) -> tuple[int, bool, bool, bytes]:
        """Opcode, whether it is the last of its message, whether it is compressed, and the payload."""
        reader = self.opening.reader
        first, second = await reader.readexactly(2)
        if first & 0x30 or second & 0x80:
            raise ValueError("a frame with reserved bits, or a masked one, came from the server")
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
        if size > _LARGEST_BYTES:
            raise ValueError("a frame of more than 32 MiB came")
        payload = await reader.readexactly(size)
        return first & 0xF, bool(first & 0x80), bool(first & 0x40), payload

    async def _message(self) -> None:
        opcode, last, compressed, payload = await self._frame()
        if opcode >= CLOSE:
            self._control(opcode, payload)
            return
        if opcode != TEXT:
            raise ValueError(f"a frame with opcode {opcode} came, where messages are text")
        while not last:
            following, last, _, more = await self._frame()
            if following >= CLOSE:
                last = False
                self._control(following, more)
            else:
                payload += more
        if compressed:
            if not self._may_compress:
                raise ValueError("a compressed message came, which was not agreed on")
            self.compressed += 1
            # Each by itself, as no context is taken over.
            payload = zlib.decompressobj(wbits=-15).decompress(payload + b"\0\0\xff\xff")
        self._take(payload)

    def _take(self, payload: bytes) -> None:
        try:
            value = orjson.loads(payload)
        except orjson.JSONDecodeError:
            raise ValueError("a message came that is not JSON") from None
        if isinstance(value, list):
            self.arrays += 1
        for message in value if isinstance(value, list) else [value]:
            if not isinstance(message, dict) or not isinstance(message.get("type"), str):
                raise ValueError("a message came that is no object with a type")  # noqa: TRY004 - what came is wrong, not a call
            self.before_end = message
            self.put(message)

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.pings.append(time.monotonic())
            if not self.deaf:
                self.send_frame(PONG, payload)
        elif opcode == PONG:
            self._pongs.put_nowait(payload)
        elif opcode == CLOSE and not self.ended.done():
            code = int.from_bytes(payload[:2]) if payload else 1005
            self.ended.set_result(End(code, payload[2:].decode(errors="replace")))
            with contextlib.suppress(OSError):
                self.send_frame(CLOSE, payload[:2])


def _framed(opcode: int, payload: bytes, last: bool, masked: bool) -> bytes:
    """A frame as a client sends it, right or wrong (RFC 6455 §5.2)."""
    size, flag = len(payload), 0x80 if masked else 0
    head = bytes([(0x80 if last else 0) | opcode])
    if size < 126:
        head += bytes([flag | size])
    elif size < 65_536:
        head += struct.pack("!BH", flag | 126, size)
    else:
        head += struct.pack("!BQ", flag | 127, size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(map(xor, payload, cycle(mask)))
