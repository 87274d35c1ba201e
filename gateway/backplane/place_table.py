"""What a node says to Redis, and to other nodes, about the places of users."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.node.ports import Claim, Denied, Entry
from publisher.contract import control, scripts
from publisher.contract.calls import Call, Reply
from publisher.contract.control import CheckPlaces, Disconnect, PlacesChecked, TokensRevoked
from publisher.contract.keys import MAX_PLACE_LEASE_SECONDS, Keys

GRACE: Final = b"/grace"
"""Among the nodes that live in a time of grace (``renew_node.lua``)."""

_MAX_LEASE: Final = str(MAX_PLACE_LEASE_SECONDS * 1000)
_NOT_LOOKED_AT: Final = "-"
_REVOKED: Final = 0
"""What ``acquire.lua`` replies in place of a time where the token is revoked."""


@dataclass(frozen=True, slots=True)
class PlaceTable:
    """The users' places as one node sees them: the calls, and what a member of a user's set says.

    A user may hold ``limit`` places; each is kept ``seconds`` without renewal. So many as ``replacements`` of a user's
    connections give way in a minute to newer ones; with ``None`` none does.
    """

    keys: Keys
    node: str
    limit: int
    seconds: float
    replacements: int | None = None
    _limit: str = field(init=False)
    _lease: str = field(init=False)

    def take(
        self,
        claim: Claim,
        gone: Iterable[bytes] = (),
        *,
        again: bool = False,
        replace: bool = False,
    ) -> Call:
        """Take a place, after the places ``gone`` (member, expiry, member, ...) were dropped.

        ``again``: the connection is here already, and its token is not looked at. ``replace``: the oldest may give way.
        """
        user, issued = claim.user, "" if claim.issued_at is None else repr(claim.issued_at)
        keys = [self.keys.connections(user), self.keys.before(user)]
        replacing: tuple[str | bytes, ...] = ()
        if self.replacements is not None:
            keys += [self.keys.entered(user), self.keys.replaced(user)]
            most = str(self.replacements) if replace else ""
            replacing = most, self.keys.control, control.head_of_replacement(user)
        return Call.run(
            scripts.ACQUIRE,
            keys,
            self._member(claim.connection),
            self._limit,
            self._lease,
            _MAX_LEASE,
            _NOT_LOOKED_AT if again else issued,
            *replacing,
            *gone,
        )

    def entry(self, reply: Reply) -> tuple[Entry, list[bytes]]:
        """The reply to :meth:`take`; where it is ``FULL``, with who holds the places (member, expiry, member, ...)."""
        if isinstance(reply, list):
            return Denied.FULL, reply
        return Denied.REVOKED if reply == _REVOKED else reply, []

    def renew(self, user: str, entered: Mapping[str, int]) -> Call:
        """Renew the places of connections that have ``entered`` then; without any nothing is told of what has ended.

        The reply is which have none, which of this node's were not among them, and what has ended (``renew.lua``).
        """
        keys = [self.keys.connections(user), self.keys.before(user), self.keys.disconnected(user)]
        members = list(map(self._member, entered))
        if self.replacements is not None:
            keys.append(self.keys.entered(user))
            pairs = zip(members, entered.values(), strict=True)
            members = [part for member, at in pairs for part in (member, str(at))]
        return Call.run(
            scripts.RENEW,
            keys,
            self._lease,
            self._limit,
            _MAX_LEASE,
            self._member(""),
            str(min(entered.values())) if entered else "",
            *members,
        )

    def endings(self, user: str, found: list[bytes]) -> Iterator[Disconnect | TokensRevoked]:
        """What a renewal has found that ends connections of ``user``."""
        if not found:
            return
        before, *disconnects = found
        if before:
            yield TokensRevoked(user, float(before))
        for entry, at in zip(disconnects[::2], disconnects[1::2], strict=True):
            head = entry.partition(b":")[2]
            with contextlib.suppress(ValueError):
                command = control.decode(control.whole(head, int(float(at))))
                if isinstance(command, Disconnect):
                    yield command

    def release(self, user: str, connection: str) -> Call:
        """Release a place."""
        if self.replacements is not None:
            keys = [self.keys.connections(user), self.keys.entered(user)]
            return Call.run(scripts.RELEASE, keys, self._member(connection))
        return Call(("ZREM", self.keys.connections(user), self._member(connection)))

    def living(self) -> Call:
        """Ask which nodes live."""
        return Call.run(scripts.LIVE_NODES, [self.keys.nodes])

    def check(self, user: str, members: list[bytes]) -> CheckPlaces:
        """The command that lets the holders of places look through them."""
        nodes = sorted({self.node_of(each).decode() for each in members})
        return CheckPlaces(user, tuple(nodes), tuple(map(bytes.decode, members)), self.node)

    def send(self, command: CheckPlaces) -> Call:
        """Send a command to all nodes."""
        return Call(("PUBLISH", self.keys.control, control.encode(command)))

    def answer(self, command: CheckPlaces) -> Call:
        """Tell the node that has asked that this one has looked."""
        answer = control.encode(PlacesChecked(command.user, self.node))
        return Call(("PUBLISH", self.keys.answers(command.asker), answer))

    def node_of(self, member: bytes) -> bytes:
        """The node through which a place is held."""
        return member.rpartition(b"/")[0]

    def own(self, member: bytes) -> str | None:
        """The connection that holds a place through this node; ``None`` for another node's."""
        node, _, connection = member.decode().rpartition("/")
        return connection if node == self.node else None

    def _member(self, connection: str) -> str:
        return f"{self.node}/{connection}"

    def __post_init__(self) -> None:
        # Made once: each handshake takes a place.
        object.__setattr__(self, "_limit", str(self.limit))
        object.__setattr__(self, "_lease", str(round(self.seconds * 1000)))
