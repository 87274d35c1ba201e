"""Reading who is in a channel, in parts: Redis, and whoever reads, serve nobody else during one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Final

from publisher.contract import scripts
from publisher.contract.calls import Call, Reply
from publisher.contract.keys import Keys

_PART: Final = 1_000
"""So many members, more or less, are asked for at a time."""


class PresenceReading:
    """Who is in a channel, on all nodes whose lease of it has not run out.

    Args:
        apart_from: a node that is not asked about, since more is known of it. Else "".
    """

    def __init__(self, keys: Keys, channel: str, apart_from: str = "") -> None:
        self._key = keys.presence(channel)
        self._apart_from = f"{apart_from}/".encode()
        self._cursor = "0"
        # Each is sorted, and longer than all behind it together: so no step of putting them together takes long.
        self._found: list[list[str]] = []

    @property
    def next_part(self) -> Call:
        """Reads members whose lease has not run out."""
        return Call.run(scripts.PRESENT, [self._key], self._cursor, _PART)

    def take(self, reply: Reply) -> bool:
        """Note what a part has told; returns whether there is another one."""
        cursor, *members = reply
        self.add(_users_of(each for each in members if not each.startswith(self._apart_from)))
        self._cursor = cursor.decode()
        return self._cursor != "0"

    def add(self, users: Iterable[str]) -> None:
        """Note users who are there, too."""
        part = sorted(users)
        while self._found and len(self._found[-1]) <= len(part):
            part = _joined(self._found.pop(), part)
        self._found.append(part)

    def users(self) -> list[str]:
        """All who were told, each once, in the order of their ids."""
        return _joined(*self._found)


def _users_of(members: Iterable[bytes]) -> set[str]:
    """Of ``<node>/<user>``. No node's name holds a ``/``; a user's id may."""
    return {member.partition(b"/")[2].decode() for member in members}


def _joined(*sorted_lists: list[str]) -> list[str]:
    """What is in any of them, once. Sorting goes fast over what is sorted."""
    return list(dict.fromkeys(sorted(chain(*sorted_lists))))
