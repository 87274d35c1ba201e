"""Strings and sorted sets in memory, as Redis keeps them, for the calls that the publisher makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Final, TypeAlias

from publisher.contract.calls import Argument

Scored: TypeAlias = list[tuple[bytes, float]]
"""Members of a sorted set with their scores, in the order of Redis: by score, then by bytes."""

_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def packed(argument: Argument) -> bytes:
    """An argument as it travels to Redis."""
    return argument if isinstance(argument, bytes) else str(argument).encode()


def shown(score: float) -> bytes:
    """A score as Redis replies it. Ids are integers below 2^53, and exact."""
    return b"inf" if score == inf else b"%d" % score


class Memory:
    """What one publisher has written.

    Args:
        now: microseconds since 1970.
        heard: is told of whatever is published: the name of the pub/sub channel, and the payload.
    """

    def __init__(self, now: Callable[[], int], heard: Callable[[str, bytes], None]) -> None:
        self.now = now
        self.publish = heard
        self._strings: dict[str, bytes] = {}
        self._sets: dict[str, dict[bytes, float]] = {}
        self._ends: dict[str, int] = {}

    @property
    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self.now() // 1000

    # -- keys -----------------------------------------------------------------------------------

    def end(self, key: str, at_us: int | None) -> None:
        """Let a key be gone at this moment, or never."""
        if at_us is None:
            self._ends.pop(key, None)
        else:
            self._ends[key] = at_us

    def ends_at(self, key: str) -> int | None:
        """When a key will be gone, in microseconds since 1970."""
        return self._ends.get(key)

    def named(self, pattern: bytes) -> Iterator[str]:
        """The keys that begin as a pattern says: text in which special characters are escaped, and ``*``."""
        begin = _ESCAPED.sub(r"\1", pattern.decode().removesuffix("*"))
        self._end_all()
        return (key for key in [*self._strings, *self._sets] if key.startswith(begin))

    def _end_all(self) -> None:
        now = self.now()
        for key in [each for each, end in self._ends.items() if end <= now]:
            del self._ends[key]
            self._strings.pop(key, None)
            self._sets.pop(key, None)

    # -- strings --------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """A string, if it is there."""
        self._end_all()
        return self._strings.get(key)

    def set(self, key: str, value: bytes, seconds: float | None = None) -> None:
        """Write a string, for so long, or for ever."""
        self._strings[key] = value
        self.end(key, None if seconds is None else self.now() + int(seconds * 1_000_000))

    # -- sorted sets ----------------------------------------------------------------------------

    def add(self, key: str, member: bytes, score: float) -> None:
        """Write a member."""
        self._end_all()
        self._sets.setdefault(key, {})[member] = score

    def score(self, key: str, member: bytes) -> float | None:
        """The score of a member, if it is there."""
        self._end_all()
        return self._sets.get(key, {}).get(member)

    def remove(self, key: str, members: Iterable[bytes]) -> int:
        """Take members out; returns how many were there."""
        self._end_all()
        found = self._sets.get(key, {})
        removed = sum(found.pop(each, None) is not None for each in members)
        if not found:
            # As in Redis, an empty set is none, and its expiry is gone with it.
            self._sets.pop(key, None)
            self._ends.pop(key, None)
        return removed

    def scored(self, key: str, lowest: float = -inf, highest: float = inf) -> Scored:
        """The members with these scores, both included."""
        self._end_all()
        found = self._sets.get(key, {}).items()
        inside = [each for each in found if lowest <= each[1] <= highest]
        return sorted(inside, key=lambda each: (each[1], each[0]))
