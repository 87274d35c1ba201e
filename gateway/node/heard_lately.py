"""The commands that end connections and tokens, of those that were heard a short while ago."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, TypeAlias

from gateway.node.ports import Clock
from publisher.contract.control import Disconnect, PlaceReplaced, TokenRevoked, TokensRevoked
from publisher.contract.revocations import digest_of
from publisher.errors import Unavailable

_REMEMBERED_SECONDS: Final = 30.0
_MOST_REMEMBERED: Final = 10_000

Ending: TypeAlias = Disconnect | TokenRevoked | TokensRevoked | PlaceReplaced

_About: TypeAlias = tuple[str, str | None]
"""Whom a command is about: what kind of name, and the name. A user's may be whatever the login has signed."""


def _about(command: Ending) -> _About:
    if isinstance(command, TokenRevoked):
        return "token", command.digest
    return "user", command.user


class HeardLately:
    """The commands that were heard lately, by whom they are about."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._commands: dict[_About, list[tuple[int, Ending]]] = {}
        self._order: deque[tuple[float, _About]] = deque()
        self.heard = 0
        self._forgotten = 0

    def add(self, command: Ending) -> None:
        """Remember a command, and forget what is older or too much."""
        now = self._clock()
        name = _about(command)
        self._order.append((now + _REMEMBERED_SECONDS, name))
        self._commands.setdefault(name, []).append((self.heard, command))
        self.heard += 1
        while self._order[0][0] <= now or len(self._order) > _MOST_REMEMBERED:
            _, oldest = self._order.popleft()
            self._forgotten += 1
            of_the_same = self._commands[oldest]
            del of_the_same[0]
            if not of_the_same:
                del self._commands[oldest]

    def forget(self) -> None:
        """Forget all: one that was not heard stood between them."""
        self._commands.clear()
        self._order.clear()
        self.heard += 1
        self._forgotten = self.heard

    def since(self, mark: int, user: str, token_id: str | None) -> Iterator[Ending]:
        """What was heard since ``mark`` about a user, or about a token.

        Raises:
            Unavailable: some of it is forgotten.
        """
        if mark == self.heard:
            return
        if mark < self._forgotten:
            reason = "what has been heard since is not known any more"
            raise Unavailable(reason, maybe_sent=False)
        for name in (("user", user), ("token", token_id and digest_of(token_id))):
            for number, command in self._commands.get(name, ()):
                if number >= mark:
                    yield command
