"""Commands as bytes, and replies from bytes (Redis documentation, serialization protocol, version 2).

By hiredis where it is installed. Without it a reader of our own does the same, at about ten times the cost
of a reply.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from redis.exceptions import ResponseError

from publisher.contract.calls import Argument, Command, Reply

_hiredis_pack: Callable[[Any], bytes] | None = None
_HiredisReader: Callable[..., Any] | None = None
with contextlib.suppress(ImportError):
    from hiredis import Reader as _HiredisReader
    from hiredis import pack_command as _hiredis_pack

_TEXT: Final = frozenset({str, bytes})


class ProtocolError(Exception):
    """The server does not speak the protocol, so what follows cannot be read either."""


class Replies(Protocol):
    """Takes bytes as they come, and gives the replies in them. Raises :class:`ProtocolError`."""

    def feed(self, data: bytes) -> Any:
        """Take bytes."""

    def gets(self) -> Reply:
        """The next reply, an error as a ``ResponseError``; ``False`` while there is no whole one."""


def replies() -> Replies:
    """Reads what one connection says."""
    if _HiredisReader is None:
        return PythonReplies()
    reader: Replies = _HiredisReader(protocolError=ProtocolError, replyError=ResponseError)
    return reader


def pack(command: Command) -> bytes:
    """A command as Redis reads it."""
    # hiredis turns numbers into text by a call that runs signal handlers, and does not check whether one of
    # them raised: the interpreter crashes. With nothing but text it makes no such call.
    if not _TEXT.issuperset(map(type, command)):
        command = tuple(map(_text, command))
    return (_hiredis_pack or _python_pack)(command)


def pack_all(commands: Iterable[Command]) -> bytes:
    """Commands as Redis reads them, one behind the other."""
    return b"".join(map(pack, commands))


def _text(argument: Argument) -> str | bytes:
    return argument if isinstance(argument, bytes) else str(argument)


def _python_pack(command: Command) -> bytes:
    parts = [b"*%d\r\n" % len(command)]
    for each in command:
        raw = each if isinstance(each, bytes) else str(each).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


class _Incomplete(Exception):
    pass


class PythonReplies:
    """Implements :class:`Replies` without hiredis."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._buffer += data

    def gets(self) -> Reply:
        """The next reply, or ``False``."""
        try:
            reply, end = self._parse(0)
        except _Incomplete:
            return False
        del self._buffer[:end]
        return reply

    def _parse(self, at: int) -> tuple[Reply, int]:
        """The reply that begins at an index of the buffer, and where it ends."""
        end = self._buffer.find(b"\r\n", at)
        if end < 0:
            raise _Incomplete
        kind, text, after = self._buffer[at : at + 1], bytes(self._buffer[at + 1 : end]), end + 2
        match bytes(kind):
            case b"+":
                return text, after
            case b"-":
                return ResponseError(text.decode("utf-8", "replace")), after
            case b":":
                return _number(text), after
            case b"$":
                return self._bulk(_number(text), after)
            case b"*":
                return self._array(_number(text), after)
        raise ProtocolError(f"no reply begins with {bytes(kind)!r}")

    def _bulk(self, length: int, at: int) -> tuple[bytes | None, int]:
        if length < 0:
            return None, at
        end = at + length
        if len(self._buffer) < end + 2:
            raise _Incomplete
        return bytes(self._buffer[at:end]), end + 2

    def _array(self, length: int, at: int) -> tuple[list[Reply] | None, int]:
        if length < 0:
            return None, at
        items = []
        for _ in range(length):
            item, at = self._parse(at)
            items.append(item)
        return items, at


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise ProtocolError(f"{text!r} is no number") from None
