"""A client of event streams and polls for tests, at the level of bytes: what comes is read as WHATWG HTML §9.2 has it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.support.waiting import PATIENCE

Fields = dict[str, str]


def address(path: str, token: str | None, channels: Sequence[str] = (), **more: str) -> str:
    """The path and query of a request."""
    parameters = [("channel", each) for each in channels] + list(more.items())
    if token is not None:
        parameters.append(("token", token))
    return f"{path}?{urlencode(parameters)}"


@dataclass
class Answer:
    """An answer in HTTP; names of fields are in lower case."""

    status: int
    fields: Fields
    body: bytes = b""

    @property
    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)


async def request(
    url: str,
    target: str,
    method: str = "GET",
    body: bytes = b"",
    trust: ssl.SSLContext | None = None,
    version: str = "1.1",
    **fields: str,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Answer]:
    """Send a request; returns the answer without its body. ``_`` in the name of a field stands for a hyphen."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port, ssl=trust, limit=2**20
    )
    lines = [f"{method} {target} HTTP/{version}", f"Host: {parts.netloc}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    async with asyncio.timeout(PATIENCE):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *rest = head.strip().split("\r\n")
    found = {name.lower(): value for name, value in (each.split(": ", 1) for each in rest)}
    if found.get("transfer-encoding") == "chunked":
        reader = _unchunked(reader)
    return reader, writer, Answer(int(first.split()[1]), found)


_PUMPS: set[asyncio.Task[None]] = set()


def _unchunked(reader: asyncio.StreamReader) -> asyncio.StreamReader:
    """What is in the chunks into which a proxy has cut a body (RFC 9112 §7.1)."""
    whole = asyncio.StreamReader()

    async def pump() -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                whole.feed_data(await reader.readexactly(size))
                await reader.readexactly(2)
        whole.feed_eof()

    task = asyncio.create_task(pump())
    _PUMPS.add(task)
    task.add_done_callback(_PUMPS.discard)
    return whole


async def ask(
    url: str,
    target: str,
    method: str = "GET",
    body: bytes = b"",
    trust: ssl.SSLContext | None = None,
    **fields: str,
) -> Answer:
    """Send a request, and read the whole answer."""
    reader, writer, answer = await request(url, target, method, body, trust, **fields)
    async with asyncio.timeout(PATIENCE):
        answer.body = await reader.read()
    writer.close()
    return answer


@dataclass
class EventStream:
    """An open stream. ``last_id`` is what an ``EventSource`` would send as ``Last-Event-ID``, ``retry`` the last time to wait in
    milliseconds, ``comments`` the number of comments.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answer: Answer
    last_id: str = ""
    retry: int = 0
    comments: int = 0
    greeting: dict[str, Any] = field(default_factory=dict)
    retries: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """By which it is reached."""
        return str(self.greeting["stream"])

    async def _block(self) -> dict[str, str] | None:
        """The fields of the next block; ``None`` at the end."""
        try:
            async with asyncio.timeout(PATIENCE):
                text = (await self.reader.readuntil(b"\n\n")).decode()
        except asyncio.IncompleteReadError as error:
            assert not error.partial, error.partial
            return None
        fields = {}
        for line in text.strip("\n").split("\n"):
            name, _, value = line.partition(":")
            if not name:
                self.comments += 1
                continue
            assert name in {"id", "data", "retry"}, text
            assert name not in fields
            fields[name] = value.removeprefix(" ")
        self.last_id = fields.get("id", self.last_id)
        if "retry" in fields:
            self.retry = int(fields["retry"])
            self.retries.append(self.retry)
        return fields

    async def receive(self) -> Any:
        """The next message."""
        while True:
            fields = await self._block()
            assert fields is not None, "the stream has ended"
            if "data" in fields:
                return json.loads(fields["data"])

    async def expect(self, **wanted: Any) -> Any:
        """The next message, which must have these fields."""
        message = await self.receive()
        assert {name: message.get(name) for name in wanted} == wanted, message
        return message

    async def data(self, count: int) -> list[Any]:
        """The data of the next ``count`` messages."""
        return [(await self.receive())["data"] for _ in range(count)]

    async def skip(self) -> None:
        """Take a block that is no message."""
        fields = await self._block()
        assert fields is not None
        assert "data" not in fields

    async def next_comment(self) -> None:
        """Return when another comment has come."""
        before = self.comments
        while self.comments == before:
            await self.skip()

    async def ended(self) -> None:
        """Return when the stream has ended; no message may come before."""
        while (fields := await self._block()) is not None:
            assert "data" not in fields, fields


@contextlib.asynccontextmanager
async def event_stream(
    url: str,
    token: str | None,
    *channels: str,
    last_id: str = "",
    path: str = "/sse",
    trust: ssl.SSLContext | None = None,
    version: str = "1.1",
    **fields: str,
) -> AsyncIterator[EventStream]:
    """An open stream, greeted, and subscribed to these channels."""
    if last_id:
        fields["Last_Event_ID"] = last_id
    target = address(path, token, channels)
    reader, writer, answer = await request(url, target, trust=trust, version=version, **fields)
    assert answer.status == 200, answer
    stream = EventStream(reader, writer, answer)
    try:
        stream.greeting = await stream.expect(type="connected")
        yield stream
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def say(url: str, stream: str, message: Any, token: str, path: str = "/sse") -> Answer:
    """Say something to a stream, over any node."""
    fields = {"Content_Type": "application/json", "Authorization": f"Bearer {token}"}
    return await ask(url, f"{path}/{stream}", "POST", json.dumps(message).encode(), **fields)
