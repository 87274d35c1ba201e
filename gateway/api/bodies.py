"""Bodies of requests, read with a bound on their bytes and on the time that they take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from aiohttp import hdrs, web

from gateway.api.admission import Admitted
from gateway.api.problems import Problem, invalid, too_large

JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"

_BODY_SECONDS: Final = 30.0
_LINES_SECONDS: Final = 300.0
MOST_LINES: Final = 10_000
MOST_BYTES_OF_LINES: Final = 64 * 1024 * 1024
_MOST_OBJECTS: Final = 350_000
"""No message of the library has more, each with two brackets and a comma. The event loop stands still while they are made."""


async def read_json(request: web.Request, most: int, admitted: Admitted) -> Any:
    """What the body says, of at most ``most`` bytes.

    Raises:
        Problem: it is too large or too slow, no JSON, or says that it is something else; or there is no room for it.
    """
    _check_type(request, JSON)
    if (request.content_length or 0) > most:
        raise _body_over(most)
    parts, size = [], 0
    deadline = asyncio.get_running_loop().time() + _BODY_SECONDS
    while not request.content.at_eof():
        part = await _next_part(request, deadline)
        size += len(part)
        if size > most:
            raise _body_over(most)
        admitted.hold(len(part))
        parts.append(part)
    return parsed(b"".join(parts))


def _body_over(most: int) -> Problem:
    return too_large(f"the body has more than {most} bytes")


def parsed(text: bytes | bytearray) -> Any:
    """What a JSON text says.

    Raises:
        Problem: it is none, or makes too many objects.
    """
    if text.count(b"{") + text.count(b"[") > _MOST_OBJECTS:
        raise too_large(f"the JSON has more than {_MOST_OBJECTS} objects and lists")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise invalid(f"no JSON: {error.msg} at byte {error.pos}") from None


async def read_lines(
    request: web.Request, most: int, admitted: Admitted
) -> AsyncIterator[list[bytes | Problem]]:
    """The lines of a body as they come; one of more than ``most`` bytes is a problem in its place.

    Raises:
        Problem: the body is too large or too slow, has too many lines, or says that it is something else; or there is
            no room for it.
    """
    _check_type(request, LINES)
    if (request.content_length or 0) > MOST_BYTES_OF_LINES:
        raise _body_over(MOST_BYTES_OF_LINES)
    deadline = asyncio.get_running_loop().time() + _LINES_SECONDS
    cutter, size, count, part = _Cutter(most), 0, 0, b" "
    while part:
        part = await _next_part(request, deadline)
        size += len(part)
        held = len(part) + cutter.kept
        admitted.hold(len(part))
        lines = cutter.feed(part) if part else [line for line in cutter.end() if line]
        fitting = [line for line in lines[: MOST_LINES - count] if line]
        count += len(lines)
        if fitting:
            yield fitting
        admitted.change(cutter.kept - held)
        if count > MOST_LINES:
            raise too_large(f"the body has more than {MOST_LINES} lines; the rest is not published")
        if size > MOST_BYTES_OF_LINES:
            raise too_large(
                f"the body has more than {MOST_BYTES_OF_LINES} bytes; the rest is not published"
            )


async def _next_part(request: web.Request, deadline: float) -> bytes:
    """What comes next of a body; empty at its end."""
    content = request.content
    try:
        if content.is_eof():  # the rest is here: nothing needs a timer
            return content.read_nowait()
        async with asyncio.timeout_at(deadline):
            return await content.readany()
    except TimeoutError:
        too_slow = {str(hdrs.CONNECTION): "close"}
        raise Problem(408, "body_too_slow", "the body did not come in time", too_slow) from None
    except (web.RequestPayloadError, ConnectionError):
        raise invalid("the body has ended early, or is malformed") from None


class _Cutter:
    """Cuts bytes into lines; of one that is too long or blank nothing is kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun = bytearray()
        self._over = False

    @property
    def kept(self) -> int:
        """Bytes of the line that has begun."""
        return len(self._begun)

    def feed(self, part: bytes) -> list[bytes | Problem]:
        """The lines that end in this part, or as many of them as are too many for a body."""
        *ended, rest = part.split(b"\n", MOST_LINES + 1)
        lines: list[bytes | Problem] = []
        for each in ended:
            self._grow(each)
            lines += self.end()
        self._grow(rest)
        return lines

    def end(self) -> list[bytes | Problem]:
        """The line that has begun; empty where it is blank."""
        line, over = bytes(self._begun.strip()), self._over
        self._begun, self._over = bytearray(), False
        return [too_large(f"the line has more than {self._most} bytes") if over else line]

    def _grow(self, part: bytes) -> None:
        if self._over or len(self._begun) + len(part) > self._most:
            self._begun, self._over = bytearray(), True
        else:
            self._begun += part


def _check_type(request: web.Request, expected: str) -> None:
    if request.headers.get(hdrs.CONTENT_TYPE) != expected:  # else there is nothing to parse
        if request.content_type != expected or hdrs.CONTENT_TYPE not in request.headers:
            raise Problem(415, "unsupported_media_type", f"the Content-Type must be {expected}")
        if (request.charset or "utf-8").lower() != "utf-8":
            raise Problem(415, "unsupported_media_type", "the charset must be UTF-8")
    if hdrs.CONTENT_ENCODING in request.headers:
        raise Problem(415, "unsupported_media_type", "a body is sent without Content-Encoding")
