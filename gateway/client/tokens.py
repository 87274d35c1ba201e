"""Tokens of a client: where new ones come from, and when they are due."""

from __future__ import annotations

import base64
import binascii
import inspect
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import orjson

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A token, or what gives one that has not run out, at once or awaited."""

_BEFORE_SECONDS: Final = 60.0
"""So long before its end a token is renewed; of one that lasts less than twice as long, when half of that has passed."""


class NoToken(ValueError):
    """What was given in the place of a token is none. It is not told, since it may be a secret all the same."""


def checked(given: object) -> str:
    """What was given as a token, if it can be one, without the space around it that a file may have.

    Raises:
        NoToken: it cannot.
    """
    if not isinstance(given, str):
        what = f"is {_kind(given)}, not a str"
    elif not (token := given.strip()):
        what = "is empty"
    elif " " in token or not (token.isascii() and token.isprintable()):
        what = "has characters that no token has"
    else:
        return token
    raise NoToken(f"there is no token: what was given {what}")


async def fresh(token: Token) -> str:
    """A token to show now.

    Raises:
        NoToken: there is none.
    """
    given = token() if callable(token) else token
    return checked(await given if inspect.isawaitable(given) else given)


def _kind(given: object) -> str:
    return "None" if given is None else f"of type {type(given).__name__}"


def renewed_in(token: str, now: float) -> float | None:
    """Seconds until a new one should be shown; ``None`` if it does not say when it ends.

    Args:
        token: a JWT. Only its ``exp`` is read (RFC 7519 §4.1.4); whether it is genuine is the gateway's business.
        now: seconds since 1970.
    """
    try:
        body = token.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        left = float(claims["exp"]) - now
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None
    return max(left - _BEFORE_SECONDS, left / 2, 0.0)
