"""Things that are found by a name which several of them may have."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class ByName(Generic[T]):
    """What has a name, by this name. Most have it for themselves: those need no set of their own, which has 216 bytes."""

    def __init__(self) -> None:
        self._of: dict[str, T | set[T]] = {}

    def add(self, name: str, holder: T) -> None:
        """One more that has this name."""
        found = self._of.get(name)
        if found is None or found is holder:
            self._of[name] = holder
        elif isinstance(found, set):
            found.add(holder)
        else:
            self._of[name] = {found, holder}

    def remove(self, name: str, holder: T) -> None:
        """One less; an unknown one is no error."""
        found = self._of.get(name)
        if found is holder:
            del self._of[name]
        elif isinstance(found, set):
            found.discard(holder)
            if len(found) == 1:
                (self._of[name],) = found

    def names(self) -> list[str]:
        """All names that something has."""
        return list(self._of)

    def of(self, name: str) -> list[T]:
        """All that have this name."""
        found = self._of.get(name)
        if found is None:
            return []
        return list(found) if isinstance(found, set) else [found]
