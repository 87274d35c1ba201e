"""Sends Redis commands in one round trip and says what is known when that fails.

The client library owns the connections (pool, TLS, authentication, Sentinel). Its pipeline object
retries and translates on its own account, so the commands are packed and read here: a failure must
tell whether anything had left.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Protocol

from redis.exceptions import NoScriptError, ResponseError

from publisher.contract.calls import Call, Command, Reply, Wait
from publisher.errors import Unavailable
from publisher.transport.failures import (
    FAILURES,
    carried_out,
    cause,
    demoted,
    still_primary,
    unavailable,
)
from publisher.transport.packing import packed


class Connection(Protocol):
    """What is used of ``redis.Connection``."""

    socket_timeout: float | None

    def send_packed_command(self, command: list[bytes]) -> None: ...
    def read_response(self, disable_decoding: bool, *, timeout: float | None = ...) -> Reply: ...
    def disconnect(self) -> None: ...


class Pool(Protocol):
    """What is used of ``redis.ConnectionPool``."""

    def get_connection(self) -> Any: ...
    def release(self, connection: Any) -> None: ...


class AsyncPool(Protocol):
    """What is used of ``redis.asyncio.ConnectionPool``."""

    async def get_connection(self) -> Any: ...
    async def release(self, connection: Any) -> None: ...


def exchange(pool: Pool, calls: Sequence[Call], wait: Wait | None = None) -> list[Reply]:
    """Run ``calls`` in one round trip (two when Redis does not know a script yet).

    With ``wait`` the last reply, after those to the calls, is the number of replicas that have
    confirmed all that the calls wrote.

    Raises:
        Unavailable: no answer to all of them.
    """
    replies = _round_trip(pool, [call.cached() for call in calls], wait)
    unknown = _unknown_scripts(replies)
    if not unknown:
        return replies
    try:
        again = _round_trip(pool, [calls[index].whole() for index in unknown], wait)
    except Unavailable as error:
        raise _after_a_part(error, unknown, calls) from error.__cause__
    return _merged(replies, unknown, again)


async def exchange_async(
    pool: AsyncPool,
    calls: Sequence[Call],
    timeout: float,  # noqa: ASYNC109 - each round trip has its own, the caller cannot put it around
    wait: Wait | None = None,
) -> list[Reply]:
    """The same as :func:`exchange`, within ``timeout`` seconds a round trip, plus those of ``wait``."""
    replies = await _round_trip_async(pool, [call.cached() for call in calls], timeout, wait)
    unknown = _unknown_scripts(replies)
    if not unknown:
        return replies
    try:
        whole = [calls[index].whole() for index in unknown]
        again = await _round_trip_async(pool, whole, timeout, wait)
    except Unavailable as error:
        raise _after_a_part(error, unknown, calls) from error.__cause__
    return _merged(replies, unknown, again)


def _unknown_scripts(replies: list[Reply]) -> list[int]:
    return [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


def _after_a_part(error: Unavailable, unknown: list[int], calls: Sequence[Call]) -> Unavailable:
    """The failure of the second round trip: the other calls have taken effect in the first."""
    in_part = len(unknown) < len(calls)
    return Unavailable(error.reason, maybe_sent=error.maybe_sent or in_part)


def _merged(replies: list[Reply], unknown: list[int], again: list[Reply]) -> list[Reply]:
    for index, reply in zip(unknown, again, strict=False):
        replies[index] = reply
    if len(again) > len(unknown):
        # The first round trip's count says nothing of the scripts, only of the calls beside them.
        beside = len(unknown) < len(replies) - 1
        replies[-1] = _fewest(replies[-1], again[-1]) if beside else again[-1]
    return replies


def _fewest(first: Reply, second: Reply) -> Reply:
    for count in (first, second):
        if isinstance(count, ResponseError):
            return count
    return min(first, second)


def _round_trip(pool: Pool, commands: list[Command], wait: Wait | None) -> list[Reply]:
    try:
        connection: Connection = pool.get_connection()
    except FAILURES as error:
        raise unavailable(error, maybe_sent=False) from cause(error)
    try:
        connection.send_packed_command(packed(connection, _all(commands, wait)))
        replies = [_read(connection) for _ in commands]
        if wait is not None:
            replies.append(_read_count(connection, wait))
        if demoted(replies):
            connection.disconnect()
    except FAILURES as error:
        connection.disconnect()
        raise unavailable(error, maybe_sent=carried_out(error, len(commands))) from cause(error)
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


def _read_count(connection: Connection, wait: Wait) -> Reply:
    patience = connection.socket_timeout
    # Redis is silent until the replicas have answered, which is no reason to give the connection up.
    timeout = patience and patience + wait.seconds
    try:
        return connection.read_response(disable_decoding=True, timeout=timeout)
    except ResponseError as error:
        return still_primary(error)


async def _round_trip_async(
    pool: AsyncPool,
    commands: list[Command],
    timeout: float,  # noqa: ASYNC109 - used up by one asyncio.timeout below
    wait: Wait | None,
) -> list[Reply]:
    if wait is not None:
        timeout += wait.seconds
    sent = False
    try:
        # One timer for the round trip: the library would start one for each reply.
        async with asyncio.timeout(timeout):
            connection = await pool.get_connection()
            try:
                request = packed(connection, _all(commands, wait))
                sent = True
                await connection.send_packed_command(request)
                replies = [await _read_async(connection) for _ in commands]
                if wait is not None:
                    replies.append(still_primary(await _read_async(connection)))
                if demoted(replies):
                    await connection.disconnect(nowait=True)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            else:
                return replies
            finally:
                await pool.release(connection)
    except FAILURES as error:
        maybe_sent = sent and carried_out(error, len(commands))
        raise unavailable(error, maybe_sent=maybe_sent) from cause(error)


async def _read_async(connection: Any) -> Reply:
    try:
        return await connection.read_response(disable_decoding=True, timeout=math.inf)
    except ResponseError as error:
        return error


def _all(commands: list[Command], wait: Wait | None) -> list[Command]:
    return commands if wait is None else [*commands, wait.command()]
