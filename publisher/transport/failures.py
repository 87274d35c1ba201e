"""What the errors of Redis and of its client library mean for a call."""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from publisher.errors import Rejected, Unavailable

FAILURES: Final = (RedisError, OSError)
"""What the client library raises when there is no answer."""

# Redis gives these before it has changed anything, and they pass.
_PASSING_TYPES: Final = (ReadOnlyError, OutOfMemoryError, TryAgainError, ClusterDownError)
_PASSING_CODES: Final = ("BUSY ", "MISCONF ", "NOREPLICAS ")

# Answers by which Redis refuses to carry out anything on this connection.
_REFUSALS: Final = (BusyLoadingError, AuthenticationError, AuthorizationError)


def meaning(reply: ResponseError) -> Unavailable:
    """What an error that Redis answered with means for the call."""
    reason = _reason(reply)
    if _passes(reply):
        return Unavailable(reason, maybe_sent=False)
    # An error inside a script may have come after a write of the same script; Redis undoes nothing.
    return Rejected(reason, maybe_sent="script" in str(reply))


def _passes(error: ResponseError) -> bool:
    return isinstance(error, _PASSING_TYPES) or str(error).startswith(_PASSING_CODES)


def _reason(error: BaseException) -> str:
    if isinstance(error, AuthenticationError | AuthorizationError):
        return "authentication failed"
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return "no answer in time"
    # Of a command it does not know, Redis repeats the arguments; AUTH's is the password.
    said, *_ = str(error).split(", with args beginning with")
    return said or type(error).__name__


def unavailable(error: BaseException, *, maybe_sent: bool) -> Unavailable:
    """What to raise in place of an error of the client library."""
    return Unavailable(_reason(error), maybe_sent=maybe_sent)


def carried_out(error: BaseException, commands: int) -> bool:
    """Whether one of ``commands`` may have been carried out though ``error`` came in place of a reply."""
    return commands > 1 or not isinstance(error, _REFUSALS)


def still_primary(count: Any) -> Any:
    """The reply to ``WAIT``, unless the server has become a replica meanwhile."""
    if isinstance(count, ResponseError) and str(count).startswith("UNBLOCKED "):
        # It drops now what only it had, so the call must find out anew what became of it.
        raise RedisConnectionError("the primary became a replica during the call")
    return count


def demoted(replies: list[Any]) -> bool:
    """Whether this is a replica by now: a new connection may find the primary."""
    return any(isinstance(reply, ReadOnlyError) for reply in replies)


def cause(error: BaseException) -> BaseException | None:
    """The error to chain, unless Redis repeats a command's arguments in it."""
    return None if isinstance(error, ResponseError) else error
