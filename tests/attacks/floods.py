"""Attackers that have a token: frames without end, and frames that are made to be expensive."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator

from tests.attacks.target import Line, Target
from tests.support.client_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    client_frame,
    squeezed,
)

_BLOCK_BYTES = 65_536
# A budget bears 1,200 reads a second, each with a part of a frame.
_BYTE_SECONDS = 1 / 1_200
_MAX_MESSAGE_BYTES = 16_384
_MAX_READ_BYTES = 16 * _MAX_MESSAGE_BYTES
_DEFLATE = "permessage-deflate"

HEARTBEAT = client_frame(TEXT, b'{"type":"heartbeat"}')


def said(**message: object) -> bytes:
    """A message of the protocol, as a frame."""
    return client_frame(TEXT, json.dumps(message).encode())


def block(*frames: bytes) -> bytes:
    """The frames, over and over."""
    once = b"".join(frames)
    return once * max(1, _BLOCK_BYTES // len(once))


async def _flood(target: Target, data: bytes, opening: bytes = b"", extensions: str = "") -> None:
    async def once(number: int) -> None:
        async with target.client(f"attacker-{number}", extensions=extensions) as line:
            await line.send(opening)
            await line.flood(data)

    await target.for_some_time(once, target.size.clients)


# -- fragments ------------------------------------------------------------------------------------

_BEGINNING = client_frame(TEXT, b'"', fin=False)


async def empty_continuations(target: Target) -> None:
    await _flood(target, block(client_frame(CONTINUATION, fin=False)), _BEGINNING)


async def fragments_of_one_byte(target: Target) -> None:
    await _flood(target, block(client_frame(CONTINUATION, b"a", fin=False)), _BEGINNING)


async def messages_in_fragments_of_one_byte(target: Target) -> None:
    heartbeat = [bytes([byte]) for byte in b'{"type":"heartbeat"}']
    frames = [client_frame(CONTINUATION, each, fin=False) for each in heartbeat[1:]]
    first = client_frame(TEXT, heartbeat[0], fin=False)
    await _flood(target, block(first, *frames, client_frame(CONTINUATION)))


async def control_frames_amid_a_message(target: Target) -> None:
    frames = (client_frame(PING, b"x"), client_frame(PONG, b"x"))
    await _flood(target, block(*frames, client_frame(CONTINUATION, fin=False)), _BEGINNING)


# -- control frames -------------------------------------------------------------------------------


async def pings(target: Target) -> None:
    await _flood(target, block(client_frame(PING)))


async def long_pings(target: Target) -> None:
    await _flood(target, block(client_frame(PING, b"p" * 125)))


async def unasked_pongs(target: Target) -> None:
    await _flood(target, block(client_frame(PONG)))


async def long_pongs(target: Target) -> None:
    await _flood(target, block(client_frame(PONG, b"p" * 125)))


async def pongs_after_its_own_close_frame(target: Target) -> None:
    await _flood(target, block(client_frame(PONG)), client_frame(CLOSE, b"\x03\xe8"))


async def pongs_after_the_nodes_close_frame(target: Target) -> None:
    """The caller gives tokens no leeway, so that the node closes when they end."""
    pongs = block(client_frame(PONG))

    async def once(number: int) -> None:
        async with target.client(f"attacker-{number}", exp=time.time() + 0.3) as line:
            await line.until(b"token_expired")
            await line.flood(pongs)

    await target.for_some_time(once, target.size.clients)


# -- messages -------------------------------------------------------------------------------------


async def heartbeats(target: Target) -> None:
    await _flood(target, block(HEARTBEAT))


async def mistakes(target: Target) -> None:
    await _flood(target, block(client_frame(TEXT, b"{")))


async def long_mistakes(target: Target) -> None:
    await _flood(target, block(client_frame(TEXT, b"[" * _MAX_MESSAGE_BYTES)))


async def unknown_types(target: Target) -> None:
    await _flood(target, block(said(type="t" * 1_000, channel="c" * 10_000)))


async def binary_messages(target: Target) -> None:
    await _flood(target, block(client_frame(BINARY, b"x")))


async def messages_just_small_enough(target: Target) -> None:
    message = json.dumps({"type": "heartbeat"}).ljust(_MAX_MESSAGE_BYTES).encode()
    await _flood(target, block(client_frame(TEXT, message)))


async def messages_just_too_large(target: Target) -> None:
    await _flood(target, block(client_frame(TEXT, b" " * (_MAX_MESSAGE_BYTES + 1))))


async def messages_at_the_limit_of_reading(target: Target) -> None:
    await _flood(target, client_frame(TEXT, b" " * _MAX_READ_BYTES))


async def messages_too_large_to_be_read(target: Target) -> None:
    await _flood(target, client_frame(TEXT, b" " * (_MAX_READ_BYTES + 1)))


# -- compressed messages --------------------------------------------------------------------------


async def deflate_bombs(target: Target) -> None:
    """Each becomes a thousand times larger, up to what is read."""
    bomb = client_frame(TEXT, squeezed(b" " * _MAX_READ_BYTES), reserved=RSV1)
    await _flood(target, block(bomb), extensions=_DEFLATE)


async def deflate_bombs_without_end(target: Target) -> None:
    bomb = client_frame(TEXT, squeezed(bytes(64 * _MAX_READ_BYTES)), reserved=RSV1)
    await _flood(target, bomb, extensions=_DEFLATE)


async def empty_deflate_blocks(target: Target) -> None:
    """They inflate to nothing, however many there are."""
    nothing = (b"\x00\x00\x00\xff\xff" * (_MAX_READ_BYTES // 5))[:-4]
    await _flood(target, client_frame(TEXT, nothing, reserved=RSV1), extensions=_DEFLATE)


# -- frames that do not end -----------------------------------------------------------------------


async def half_sent_frames(target: Target) -> None:
    """Each client holds one, as long as may be read, and without its last byte."""
    frame = client_frame(TEXT, b" " * _MAX_READ_BYTES)[:-1]

    @contextlib.asynccontextmanager
    async def one(number: int) -> AsyncIterator[Line]:
        async with target.client(f"attacker-{number}") as line:
            await line.send(frame)
            yield line

    await target.hold([one(number) for number in range(target.size.crowd)])


async def frames_byte_by_byte(target: Target) -> None:
    frame = said(type="heartbeat", comment="." * 1_000)

    async def once(number: int) -> None:
        async with target.client(f"attacker-{number}") as line:
            for byte in itertools.cycle(frame):
                await line.send(bytes([byte]))
                await asyncio.sleep(_BYTE_SECONDS)

    await target.for_some_time(once, target.size.clients)
