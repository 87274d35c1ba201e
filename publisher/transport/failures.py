"""What the errors of Redis and of the redis package mean for a call."""

from __future__ import annotations

import re
from typing import Any, Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from publisher.errors import Rejected, Unavailable

FAILURES: Final = (RedisError, OSError, Unavailable)
"""What is raised when there is no answer: by the redis package, and where no sentinel knows the primary."""

OTHER_CONNECTION: Final = frozenset({"READONLY", "NOAUTH", "UNBLOCKED"})
"""Codes of errors that another connection may mend: a primary that has become a replica, a password
that was changed."""

# The redis package takes the code off the text of an error that it has a class for.
_CODES: Final[dict[type[BaseException], str]] = {
    AskError: "ASK",
    BusyLoadingError: "LOADING",
    ClusterCrossSlotError: "CROSSSLOT",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    MovedError: "MOVED",
    NoPermissionError: "NOPERM",
    NoScriptError: "NOSCRIPT",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}

# Redis gives these before it has changed anything, and they pass.
_PASSING: Final = frozenset(
    {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "NOSCRIPT", "OOM"}
    | {"READONLY", "TRYAGAIN"}
)

_OF_AUTHENTICATION: Final = frozenset({"NOAUTH", "WRONGPASS"})
_UNKNOWN_COMMAND: Final = (
    "the server forbids it or has renamed it, or is a sentinel: name that by redis+sentinel://"
)

_HINTS: Final = (
    (
        re.compile("^(ASK|CROSSSLOT|MOVED) "),
        "this is a Redis Cluster: name it by redis+cluster://",
    ),
    (
        re.compile("^NOPERM .*'select'"),
        "this Redis user may use another database only: name that one in the URL",
    ),
    (re.compile("^NOPERM "), "give the Redis user this right"),
    (
        re.compile("user executing the script can't run this command"),
        "give the Redis user the rights that `gateway acl` prints",
    ),
    (
        re.compile("_ALERT_(UNKNOWN_CA|DECRYPT_ERROR|[A-Z_]*CERTIFICATE)"),
        "Redis wants a certificate of this side that it trusts: name one by ssl_certfile and ssl_keyfile",
    ),
)
"""What to do about an error, by what is said in it."""


def code(error: Any) -> str:
    """The first word of what Redis answered, such as ``WRONGTYPE``; of a reply that is no error ``""``."""
    if not isinstance(error, BaseException):
        return ""
    return _CODES.get(type(error)) or str(error).partition(" ")[0]


def is_unknown_command(error: ResponseError) -> bool:
    """Whether the server does not know the command that was sent."""
    return "unknown command" in str(error)


def meaning(reply: ResponseError) -> Unavailable:
    """What an error that Redis answered with means for the call."""
    if code(reply) in _PASSING:
        return Unavailable(_reason(reply), maybe_sent=False)
    # An error inside a script may have come after a write of the same script; Redis undoes nothing.
    return Rejected(_reason(reply), maybe_sent="script" in str(reply))


def unavailable(error: BaseException, *, maybe_sent: bool) -> Unavailable:
    """What to raise in place of one of :data:`FAILURES`, which came instead of an answer."""
    if isinstance(error, Unavailable):
        return error.told(maybe_sent=maybe_sent)
    kind = Rejected if _is_permanent(error) else Unavailable
    return kind(_reason(error), maybe_sent=maybe_sent)


def carried_out(error: BaseException, commands: int) -> bool:
    """Whether one of ``commands`` may have been carried out though ``error`` came in place of a reply."""
    return commands > 1 or not (_is_refused_login(error) or isinstance(error, BusyLoadingError))


def needs_other_connection(replies: list[Any]) -> bool:
    """Whether the next call should go over a new connection, which may find the primary."""
    return any(
        isinstance(reply, ResponseError) and code(reply) in OTHER_CONNECTION for reply in replies
    )


def cause(error: BaseException) -> BaseException | None:
    """The error to chain, unless Redis repeats a command's arguments in it."""
    if isinstance(error, Unavailable):
        return error.__cause__
    return None if isinstance(error, ResponseError) else error


def _is_refused_login(error: BaseException) -> bool:
    return (
        isinstance(error, AuthenticationError | AuthorizationError)
        or code(error) in _OF_AUTHENTICATION
    )


def _is_permanent(error: BaseException) -> bool:
    """Whether the next try would end in the same way: a password or a database that is wrong."""
    if isinstance(error, ResponseError):
        return code(error) not in _PASSING
    return _is_refused_login(error)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return "no answer in time"
    if _is_refused_login(error):
        return (
            "authentication failed: Redis does not accept the user name or the password of the URL"
        )
    # Of a command it does not know, Redis repeats the arguments; AUTH's is the password.
    said, *_ = str(error).split(", with args beginning with")
    name = code(error)
    if name in _CODES.values() and not said.startswith(name):
        said = f"{name} {said}"
    if hint := next((hint for sign, hint in _HINTS if sign.search(said)), None):
        return f"{said}; {hint}"
    if isinstance(error, ResponseError) and is_unknown_command(error):
        return f"{said}; {_UNKNOWN_COMMAND}"
    return said or type(error).__name__
