"""Messages that their channel's owner does not confirm in time, of which backends are told.

A publish notes the channel with the message's id, unless an earlier one stands there: ``publish.lua`` does in its own step. In a cluster the
note belongs to another slot, so it follows the publish. When its time has come, one of the nodes takes the channel, finds which messages
the owner has not confirmed, and tells of each: as the note, the events and what was told last are of one slot, in one step too. Whatever ends in
between is done again, and what was told is not told again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from publisher.contract import scripts
from publisher.contract.calls import Call, Reply
from publisher.contract.channels import parse_channel
from publisher.contract.keys import Keys

_ENTRIES: Final = 32
_BYTES: Final = 256 * 1024
"""So much of a log is read at a time: Redis serves nobody else meanwhile."""
_KEPT_US: Final = 3_600_000_000


def awaited(how: str) -> bool:
    """Whether a publish of this kind (``publish.lua``) is noted."""
    return "u" in how


def note(keys: Keys, messages: Mapping[str, int]) -> Call:
    """Note the ids of messages that were published in these channels; once more, it changes nothing."""
    pairs = [part for name, id_ in messages.items() for part in (str(id_), name)]
    return Call(("ZADD", keys.awaited, "NX", *pairs))


def take(keys: Keys, node: str, lease: float, pause: float, most: int, after: float) -> Call:
    """Take so many channels as ``most`` whose first message is ``after`` seconds old, and as many that were left unfinished.

    No other node does so in the ``lease``; after the ``pause`` this one is to look again. All in seconds.
    """
    names = [keys.awaited, keys.looking, keys.looker]
    for_so_long, again = round(lease * 1000), round(pause * 1000)
    age = round(after * 1_000_000)
    return Call.run(scripts.TAKE_AWAITED, names, node, for_so_long, most, again, age)


def parse_taken(reply: Reply) -> tuple[float, list[tuple[str, int]]]:
    """The reply to :func:`take`: the pause, and the channels, each with the id of its first message."""
    milliseconds, *parts = reply
    taken = zip(parts[::2], parts[1::2], strict=True)
    return milliseconds / 1000, [(channel.decode(), int(first)) for channel, first in taken]


def find(keys: Keys, channel: str, first: int, after: float) -> Call:
    """Find what is unconfirmed in a channel of the messages from id ``first`` on that are ``after`` seconds old."""
    owner = parse_channel(channel).id
    age = round(after * 1_000_000)
    names = [keys.log(channel), keys.confirmed(channel)]
    return Call.run(scripts.FIND_UNCONFIRMED, names, owner, first, age, _ENTRIES, _BYTES)


@dataclass(frozen=True, slots=True)
class Found:
    """What is unconfirmed in a channel, and the ``rest``: the id from which on nothing has been looked at, if there is any."""

    ids: tuple[bytes, ...] = ()
    rest: int | None = None

    @classmethod
    def parse(cls, reply: Reply) -> Found:
        """The reply to :func:`find`."""
        rest, *ids = reply
        return cls(tuple(ids), int(rest) if rest else None)


@dataclass(frozen=True, slots=True)
class Telling:
    """Who tells: a ``node``; so many events as ``most`` are kept."""

    keys: Keys
    node: str
    most: int

    def call(self, channel: str, first: int, found: Found, after: float, timestamp: int) -> Call:
        """Tell what was found in a channel that was taken with the id ``first``; ``timestamp`` is now, in ms since 1970."""
        keys = self.keys
        rest = "" if found.rest is None else found.rest
        kept = _KEPT_US + round(after * 1_000_000)
        about = parse_channel(channel).id, self.node, timestamp
        return Call.run(
            scripts.TELL_UNCONFIRMED,
            [keys.events, keys.awaited, keys.looking, keys.unconfirmed],
            *(channel, first, rest, self.most, kept),
            *about,
            *found.ids,
        )


def forget(keys: Keys, channel: str) -> list[Call]:
    """Erase what is noted of a channel."""
    noted = (keys.awaited, keys.looking, keys.unconfirmed)
    return [Call(("ZREM", each, channel)) for each in noted]
