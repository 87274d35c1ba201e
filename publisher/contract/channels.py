"""Channel names and the namespaces they belong to.

A channel name is ``<namespace>/<id>``, split at the first ``/``. The namespace decides who may subscribe and how long
messages are retained. The id is the application's own: whatever its users are called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from publisher.contract.grants import Grantee
from publisher.errors import InvalidChannel, InvalidNamespace

MAX_CHANNEL_BYTES: Final = 255
POSITIONS_SECONDS: Final = 30 * 86_400
RESULTS_SECONDS: Final = 86_400

MAX_LISTED_MEMBERS: Final = 10_000

# About 31 years, or as many messages: far from where Redis refuses an expiry in the middle of a script.
MAX_RETENTION: Final = 1_000_000_000

_SHORT_MESSAGES: Final = 64
_SHORT_SECONDS: Final = 240

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9._:@-]+")
# Control characters (Unicode category Cc) would break log lines and terminals; surrogates are no text.
_CHANNEL: Final = re.compile(rf"({_NAMESPACE.pattern})/([^\x00-\x1f\x7f-\x9f\ud800-\udfff]+)")


class Owner(StrEnum):
    """Who may subscribe to the channels of a namespace."""

    USER = "user"
    """Only the user whose id is the channel's id."""

    GRANT = "grant"
    """Users granted by the publisher, or named in the token's ``channels`` claim."""

    ANYONE = "anyone"
    """Every authenticated user."""

    def lets_in(self, channel: Channel, user: Grantee) -> bool | None:
        """Whether the rule alone lets ``user`` subscribe; ``None`` where grants decide."""
        match self:
            case Owner.USER:
                return channel.id == user
            case Owner.GRANT:
                return None
            case Owner.ANYONE:
                return True


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of a channel's log is kept: at most ``max_messages`` of at most ``max_age_seconds``."""

    max_messages: int
    max_age_seconds: int
    limits: tuple[str, str] = field(init=False, repr=False, compare=False)
    """``max_messages`` and ``max_age_seconds`` for the scripts: text, made once for all messages."""
    run: tuple[str, str] = field(init=False, repr=False, compare=False)
    """How and limits of a run of messages (``publish.lua``)."""

    @property
    def positions_seconds(self) -> int:
        """How long a channel's last id and its users' positions are kept, at least 30 days.

        Longer than any log: who comes back late must be told whether something is missing.
        """
        return max(POSITIONS_SECONDS, 2 * self.max_age_seconds)

    @property
    def results_seconds(self) -> int:
        """How long an idempotency key is remembered: as long as the log retains a message, at least a day.

        Whoever repeats a call (a task queue after a crash) does so hours later, whatever the log keeps.
        """
        return max(RESULTS_SECONDS, self.max_age_seconds)

    @property
    def short(self) -> bool:
        """Whether a log is to be trimmed by each publish, since it would grow by a large part otherwise."""
        return self.max_messages < _SHORT_MESSAGES or self.max_age_seconds < _SHORT_SECONDS

    def __post_init__(self) -> None:
        for limit in (self.max_messages, self.max_age_seconds):
            if type(limit) is not int or not 1 <= limit <= MAX_RETENTION:
                raise InvalidNamespace(
                    "retention needs max_messages and max_age_seconds, integers from 1 to "
                    f"{MAX_RETENTION}; use a namespace without retention to keep no log"
                )
        messages, age = limits = str(self.max_messages), str(self.max_age_seconds)
        object.__setattr__(self, "limits", limits)
        times = f"{age} {self.positions_seconds} {self.results_seconds}"
        run = ("s" if self.short else "", f"{messages} {age} {times}")
        object.__setattr__(self, "run", run)


_RETENTION: Final = Retention(1_000, 7 * 86_400)


@dataclass(frozen=True, slots=True)
class Presence:
    """What clients are told of who is in a channel.

    An answer lists at most ``max_members`` users. ``announce``: subscribers are told who joins and leaves, up to so many
    members.
    """

    announce: bool = False
    max_members: int = 1_000

    def __post_init__(self) -> None:
        if (
            type(self.announce) is not bool
            or type(self.max_members) is not int
            or not 1 <= self.max_members <= MAX_LISTED_MEMBERS
        ):
            raise InvalidNamespace(
                "presence needs announce, true or false, and max_members, an integer from 1 to "
                f"{MAX_LISTED_MEMBERS}; both may be left out"
            )

    def to_value(self) -> bool | dict[str, Any]:
        """What :meth:`from_value` reads."""
        if self == Presence():
            return True
        return {"announce": self.announce, "max_members": self.max_members}

    @classmethod
    def from_value(cls, value: object) -> Presence | None:
        """Read ``true``, ``false`` or ``{"announce": true, "max_members": 1000}``, whose keys may be left out.

        Raises:
            InvalidNamespace: anything else.
        """
        if type(value) is bool:
            return cls() if value else None
        if not isinstance(value, Mapping) or set(value) - {"announce", "max_members"}:
            raise InvalidNamespace(
                'presence must be true, false or {"announce": true or false, "max_members": integer}'
            )
        return cls(**value)


@dataclass(frozen=True, slots=True)
class Namespace:
    """The rules shared by all channels ``<name>/…``.

    ``retention`` of ``None`` means that messages are not logged: they reach whoever is subscribed
    at that moment, carry no id, and are gone. ``encrypted``: publishers seal the bodies (``sealing.py``). With
    ``presence`` nodes note in Redis which users are in each channel. ``unconfirmed``: publishers note in which channels the owner's
    confirmation is awaited (``unconfirmed.py``); gateways announce that where they tell of it.
    """

    name: str
    owner: Owner = Owner.GRANT
    retention: Retention | None = _RETENTION
    encrypted: bool = False
    presence: Presence | None = None
    unconfirmed: bool = False

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.name):
            raise InvalidNamespace(
                f"namespace {self.name!r} may only hold ASCII letters, digits and . _ : @ -"
            )

    def to_dict(self) -> dict[str, Any]:
        """The shape that :meth:`from_dict` reads, without the name."""
        kept = self.retention
        return {
            "owner": self.owner.value,
            "retention": kept
            and {"max_messages": kept.max_messages, "max_age_seconds": kept.max_age_seconds},
            # Left out where they are as in versions that do not know them.
            **({"encrypted": True} if self.encrypted else {}),
            **({"presence": self.presence.to_value()} if self.presence else {}),
            **({"unconfirmed": True} if self.unconfirmed else {}),
        }

    @classmethod
    def from_dict(cls, name: str, value: Mapping[str, Any]) -> Namespace:
        """Read ``{"owner": "user", "retention": {"max_messages": 1000, "max_age_seconds": 604800}, "encrypted": true,
        "presence": true}``.

        All keys are optional; ``"retention": null`` switches the log off.

        Raises:
            InvalidNamespace: an unknown key, owner rule, a retention that is not two positive integers, or what is no
                presence.
        """
        unknown = set(value) - {"owner", "retention", "encrypted", "presence", "unconfirmed"}
        if unknown:
            raise InvalidNamespace(f"namespace {name!r}: unknown key {min(unknown)!r}")
        try:
            owner = Owner(value.get("owner", Owner.GRANT))
        except ValueError:
            rules = ", ".join(repr(rule.value) for rule in Owner)
            raise InvalidNamespace(f"namespace {name!r}: owner must be one of {rules}") from None
        for key in ("encrypted", "unconfirmed"):
            if type(value.get(key, False)) is not bool:
                raise InvalidNamespace(f"namespace {name!r}: {key} must be true or false")
        try:
            presence = Presence.from_value(value.get("presence", False))
        except InvalidNamespace as error:
            raise InvalidNamespace(f"namespace {name!r}: {error}") from None
        further = value.get("encrypted", False), presence, value.get("unconfirmed", False)
        if "retention" not in value:
            return cls(name, owner, _RETENTION, *further)
        kept = value["retention"]
        if kept is None:
            return cls(name, owner, None, *further)
        if (
            not isinstance(kept, Mapping)
            or set(kept) != {"max_messages", "max_age_seconds"}
            or not all(type(limit) is int for limit in kept.values())
        ):
            raise InvalidNamespace(
                f"namespace {name!r}: retention must be null or "
                '{"max_messages": integer, "max_age_seconds": integer}'
            )
        return cls(name, owner, Retention(**kept), *further)


NOTIFICATIONS: Final = "notifications"
RUN_RESULTS: Final = "run-results"

DEFAULT_NAMESPACES: Final[Mapping[str, Namespace]] = {
    NOTIFICATIONS: Namespace(NOTIFICATIONS, Owner.USER, _RETENTION),
    RUN_RESULTS: Namespace(RUN_RESULTS, Owner.GRANT, Retention(200, 86_400)),
}


def configured(name: str, rules: Mapping[str, Any]) -> Namespace:
    """A namespace as a gateway's settings describe it: what they leave out of a default namespace stays as it is there.

    Raises:
        InvalidNamespace: as :meth:`Namespace.from_dict`.
    """
    if "unconfirmed" in rules:
        raise InvalidNamespace(
            f"namespace {name!r}: unconfirmed is an event, which GATEWAY_EVENTS chooses for all"
        )
    default = DEFAULT_NAMESPACES.get(name)
    return Namespace.from_dict(name, rules if default is None else {**default.to_dict(), **rules})


class Channel(NamedTuple):
    """A parsed channel name."""

    name: str
    namespace: str
    id: str


def namespace_of(channel: str) -> str:
    """The namespace of a channel whose name was parsed before."""
    return channel.partition("/")[0]


def parse_channel(name: str) -> Channel:
    """Parse ``<namespace>/<id>``. Names are compared as they are written: no form of Unicode is made into another.

    Raises:
        InvalidChannel: the name has another form, a character that it may not hold, or over 255 bytes in UTF-8.
    """
    # An enum's member may be a string, and be written under another one: its name.
    plain = isinstance(name, str) and str(name) == name
    match = _CHANNEL.fullmatch(name) if plain else None
    if match is None or len(name.encode()) > MAX_CHANNEL_BYTES:
        raise InvalidChannel(name)
    return Channel(name, match[1], match[2])
