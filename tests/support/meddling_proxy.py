"""A proxy that does to WebSockets, event streams and polls what proxies do wrong: to heads, to messages, to the time at which they come."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.support.client_frames import CLOSE, PING, PONG, TEXT, client_frame, masked


class Frame(NamedTuple):
    """A frame, unmasked."""

    first: int
    payload: bytes

    @property
    def opcode(self) -> int:
        return self.first & 0xF


Frames = list[Frame]


class Cut(Exception):
    """Both ends are let go of, without a close frame."""


def text(message: Any) -> Frame:
    """A message in a frame."""
    return Frame(0x80 | TEXT, json.dumps(message).encode())


@dataclass(frozen=True)
class Meddling:
    """What is done. Heads are whole, with the empty line; an answer without a body of its own gets the server's.

    ``up`` and ``down`` return what goes on in a frame's place, and what is sent back to where it came from.
    ``told`` returns what goes on in the place of a message that is sent over HTTP, ``block`` in that of a block of an event stream.
    ``idle_seconds``: after so long without a byte from either side both ends are let go of.
    ``late_seconds``: what the server sends is held back for so long.
    ``gathers``: an answer is passed on when it has ended.
    """

    request: Callable[[bytes], bytes] = lambda head: head
    answer: Callable[[bytes], bytes] = lambda head: head
    up: Callable[[Frame], tuple[Frames, Frames]] = lambda frame: ([frame], [])
    down: Callable[[Frame], tuple[Frames, Frames]] = lambda frame: ([frame], [])
    told: Callable[[dict[str, Any]], list[Any]] | None = None
    block: Callable[[bytes], bytes] = lambda block: block
    idle_seconds: float | None = None
    late_seconds: float = 0.0
    gathers: bool = False


def messages(change: Callable[[dict[str, Any]], list[Any]]) -> Meddling:
    """Puts what ``change`` returns in the place of each uncompressed message of the server, whichever way it takes."""

    def down(frame: Frame) -> tuple[Frames, Frames]:
        if frame.first != 0x80 | TEXT:
            return [frame], []
        return [text(each) for each in change(json.loads(frame.payload))], []

    return Meddling(down=down, told=change)


def without(*types: str) -> Meddling:
    """Swallows the server's messages of these types."""
    return messages(lambda message: [] if message["type"] in types else [message])


def cut(frame: Frame) -> tuple[Frames, Frames]:
    """Ends the connection in the place of a close frame: what clients see as 1006."""
    if frame.opcode == CLOSE:
        raise Cut
    return [frame], []


def no_pings(frame: Frame) -> tuple[Frames, Frames]:
    """Swallows pings."""
    return [] if frame.opcode == PING else [frame], []


def no_pongs(frame: Frame) -> tuple[Frames, Frames]:
    """Swallows pongs."""
    return [] if frame.opcode == PONG else [frame], []


def answers_pings(frame: Frame) -> tuple[Frames, Frames]:
    """Answers the server's pings in the client's place."""
    return ([], [Frame(0x80 | PONG, frame.payload)]) if frame.opcode == PING else ([frame], [])


def close_of(code: int, reason: bytes = b"") -> Callable[[Frame], tuple[Frames, Frames]]:
    """Closes with another code."""
    other = Frame(0x80 | CLOSE, struct.pack("!H", code) + reason)
    return lambda frame: ([other if frame.opcode == CLOSE else frame], [])


@contextlib.asynccontextmanager
async def meddling_proxy(port: int, meddling: Meddling) -> AsyncIterator[str]:
    """Leads to ``port``; yields the URL to connect to."""
    links: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        links.add(task)
        there = await asyncio.open_connection("127.0.0.1", port, limit=2**18)
        # What a client does not take waits in the server, and not here.
        for end, option in ((writer, socket.SO_SNDBUF), (there[1], socket.SO_RCVBUF)):
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 65_536)
        try:
            await _lead((reader, writer), there, meddling)
        except (Cut, OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            there[1].transport.abort()
            links.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for each in list(links):
            each.cancel()
        await asyncio.gather(*links, return_exceptions=True)


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _lead(client: Ends, server: Ends, meddling: Meddling) -> None:
    given = await client[0].readuntil(b"\r\n\r\n")
    asked = meddling.request(given)
    if asked.startswith(b"HTTP/"):
        client[1].write(asked)
    else:
        server[1].write(asked)
        if (length := _length(given)) is not None:
            server[1].write(await client[0].readexactly(length))
        head = await asyncio.wait_for(server[0].readuntil(b"\r\n\r\n"), meddling.idle_seconds)
        if b" 101 " in head:
            client[1].write(meddling.answer(head))
            await _pass_on(client, server, meddling)
            return
        await _answer(client[1], server[0], head, meddling)
    await client[1].drain()
    client[1].close()
    await client[1].wait_closed()


def _length(head: bytes) -> int | None:
    found = re.search(rb"(?im)^content-length: *(\d+)", head)
    return int(found[1]) if found else None


async def _answer(
    client: asyncio.StreamWriter, server: asyncio.StreamReader, head: bytes, meddling: Meddling
) -> None:
    """Pass on an answer that is no 101."""
    if b"text/event-stream" not in head or meddling.gathers:
        body = await server.read()
        if meddling.told is not None and body.startswith(b"["):
            body = json.dumps(_told(json.loads(body), meddling)).encode()
            head = re.sub(rb"(?i)(content-length: *)\d+", rb"\g<1>%d" % len(body), head)
        client.write(meddling.answer(head) + body)
        return
    client.write(meddling.answer(head))
    while True:
        reading = server.readuntil(b"\n\n")
        client.write(_block(await asyncio.wait_for(reading, meddling.idle_seconds), meddling))


def _block(block: bytes, meddling: Meddling) -> bytes:
    *fields, last = block.removesuffix(b"\n\n").split(b"\n")
    if meddling.told is not None and last.startswith(b"data: "):
        told = _told([json.loads(last.removeprefix(b"data: "))], meddling)
        before = b"".join(each + b"\n" for each in fields)
        block = b"".join(before + b"data: %b\n\n" % json.dumps(each).encode() for each in told)
    return meddling.block(block)


def _told(messages: list[Any], meddling: Meddling) -> list[Any]:
    assert meddling.told is not None
    return [each for message in messages for each in meddling.told(message)]


async def _pass_on(client: Ends, server: Ends, meddling: Meddling) -> None:
    """Until one end has gone, or is let go of."""
    loop = asyncio.get_running_loop()
    seen = [loop.time()]
    ways = [_pump(client, server, meddling, seen, down=False)]
    ways.append(_pump(server, client, meddling, seen, down=True))
    if meddling.idle_seconds is not None:
        ways.append(_watch(meddling.idle_seconds, seen))
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(
    source: Ends, sink: Ends, meddling: Meddling, seen: list[float], *, down: bool
) -> None:
    change = meddling.down if down else meddling.up
    while True:
        frame = await _frame(source[0])
        seen[0] = asyncio.get_running_loop().time()
        if down and meddling.late_seconds:
            await asyncio.sleep(meddling.late_seconds)
        onward, back = change(frame)
        sink[1].write(b"".join(_bytes(each, to_server=not down) for each in onward))
        source[1].write(b"".join(_bytes(each, to_server=down) for each in back))
        await sink[1].drain()


async def _watch(idle_seconds: float, seen: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while (left := seen[0] + idle_seconds - loop.time()) > 0:
        await asyncio.sleep(left)
    raise Cut


async def _frame(reader: asyncio.StreamReader) -> Frame:
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
    mask = await reader.readexactly(4) if second & 0x80 else b""
    payload = await reader.readexactly(size)
    return Frame(first, masked(payload, mask) if mask else payload)


def _bytes(frame: Frame, *, to_server: bool) -> bytes:
    given = client_frame(frame.opcode, frame.payload, **({} if to_server else {"mask": None}))
    return bytes([frame.first]) + given[1:]
