"""Which of the configured keys a token is verified with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.access import TokenRejected, Use
from gateway.node.ports import Clock
from gateway.web.decoding import (
    ALGORITHM_NOT_ACCEPTED,
    Decoder,
    Demands,
    WrongSignature,
    header_of,
    issuer_of,
)

_HEADERS_REMEMBERED: Final = 64
"""Different headers, of different issuers, whose keys are known."""

_CHANNEL_TYPE: Final = "channel+jwt"
_ACCESS_TYPE: Final = "at+jwt"
"""Access tokens (RFC 9068 §2.1): of all tokens with a type of their own, these are meant for a service like this one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A configured key.

    ``kid``: its name in the headers of tokens. ``until``: from then on it verifies nothing, in seconds since 1970.
    ``use``: what its tokens are for; ``None`` for everything.
    """

    decoder: Decoder
    kid: str | None = None
    until: float = math.inf
    use: Use | None = None


@dataclass(frozen=True, slots=True)
class _Choice:
    """The keys that fit a header, and how long they do."""

    decoders: tuple[Decoder, ...]
    until: float


class KeySet:
    """All configured keys.

    Several fit a token where a secret has followed another one and neither has a ``kid``: they are tried in order, and
    the first that has signed the token decides.

    Args:
        entries: one at least.
        wall_clock: seconds since 1970.
    """

    def __init__(self, entries: Sequence[Entry], wall_clock: Clock) -> None:
        self._entries = tuple(entries)
        self._wall_clock = wall_clock
        # One key, or keys of one issuer, are chosen without a look at the claims.
        self._by_issuer = len({each.decoder.demands.issuer for each in entries}) > 1
        # Only of tokens that were genuine: anybody can send headers.
        self._known: dict[tuple[str, str | None], _Choice] = {}
        self._known_of_channels: dict[tuple[str, str | None], _Choice] = {}

    def read(self, token: str, use: Use) -> tuple[dict[str, Any], Demands]:
        """The claims of a genuine token that is valid now and meant for ``use``; and what was demanded of it.

        Raises:
            TokenRejected: it is malformed, of another type, signed with none of the keys, for another audience, expired or
                not valid yet.
        """
        issuer = issuer_of(token) if self._by_issuer else None
        place = token.partition(".")[0], issuer
        known = self._known_of_channels if use is Use.CHANNEL else self._known
        choice = known.get(place)
        if choice is not None and self._wall_clock() < choice.until:
            return _read(token, choice.decoders)
        choice = self._choose(header_of(token), issuer, use)
        found = _read(token, choice.decoders)
        known.pop(place, None)
        if len(known) < _HEADERS_REMEMBERED:
            known[place] = choice
        return found

    def _choose(self, header: Mapping[str, Any], issuer: str | None, use: Use) -> _Choice:
        """The keys that fit a header.

        Raises:
            TokenRejected: none does, or the header is not that of a token for ``use``.
        """
        _check_type(header, use)
        algorithm, kid = header.get("alg"), header.get("kid")
        fitting = [each for each in self._entries if algorithm in each.decoder.algorithms]
        _refuse_without(fitting, ALGORITHM_NOT_ACCEPTED)
        fitting = [each for each in fitting if each.use in (None, use)]
        _refuse_without(fitting, f"no key with its alg is for a {use.value}")
        if self._by_issuer:
            fitting = [each for each in fitting if each.decoder.demands.issuer in (None, issuer)]
            _refuse_without(fitting, "claim 'iss' equals no configured issuer")
        if kid is not None:
            named = [each for each in fitting if each.kid == kid]
            fitting = named or [each for each in fitting if each.kid is None]
            _refuse_without(fitting, "its kid is that of no key")
        now = self._wall_clock()
        fitting = [each for each in fitting if now < each.until]
        _refuse_without(fitting, "its key is not accepted any more")
        return _Choice(tuple(each.decoder for each in fitting), min(each.until for each in fitting))


def _check_type(header: Mapping[str, Any], use: Use) -> None:
    """Tokens of different kinds are never taken for each other (RFC 8725 §3.11).

    Raises:
        TokenRejected: it is of a kind that is not for ``use``.
    """
    kind = str(header.get("typ", "")).lower().removeprefix("application/")
    if use is Use.CHANNEL:
        if kind != _CHANNEL_TYPE:
            raise TokenRejected(f"its typ is not {_CHANNEL_TYPE}")
    elif kind.endswith("+jwt") and kind != _ACCESS_TYPE:
        raise TokenRejected("its typ is that of a token for something else")


def _refuse_without(fitting: list[Entry], cause: str) -> None:
    if not fitting:
        raise TokenRejected(cause)


def _read(token: str, decoders: tuple[Decoder, ...]) -> tuple[dict[str, Any], Demands]:
    """What the first of them finds that has signed it, or the last one.

    Raises:
        TokenRejected: it has found something wrong.
    """
    last = decoders[-1]
    if len(decoders) > 1:
        for each in decoders[:-1]:
            with suppress(WrongSignature):
                return each.claims(token), each.demands
    return last.claims(token), last.demands
