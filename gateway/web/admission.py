"""Who may come in: the room that a node, and a user on all nodes, has left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs

from gateway.core import closing
from gateway.core.access import Identity
from gateway.core.closing import Closing
from gateway.core.handshake import Refusal
from gateway.node.ports import Claim, Denied, Places
from gateway.node.revocations import Revocations
from gateway.node.timings import Timings
from gateway.web.handshake_queue import HandshakeQueue
from gateway.web.user_quota import UserQuota

_RETRY_AFTER: Final[Mapping[str, str]] = {hdrs.RETRY_AFTER: "2"}
"""Seconds after which whoever was refused for lack of room may try again."""

_NODE_FULL: Final = "node_full"

_GIVEN_UP: Final = 5
"""So many of a user's attempts whose clients are gone may be under way besides: each ends within half a second."""


def unavailable(reason: str) -> Refusal:
    """The answer to who is not let in for a reason that is not theirs."""
    return Refusal(503, reason, "try again, on this node or another", _RETRY_AFTER)


@dataclass(frozen=True, slots=True)
class Room:
    """How many ``connections`` a node may hold, and how many of one user (``per_user``)."""

    connections: int
    per_user: int


class Admission:
    """Counts who is here, and takes and gives back the users' places.

    Args:
        ready: whether new connections are welcome: Redis is there, and the node is not leaving.
        timings: told how long each phase of a handshake takes, here and in ``Handshakes``.
    """

    def __init__(
        self,
        places: Places,
        revocations: Revocations,
        ready: Callable[[], bool],
        room: Room,
        queue: HandshakeQueue,
        timings: Timings,
    ) -> None:
        self.timings = timings
        self._places = places
        self._revocations = revocations
        self._queue = queue
        self._ready = ready
        self._room = room
        self._present = 0
        self._asking: dict[str, list[Callable[[], bool]]] = {}
        # Who is let in may ask for all that is kept, and a place that is given back is free again at once.
        self._begun = UserQuota(room.per_user, "connections", timings.clock)

    @property
    def open(self) -> bool:
        """Whether the node still lets people in."""
        return self._ready()

    def refusal(self) -> str | None:
        """Why nobody is let in at the moment; ``None`` when somebody may be."""
        if not self._ready():
            return "not_ready"
        return _NODE_FULL if self._full else None

    @property
    def _full(self) -> bool:
        return self._present >= self._room.connections

    async def enter(self, claim: Claim, waits: Callable[[], bool]) -> int | Closing | Refusal:
        """Take a place; ``leave`` follows. Where it is denied, nothing is held, and the client is told why.

        Returns when it was taken (microseconds of the clock of Redis). The connection is to begin in this turn of the event
        loop: a command that comes later must find it.

        Args:
            claim: who wants in, and with which token.
            waits: whether its client still does. An attempt that was given up stands in no other's way.

        Raises:
            Unavailable: Redis did not answer; nothing is held.
        """
        # Again: what is read in one turn of the event loop has passed the first look together.
        if self._full:
            return unavailable(_NODE_FULL)
        refusal = self._begun.refusal(claim.user)
        if refusal is not None:
            return refusal
        # No more of them could succeed, and each holds room on the node until Redis has answered. At the limit it
        # holds it until the nodes with the user's places have answered: seconds, where a client there is dead.
        user, most = claim.user, self._room.per_user
        asking = self._asking.setdefault(user, [])
        if len(asking) >= most and (
            len(asking) >= most + _GIVEN_UP or sum(each() for each in asking) >= most
        ):
            return closing.CONNECTION_LIMIT
        # Handshakes under way count, so that no crowd slips past.
        self._present += 1
        asking.append(waits)
        entry: int | Closing | Refusal = closing.CONNECTION_LIMIT
        timings = self.timings
        since = timings.clock()
        try:
            if await self._queue.turn(waits):
                since = timings.phase(timings.handshake, "turn", since)
                entry = await self._ask(claim, waits)
                timings.phase(timings.handshake, "place", since)
            else:
                entry = unavailable("too_many_handshakes" if self._ready() else "not_ready")
        finally:
            asking.remove(waits)
            if not asking:
                del self._asking[user]
            if isinstance(entry, int):
                self._begun.count(user)
            else:
                self.leave(user, claim.connection)
        return entry

    async def _ask(self, claim: Claim, waits: Callable[[], bool]) -> int | Closing:
        mark = self._revocations.mark
        # In one write with the question for the place.
        asked = self._revocations.ask(claim.token_id)

        async def revoked() -> bool:
            if asked is not None and await asked:
                return True
            shown = claim.user, claim.issued_at, claim.token_id
            return not self._revocations.admits_still(mark, *shown)

        async def wanted() -> bool:
            return waits() and not await revoked()

        entry = await self._places.acquire(claim, wanted)
        if entry is Denied.REVOKED or await revoked():
            return closing.TOKEN_REVOKED
        if isinstance(entry, Denied):
            return closing.CONNECTION_LIMIT
        return self._revocations.ends(claim, entry, mark) or entry

    async def admits(self, identity: Identity) -> bool:
        """Whether a token is not revoked with which something is asked of a connection that has begun.

        Raises:
            Unavailable: Redis did not answer.
        """
        shown = identity.user, identity.issued_at, identity.token_id
        return await self._revocations.admits_now(*shown)

    def lend(self) -> bool:
        """Take room on the node for somebody whose place is on another one; ``give_back`` follows. ``False`` where it is full."""
        if self._full:
            return False
        self._present += 1
        return True

    def keep(self) -> None:
        """Count somebody who is still here when their place is given back, however full it is; ``give_back`` follows."""
        self._present += 1

    def give_back(self) -> None:
        """Give back the room on the node that ``lend``, ``keep`` or ``enter`` has taken."""
        self._present -= 1

    def leave(self, user: str, connection: str) -> None:
        """Give back what ``enter`` has taken."""
        self.give_back()
        self.give_back_place(user, connection)

    def give_back_place(self, user: str, connection: str) -> None:
        """Give back the user's place only; ``give_back`` follows when the connection is over."""
        self._places.give_back(user, connection)
