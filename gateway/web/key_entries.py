"""Keys as the settings describe them: those that have settings of their own, and the list ``GATEWAY_JWT_KEYS``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from typing import Any, Final

import orjson

from gateway.core.access import Use
from gateway.web.decoding import Decoder, Demands
from gateway.web.key_fetching import is_trustworthy
from gateway.web.key_set import MOST_TRIED, Entry
from gateway.web.keys import ANY_PUBLIC, BadKey, Key, narrowed, public_key, secret_key
from gateway.web.remote_keys import RemoteKeys
from publisher.contract.secret_values import read_secret
from publisher.errors import InvalidData

_MOST: Final = 32
_SOURCES: Final = ("secret", "public_key", "jwks_url", "discovery")
_PUBLISHED: Final = ("jwks_url", "discovery")
"""Those of the sources that are an issuer's set of keys."""
_FIELDS: Final = (*_SOURCES, "kid", "issuer", "audience", "algorithms", "until", "for")
_NAME: Final = re.compile("[a-z_]{1,20}")
_FIRST_MILLISECOND: Final = 1e11
"""Larger numbers are milliseconds: as seconds they are in the year 5138."""


@dataclass(frozen=True, slots=True)
class Described:
    """A key as the settings describe it.

    ``source``: what of the key is given, one of ``secret``, ``public_key``, ``jwks_url`` and ``discovery``, and ``value``:
    that; for ``discovery`` the issuer. ``setting``: the name of a setting or a field by what it is for. ``demands``: what
    its tokens have to say. The rest is as in the list.
    """

    source: str
    value: str
    setting: Callable[[str], str]
    demands: Demands
    kid: str | None = None
    algorithms: Sequence[str] = ()
    until: float = math.inf
    use: Use | None = None

    def key(self, *, weak: bool) -> Key:
        """The key itself, for all algorithms of its kind.

        Raises:
            BadKey: it cannot be used.
        """
        setting = self.setting(self.source)
        if self.source in _PUBLISHED:
            return ANY_PUBLIC
        if self.source == "secret":
            return secret_key(self.value, setting, weak=weak)
        return public_key(self.value, setting)


def by_settings(given: Mapping[str, str | None], demands: Demands) -> list[Described]:
    """The keys that have settings of their own, by source; what is not given is left out.

    Raises:
        BadKey: an issuer's set of keys cannot be used so.
    """
    found = [
        Described(source, value, _own_setting, demands)
        for source, value in given.items()
        if value is not None
    ]
    for each in found:
        if each.source in _PUBLISHED:
            named = {"issuer": demands.issuer, "audience": demands.audience}
            _check_published(each, [name for name, value in named.items() if value is not None])
    if len([each for each in found if each.source in _PUBLISHED]) > 1:
        raise BadKey(f"set {_own_setting('jwks_url')} or {_own_setting('discovery')}, not both")
    return found


def _check_published(described: Described, named: Sequence[str]) -> None:
    """See to it that a set of keys, which others may be signed with as well, lets in those only who are meant.

    Args:
        described: the set.
        named: what was said, were it that there is none.

    Raises:
        BadKey: something is missing, or anybody on the way could exchange the keys.
    """
    setting = described.setting
    missing = [setting(name) for name in ("issuer", "audience") if name not in named]
    if missing:
        raise BadKey(
            f"{setting(described.source)} needs {' and '.join(missing)}: "
            "providers sign tokens for all their customers with the same keys"
        )
    if not is_trustworthy(described.value):
        what = "issuer" if described.source == "discovery" else described.source
        raise BadKey(
            f"{setting(what)} must be an https URL without a user, or http on this machine"
        )


def _own_setting(name: str) -> str:
    return f"GATEWAY_JWT_{name.upper()}"


def in_list(text: str, demands: Demands) -> list[Described]:
    """The keys of ``GATEWAY_JWT_KEYS``.

    Args:
        text: the list, in JSON.
        demands: what their tokens have to say, where the list asks for nothing else.

    Raises:
        BadKey: the list or one of its entries cannot be used. The message repeats no value of it.
    """
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        hint = "; write double quotes" if "'" in text and '"' not in text else ""
        raise BadKey(f"GATEWAY_JWT_KEYS is not JSON ({place}){hint}") from None
    if not isinstance(found, list) or not 1 <= len(found) <= _MOST:
        raise BadKey(f"GATEWAY_JWT_KEYS must be a list of 1 to {_MOST} keys")
    return [_entry(each, number, demands) for number, each in enumerate(found)]


def _entry(given: Any, number: int, demands: Demands) -> Described:
    def setting(name: str) -> str:
        return f"GATEWAY_JWT_KEYS[{number}].{name}"

    where = f"GATEWAY_JWT_KEYS[{number}]"
    if not isinstance(given, dict):
        raise BadKey(f"{where} must be an object")
    for name in given.keys() - set(_FIELDS):
        # Anything else may be a secret that has slipped into this place.
        which = f"the field {name}, which" if _NAME.fullmatch(name) else "a field that"
        raise BadKey(f"{where} has {which} is none of {', '.join(_FIELDS)}")
    sources = [name for name in _SOURCES if given.get(name) not in (None, False)]
    if len(sources) != 1:
        raise BadKey(f"{where} must have exactly one of {', '.join(_SOURCES)}")
    source, of_entry = sources[0], _demands(given, setting, demands)
    described = Described(
        source,
        _value(given, source, setting, of_entry.issuer),
        setting,
        of_entry,
        kid=_text(given, "kid", setting),
        algorithms=_algorithms(given, setting),
        until=_until(given.get("until"), setting("until")),
        use=_use(given.get("for"), setting("for")),
    )
    if source in _PUBLISHED:
        if described.kid is not None:
            raise BadKey(f"{setting('kid')}: the keys of a set have names of their own")
        inherited = {"issuer": of_entry.issuer, "audience": of_entry.audience}
        said = [name for name, value in inherited.items() if value is not None]
        _check_published(described, [*given, *said])
    return described


def _demands(
    given: Mapping[str, Any], setting: Callable[[str], str], inherited: Demands
) -> Demands:
    """What an entry asks of its tokens: for what it does not mention, a key that moves into the list keeps its rules."""
    found = inherited
    if "issuer" in given or inherited.issuer is None:
        issuer = _text(given, "issuer", setting)
        found = replace(found, issuer=issuer, issuer_setting=setting("issuer"))
    if "audience" in given or inherited.audience is None:
        audience = _text(given, "audience", setting)
        found = replace(found, audience=audience, audience_setting=setting("audience"))
    return found


def _value(
    given: Mapping[str, Any], source: str, setting: Callable[[str], str], issuer: str | None
) -> str:
    if source == "discovery":
        if given[source] is not True:
            raise BadKey(f"{setting(source)} must be true or false")
        if issuer is None:
            raise BadKey(f"{setting(source)} needs {setting('issuer')}")
        return issuer
    value = _text(given, source, setting) or ""
    return value if source == "jwks_url" else _from_file(value, setting(source))


def _text(given: Mapping[str, Any], name: str, setting: Callable[[str], str]) -> str | None:
    value = given.get(name)
    if value is not None and not (isinstance(value, str) and value):
        raise BadKey(f"{setting(name)} must be text that is not empty")
    return value


def _from_file(value: str, setting: str) -> str:
    try:
        return read_secret(value)
    except InvalidData as error:
        raise BadKey(f"{setting}: {error}") from None


def _algorithms(given: Mapping[str, Any], setting: Callable[[str], str]) -> list[str]:
    value = given.get("algorithms", [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadKey(f"{setting('algorithms')} must be a list of names")
    return value


def _until(value: Any, setting: str) -> float:
    """A moment in seconds since 1970, also where it is written as a date."""
    told = f"{setting} must be a date and time with an offset (2026-12-01T00:00:00Z), or seconds since 1970"
    if value is None:
        return math.inf
    if type(value) in {int, float} and 0 <= value < _FIRST_MILLISECOND:
        return float(value)
    if not isinstance(value, str):
        raise BadKey(told)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise BadKey(told) from None
    if moment.tzinfo is None:
        raise BadKey(told)
    return moment.timestamp()


def _use(value: Any, setting: str) -> Use | None:
    names = [each.value for each in Use]
    if value is not None and value not in names:
        raise BadKey(f"{setting} must be one of {', '.join(names)}")
    return None if value is None else Use(value)


def entries(
    own: Sequence[Described],
    algorithms: Sequence[str],
    listed: Sequence[Described],
    published: Callable[[Described, Key], RemoteKeys],
    *,
    weak: bool,
) -> list[Entry]:
    """What a set of keys is made of.

    Args:
        own: keys that have settings of their own, and share ``algorithms``.
        algorithms: those to accept of ``own``; empty for all that fit.
        listed: keys of the list.
        published: makes an issuer's set of keys, for the algorithms that this key has.
        weak: take any secret for any algorithm.

    Raises:
        BadKey: a key or its algorithms cannot be used, or there is none.
    """
    if not own and not listed:
        raise BadKey(
            "set GATEWAY_JWT_SECRET, or GATEWAY_JWT_PUBLIC_KEY to a public key in PEM, or GATEWAY_JWT_JWKS_URL, "
            "GATEWAY_JWT_DISCOVERY or GATEWAY_JWT_KEYS"
        )
    if algorithms and not own:
        raise BadKey(
            f"{_own_setting('algorithms')} is for keys that have settings of their own: "
            "name the algorithms of a key of the list there"
        )
    keys = [each.key(weak=weak) for each in own]
    keys = narrowed(keys, algorithms, _own_setting("algorithms"))
    for each in listed:
        keys += narrowed([each.key(weak=weak)], each.algorithms, each.setting("algorithms"))
    found = [
        Entry(
            published(each, key) if each.source in _PUBLISHED else Decoder(key, each.demands),
            each.kid,
            each.until,
            each.use,
            each.setting(each.source),
        )
        for each, key in zip([*own, *listed], keys, strict=True)
    ]
    _check_tries(found)
    return found


def _check_tries(found: Sequence[Entry]) -> None:
    """See to it that a token which names its key, or one that nobody has, is tried with few: anybody can send one.

    Raises:
        BadKey: it would be tried with more.
    """
    for one in found:
        for algorithm, use in product(one.source.algorithms, Use):
            alike = [
                each
                for each in found
                if each.kid == one.kid
                and each.use in (None, use)
                and algorithm in each.source.algorithms
                and each.source.demands.issuer in (None, one.source.demands.issuer)
            ]
            if len(alike) > MOST_TRIED:
                which = "without a kid" if one.kid is None else "with the same kid"
                raise BadKey(
                    f"{len(alike)} keys {which} go with {algorithm} and the same issuer, and a token would be tried with "
                    f"each of them; at most {MOST_TRIED} may: give them kids of their own"
                )
