"""The opening handshake by hand, so that nothing of the answer is lost on the way through a library (RFC 6455 §4.1)."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from gateway.conformance.verdicts import Failed

SECONDS: Final = 20.0
"""A handshake may wait 15 s for its turn (docs/deployment.md)."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_MOST_HEAD_BYTES: Final = 65_536
_MOST_BODY_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Address:
    """Where a deployment is. ``query`` is what its URL brings along."""

    host: str
    port: int
    path: str
    query: str
    tls: ssl.SSLContext | None

    @property
    def authority(self) -> str:
        """As ``Host`` has it."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.tls else 80
        return name if self.port == usual else f"{name}:{self.port}"

    @property
    def base(self) -> str:
        """What stands before ``/ws``, ``/sse`` and ``/poll``."""
        return self.path.removesuffix("/").removesuffix("/ws")


def address_of(url: str) -> Address:
    """Read a URL.

    Raises:
        ValueError: it is none of a WebSocket. It is not told, since it may hold a token.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"ws", "wss"} or not parts.hostname or parts.username is not None:
        raise ValueError("--url must be ws://host… or wss://host…")
    tls = ssl.create_default_context() if parts.scheme == "wss" else None
    port = parts.port or (443 if tls else 80)
    return Address(parts.hostname, port, parts.path or "/", parts.query, tls)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a handshake asks with. An empty ``version`` makes it a plain request."""

    path: str
    headers: tuple[tuple[str, str], ...] = ()
    version: str = "13"


def joined(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The lines of a head as fields: in lower case, several of one name joined."""
    fields: dict[str, str] = {}
    for given, value in lines:
        name = given.lower()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


@dataclass(slots=True)
class Answer:
    """An answer in HTTP, with its fields as :func:`joined` has them."""

    status: int
    fields: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """What a refusal says of itself; empty where it is not the gateway's."""
        try:
            match orjson.loads(self.body):
                case {"error": dict() as told}:
                    return told
        except orjson.JSONDecodeError:
            pass  # a proxy's page
        return {}

    def told(self) -> str:
        """The answer in a few words."""
        code = self.error.get("code")
        return f"HTTP {self.status}" + (f" {code}" if code else "")


@dataclass(slots=True)
class Opening(Answer):
    """The answer to a handshake, and the socket that goes on from there. ``protocol`` is that of the status line."""

    protocol: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def open_by_hand(address: Address, asked: Asked) -> Opening:
    """Ask, and read the answer; whoever calls this closes the socket.

    Raises:
        Failed: there is no answer in HTTP, or one that accepts without the right key.
        OSError: nothing is there.
    """
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {asked.path} HTTP/1.1", f"Host: {address.authority}"]
    if asked.version:
        lines += [
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Version: {asked.version}",
            f"Sec-WebSocket-Key: {key}",
        ]
    lines += [f"{name}: {value}" for name, value in asked.headers]
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=address.tls, limit=_MOST_HEAD_BYTES
    )
    try:
        async with asyncio.timeout(SECONDS):
            writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
            opening = await _answer(reader, writer)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError) as error:
        writer.transport.abort()
        why = "in time" if isinstance(error, TimeoutError) else "in HTTP"
        raise Failed(f"the handshake has no answer {why}") from None
    except BaseException:
        writer.transport.abort()
        raise
    accept = base64.b64encode(sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    if opening.status == 101 and opening.fields.get("sec-websocket-accept") != accept:
        writer.transport.abort()
        raise Failed("the 101 has not the Sec-WebSocket-Accept of this key")
    return opening


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Opening:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    protocol, _, rest = first.partition(" ")
    if not protocol.startswith("HTTP/") or not rest[:3].isdigit():
        raise Failed("the handshake has no answer in HTTP")
    parts = (line.partition(":") for line in lines)
    fields = joined((name, value.strip()) for name, _, value in parts)
    status = int(rest[:3])
    body = b"" if status == 101 else await _body(reader, fields)
    return Opening(status, fields, body, protocol, reader, writer)


async def _body(reader: asyncio.StreamReader, fields: Mapping[str, str]) -> bytes:
    length = fields.get("content-length", "")
    if length.isdigit():
        return await reader.readexactly(min(int(length), _MOST_BODY_BYTES))
    if "chunked" not in fields.get("transfer-encoding", ""):
        return await reader.read(_MOST_BODY_BYTES) if "connection" in fields else b""
    body = b""
    while size := int((await reader.readline()).partition(b";")[0] or b"0", 16):
        body += (await reader.readexactly(size + 2))[:-2]
        if len(body) > _MOST_BODY_BYTES:
            break
    return body
