"""The connections that have shown no valid token: how many there may be, on the node and from one address."""

from __future__ import annotations

from typing import Generic, TypeVar

from gateway.node.stats import Stats

C = TypeVar("C")


class Unauthenticated(Generic[C]):
    """Counts connections until they have shown a valid token, or are gone.

    Args:
        most: on the node.
        most_per_address: from one address.
        stats: told how many there are.
    """

    def __init__(self, most: int, most_per_address: int, stats: Stats) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._stats = stats
        # In the order in which they came, each with the address that it counts for.
        self._connections: dict[C, str | None] = {}
        self._of_address: dict[str, dict[C, None]] = {}

    def enter(self, connection: C, address: str | None) -> None:
        """Count a connection, for ``address`` if there is one; one that is counted already is counted anew."""
        self.leave(connection)
        self._connections[connection] = address
        if address is not None:
            self._of_address.setdefault(address, {})[connection] = None
        self._stats.connections_unauthenticated = len(self._connections)

    def leave(self, connection: C) -> None:
        """Count it no more; one that is not counted is no error."""
        address = self._connections.pop(connection, None)
        if address is not None:
            del self._of_address[address][connection]
            if not self._of_address[address]:
                del self._of_address[address]
        self._stats.connections_unauthenticated = len(self._connections)

    @property
    def too_many(self) -> bool:
        """Whether there are more than the node may hold."""
        return len(self._connections) > self._most

    @property
    def oldest(self) -> C:
        """The one that has been here longest; there must be one."""
        return next(iter(self._connections))

    def one_too_many(self, address: str | None) -> C | None:
        """The one that has been here longest from an address, where there are more than may come from it."""
        here: dict[C, None] = {} if address is None else self._of_address.get(address, {})
        return next(iter(here)) if len(here) > self._most_per_address else None

    def all(self) -> list[C]:
        """Those that are here, the oldest first."""
        return list(self._connections)
