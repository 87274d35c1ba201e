"""Sends Redis commands in one round trip and says what is known when that fails.

The client library owns the connections (pool, TLS, authentication, Sentinel). Its pipeline object
retries and translates on its own account, so the commands are packed and read here: a failure must
tell whether anything had left.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from publisher.errors import Rejected, Unavailable
from publisher.scripts import Script

Argument: TypeAlias = str | bytes | int | float
Command: TypeAlias = tuple[Argument, ...]

Reply: TypeAlias = Any
"""What Redis answered, undecoded: bytes, int, list or None; or a ``ResponseError`` in its place."""


@dataclass(frozen=True, slots=True)
class Call:
    """One command: a plain one (``arguments`` whole), or a script with its keys and arguments."""

    arguments: Command
    script: Script | None = None

    @classmethod
    def run(cls, script: Script, keys: Sequence[str], *arguments: Argument) -> Call:
        """Call ``script`` with ``keys`` and ``arguments``."""
        return cls((len(keys), *keys, *arguments), script)

    def cached(self) -> Command:
        """The command, a script by its hash."""
        if self.script is None:
            return self.arguments
        return ("EVALSHA", self.script.sha, *self.arguments)

    def whole(self) -> Command:
        """The command, a script with its text."""
        if self.script is None:
            return self.arguments
        return ("EVAL", self.script.text, *self.arguments)


class Connection(Protocol):
    """What is used of ``redis.Connection``."""

    def pack_commands(self, commands: Iterable[Command]) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes]) -> None: ...
    def read_response(self, disable_decoding: bool) -> Reply: ...
    def disconnect(self) -> None: ...


class Pool(Protocol):
    """What is used of ``redis.ConnectionPool``."""

    def get_connection(self) -> Any: ...
    def release(self, connection: Any) -> None: ...


class AsyncPool(Protocol):
    """What is used of ``redis.asyncio.ConnectionPool``."""

    async def get_connection(self) -> Any: ...
    async def release(self, connection: Any) -> None: ...


def exchange(pool: Pool, calls: Sequence[Call]) -> list[Reply]:
    """Run ``calls`` in one round trip (two when Redis does not know a script yet).

    Raises:
        Unavailable: no answer to all of them.
    """
    replies = _round_trip(pool, [call.cached() for call in calls])
    unknown = _unknown_scripts(replies)
    if not unknown:
        return replies
    try:
        again = _round_trip(pool, [calls[index].whole() for index in unknown])
    except Unavailable as error:
        raise _after_a_part(error, unknown, calls) from error.__cause__
    return _merged(replies, unknown, again)


async def exchange_async(
    pool: AsyncPool,
    calls: Sequence[Call],
    timeout: float,  # noqa: ASYNC109 - each round trip has its own, the caller cannot put it around
) -> list[Reply]:
    """The same as :func:`exchange`, within ``timeout`` seconds a round trip."""
    replies = await _round_trip_async(pool, [call.cached() for call in calls], timeout)
    unknown = _unknown_scripts(replies)
    if not unknown:
        return replies
    try:
        again = await _round_trip_async(pool, [calls[index].whole() for index in unknown], timeout)
    except Unavailable as error:
        raise _after_a_part(error, unknown, calls) from error.__cause__
    return _merged(replies, unknown, again)


def meaning(reply: ResponseError) -> Unavailable:
    """What an error that Redis answered with means for the call."""
    reason = _reason(reply)
    if _passes(reply):
        return Unavailable(reason, maybe_sent=False)
    # An error inside a script may have come after a write of the same script; Redis undoes nothing.
    return Rejected(reason, maybe_sent="script" in str(reply))


# Redis gives these before it has changed anything, and they pass.
_PASSING_TYPES: Final = (ReadOnlyError, OutOfMemoryError, TryAgainError, ClusterDownError)
_PASSING_CODES: Final = ("BUSY ", "MISCONF ", "NOREPLICAS ")

# Answers by which Redis refuses to carry out anything on this connection.
_REFUSALS: Final = (BusyLoadingError, AuthenticationError, AuthorizationError)

_FAILURES: Final = (RedisError, OSError)


def _passes(error: ResponseError) -> bool:
    return isinstance(error, _PASSING_TYPES) or str(error).startswith(_PASSING_CODES)


def _unknown_scripts(replies: list[Reply]) -> list[int]:
    return [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


def _after_a_part(error: Unavailable, unknown: list[int], calls: Sequence[Call]) -> Unavailable:
    """The failure of the second round trip: the other calls have taken effect in the first."""
    carried_out = len(unknown) < len(calls)
    return Unavailable(error.reason, maybe_sent=error.maybe_sent or carried_out)


def _merged(replies: list[Reply], unknown: list[int], again: list[Reply]) -> list[Reply]:
    for index, reply in zip(unknown, again, strict=True):
        replies[index] = reply
    return replies


def _reason(error: BaseException) -> str:
    if isinstance(error, AuthenticationError | AuthorizationError):
        return "authentication failed"
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return "no answer in time"
    # Of a command it does not know, Redis repeats the arguments; AUTH's is the password.
    said, *_ = str(error).split(", with args beginning with")
    return said or type(error).__name__


def _unavailable(error: BaseException, *, maybe_sent: bool) -> Unavailable:
    return Unavailable(_reason(error), maybe_sent=maybe_sent)


def _carried_out(error: BaseException, commands: list[Command]) -> bool:
    """Whether a command may have been carried out before ``error`` came in place of a reply."""
    return len(commands) > 1 or not isinstance(error, _REFUSALS)


def _round_trip(pool: Pool, commands: list[Command]) -> list[Reply]:
    try:
        connection: Connection = pool.get_connection()
    except _FAILURES as error:
        raise _unavailable(error, maybe_sent=False) from _cause(error)
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        replies = [_read(connection) for _ in commands]
        if _demoted(replies):
            connection.disconnect()
    except _FAILURES as error:
        connection.disconnect()
        raise _unavailable(error, maybe_sent=_carried_out(error, commands)) from _cause(error)
    except BaseException:
        connection.disconnect()
        raise
    else:
        return replies
    finally:
        pool.release(connection)


def _read(connection: Connection) -> Reply:
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


async def _round_trip_async(
    pool: AsyncPool,
    commands: list[Command],
    timeout: float,  # noqa: ASYNC109 - used up by one asyncio.timeout below
) -> list[Reply]:
    sent = False
    try:
        # One timer for the round trip: the library would start one for each reply.
        async with asyncio.timeout(timeout):
            connection = await pool.get_connection()
            try:
                packed = connection.pack_commands(commands)
                sent = True
                await connection.send_packed_command(packed)
                replies = [await _read_async(connection) for _ in commands]
                if _demoted(replies):
                    await connection.disconnect(nowait=True)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            else:
                return replies
            finally:
                await pool.release(connection)
    except _FAILURES as error:
        maybe_sent = sent and _carried_out(error, commands)
        raise _unavailable(error, maybe_sent=maybe_sent) from _cause(error)


async def _read_async(connection: Any) -> Reply:
    try:
        return await connection.read_response(disable_decoding=True, timeout=math.inf)
    except ResponseError as error:
        return error


def _demoted(replies: list[Reply]) -> bool:
    """Whether this is a replica by now: a new connection may find the primary."""
    return any(isinstance(reply, ReadOnlyError) for reply in replies)


def _cause(error: BaseException) -> BaseException | None:
    """The error to chain, unless Redis repeats a command's arguments in it."""
    return None if isinstance(error, ResponseError) else error
