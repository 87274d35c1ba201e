"""The users' places in Redis as one node sees them: the calls, and what a member says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from publisher.contract import control, scripts
from publisher.contract.calls import Call
from publisher.contract.control import ReconcilePlaces
from publisher.contract.keys import MAX_PLACE_LEASE_SECONDS, Keys


@dataclass(frozen=True, slots=True)
class PlaceTable:
    """A user may hold ``limit`` places; each is kept ``seconds`` without renewal."""

    keys: Keys
    node: str
    limit: int
    seconds: float

    def take(self, user: str, connection: str, gone: Iterable[bytes] = ()) -> Call:
        """Take a place, after the places ``gone`` (member, expiry, member, ...) were dropped."""
        return Call.run(
            scripts.ACQUIRE,
            [self.keys.connections(user)],
            self._member(connection),
            self.limit,
            self._lease,
            MAX_PLACE_LEASE_SECONDS * 1000,
            *gone,
        )

    def renew(self, user: str, connections: Iterable[str]) -> Call:
        """Renew places; the reply is which have none, and which of this node's were not among them."""
        return Call.run(
            scripts.RENEW,
            [self.keys.connections(user)],
            self._lease,
            self.limit,
            MAX_PLACE_LEASE_SECONDS * 1000,
            self._member(""),
            *map(self._member, connections),
        )

    def release(self, user: str, connection: str) -> Call:
        """Release a place."""
        return Call(("ZREM", self.keys.connections(user), self._member(connection)))

    def living(self) -> Call:
        """Ask which nodes live."""
        return Call.run(scripts.LIVE_NODES, [self.keys.nodes])

    def ask(self, user: str, nodes: Iterable[str]) -> Call:
        """Ask other nodes to release the places of a user that they do not know."""
        command = control.encode(ReconcilePlaces(user, tuple(nodes)))
        return Call(("PUBLISH", self.keys.control, command))

    def node_of(self, member: bytes) -> bytes:
        """The node through which a place is held."""
        return member.rpartition(b"/")[0]

    def own(self, member: bytes) -> str | None:
        """The connection that holds a place through this node; ``None`` for another node's."""
        node, _, connection = member.decode().rpartition("/")
        return connection if node == self.node else None

    def _member(self, connection: str) -> str:
        return f"{self.node}/{connection}"

    @property
    def _lease(self) -> int:
        return round(self.seconds * 1000)
