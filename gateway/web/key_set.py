"""Which of the configured keys a token is verified with."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from gateway.core.access import KeyUnknown, TokenRejected, Use
from gateway.node.ports import Clock
from gateway.web.decoding import (
    ALGORITHM_NOT_ACCEPTED,
    Decoder,
    Demands,
    WrongSignature,
    header_of,
    issuer_of,
    remember,
)
from gateway.web.remote_keys import RemoteKeys

MOST_TRIED: Final = 4
"""Keys that one token is verified with at most: enough for a rotation, and few for what anybody may send."""

_CHANNEL_TYPE: Final = "channel+jwt"
_ACCESS_TYPE: Final = "at+jwt"
"""Access tokens (RFC 9068 §2.1): of all tokens with a type of their own, these are meant for a service like this one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A configured key, or an issuer's set of keys.

    ``kid``: its name in the headers of tokens. ``until``: from then on it verifies nothing, in seconds since 1970.
    ``use``: what its tokens are for; ``None`` for everything. ``setting``: where it was given.
    """

    source: Decoder | RemoteKeys
    kid: str | None = None
    until: float = math.inf
    use: Use | None = None
    setting: str = ""


@dataclass(frozen=True, slots=True)
class _Choice:
    """The keys that fit a header, and how long they do; and sets of which newer ones may have the right key."""

    decoders: tuple[Decoder, ...]
    until: float
    newer: tuple[RemoteKeys, ...]


class KeySet:
    """All configured keys.

    Several fit a token where a secret has followed another one and neither has a ``kid``: they are tried in order, and
    the first that has signed the token decides.

    Args:
        entries: one at least; of one issuer, algorithm and ``kid`` ``MOST_TRIED`` at most, and so of those without one.
        wall_clock: seconds since 1970.
    """

    def __init__(self, entries: Sequence[Entry], wall_clock: Clock) -> None:
        self._entries = tuple(entries)
        self._wall_clock = wall_clock
        # One key, or keys of one issuer, are chosen without a look at the claims.
        self._by_issuer = len({each.source.demands.issuer for each in entries}) > 1
        # Only of tokens that were genuine: anybody can send headers.
        self._known: dict[tuple[str, str | None], _Choice] = {}
        self._known_of_channels: dict[tuple[str, str | None], _Choice] = {}
        self._usable = False
        for each in self.remote:
            each.changed = self._forget

    @property
    def remote(self) -> list[RemoteKeys]:
        """The sets of keys that issuers publish."""
        return [each.source for each in self._entries if isinstance(each.source, RemoteKeys)]

    def setting_of(self, remote: RemoteKeys) -> str:
        """Where a set was configured."""
        return next(each.setting for each in self._entries if each.source is remote)

    def doubts(self) -> list[str]:
        """A sentence for each key that is of no use any more, and one if nobody can be let in."""
        now = self._wall_clock()
        good = [each for each in self._entries if now < each.until]
        found = [
            f"{each.setting} verifies nothing any more, because its until is over: take it out of the list"
            for each in self._entries
            if each not in good
        ]
        if all(each.use is Use.CHANNEL for each in good):
            found.append(
                "no key verifies the tokens of connections, so nobody is let in: "
                "GATEWAY_JWT_KEYS needs one that is not only for channels, and whose until is not over"
            )
        return found

    @property
    def usable(self) -> bool:
        """Whether each issuer was asked, and tokens can be judged with what there is. One that does not answer keeps nobody
        else's users out.
        """
        # Each handshake asks, and whoever was asked once stays asked.
        self._usable = self._usable or self._can_judge()
        return self._usable

    def _can_judge(self) -> bool:
        can_verify = any(
            isinstance(each.source, Decoder) or each.source.loaded for each in self._entries
        )
        return can_verify and all(each.attempted for each in self.remote)

    @property
    def age(self) -> float:
        """Seconds since the one that has not been renewed for the longest was had; 0 without any."""
        return max((each.age for each in self.remote), default=0.0)

    def _forget(self) -> None:
        self._known.clear()
        self._known_of_channels.clear()

    def read(self, token: str, use: Use) -> tuple[dict[str, Any], Demands]:
        """The claims of a genuine token that is valid now and meant for ``use``; and what was demanded of it.

        Raises:
            KeyUnknown: it was signed with none of the keys, and its issuer may have published a newer one.
            TokenRejected: it is malformed, of another type, signed with none of the keys, for another audience, expired or
                not valid yet.
        """
        issuer = issuer_of(token) if self._by_issuer else None
        place = token.partition(".")[0], issuer
        known = self._known_of_channels if use is Use.CHANNEL else self._known
        choice = known.get(place)
        is_known = choice is not None and self._wall_clock() < choice.until
        if choice is None or not is_known:
            choice = self._choose(token, issuer, use)
        try:
            found = _read(token, choice.decoders)
        except WrongSignature:
            _refuse_unknown(token, choice.newer)
            raise
        if not is_known:
            remember(known, place, choice)
        return found

    def _choose(self, token: str, issuer: str | None, use: Use) -> _Choice:
        """The keys that fit a token's header.

        Raises:
            TokenRejected: none does, or the header is not that of a token for ``use``.
        """
        header = header_of(token)
        _check_type(header, use)
        fitting = self._fitting(header, issuer, use)
        until = min(each.until for each in fitting)
        kid, algorithm = header.get("kid"), str(header.get("alg"))
        decoders, newer = [], []
        for each in fitting:
            source = each.source
            if isinstance(source, Decoder):
                decoders.append(source)
            elif (decoder := source.decoder(kid, algorithm)) is not None:
                decoders.append(decoder)
            elif source.may_have(kid):
                newer.append(source)
        if not decoders:
            _refuse_unknown(token, newer)
            raise TokenRejected("no published key is for its kid and issuer")
        return _Choice(tuple(decoders), until, tuple(newer))

    def _fitting(self, header: Mapping[str, Any], issuer: str | None, use: Use) -> list[Entry]:
        """The entries that fit a header.

        Raises:
            TokenRejected: none does.
        """
        algorithm, kid = header.get("alg"), header.get("kid")
        fitting = [each for each in self._entries if algorithm in each.source.algorithms]
        _refuse_without(fitting, ALGORITHM_NOT_ACCEPTED)
        for_all, fitting = fitting, [each for each in fitting if each.use in (None, use)]
        _refuse_without(fitting, f"no key with its alg is for a {use.value}")
        if self._by_issuer:
            fitting = [each for each in fitting if each.source.demands.issuer in (None, issuer)]
            _refuse_without(fitting, "claim 'iss' equals no configured issuer")
        if kid is not None:
            named = [each for each in fitting if each.kid == kid]
            # A published set has the names of its keys itself.
            fitting = named or [each for each in fitting if each.kid is None]
            is_for_another = any(each.kid == kid for each in for_all)
            _refuse_without(
                fitting,
                f"its key is not for a {use.value}"
                if is_for_another
                else "its kid is that of no key",
            )
        now = self._wall_clock()
        fitting = [each for each in fitting if now < each.until]
        _refuse_without(fitting, "its key is not accepted any more")
        if len(fitting) > MOST_TRIED:
            fitting = [each for each in fitting if each.kid is None]
            _refuse_without(fitting, "it has no kid, and too many keys fit")
        return fitting


def _refuse_unknown(token: str, newer: Sequence[RemoteKeys]) -> None:
    """Refuse a token if the right key may be in a newer set.

    Raises:
        KeyUnknown: it may.
    """
    # Only who knows the issuer at least makes its server be asked.
    asked = [each for each in newer if each.demands.issuer in (None, issuer_of(token))]
    if asked:
        raise KeyUnknown(partial(_learn, asked)) from None


async def _learn(asked: Sequence[RemoteKeys]) -> None:
    await asyncio.gather(*(each.learn() for each in asked))


def _check_type(header: Mapping[str, Any], use: Use) -> None:
    """Tokens of different kinds are never taken for each other (RFC 8725 §3.11).

    Raises:
        TokenRejected: it is of a kind that is not for ``use``.
    """
    # A media type may have parameters (RFC 9110 §8.3.1).
    kind = str(header.get("typ", "")).partition(";")[0].strip().lower()
    kind = kind.removeprefix("application/")
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
