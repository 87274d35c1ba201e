"""Who may come in: the room that a node, and a user on all nodes, has left."""

from __future__ import annotations

from collections.abc import Callable

from gateway.node.ports import Places


class Admission:
    """Counts who is here, and takes and gives back the users' places.

    Args:
        ready: whether new connections are welcome: Redis is there, and the node is not leaving.
        max_connections: how many the node may hold.
    """

    def __init__(self, places: Places, ready: Callable[[], bool], max_connections: int) -> None:
        self._places = places
        self._ready = ready
        self._max_connections = max_connections
        self._present = 0

    @property
    def open(self) -> bool:
        """Whether the node still lets people in."""
        return self._ready()

    def refusal(self) -> str | None:
        """Why nobody is let in at the moment; ``None`` when somebody may be."""
        if not self._ready():
            return "not_ready"
        return "node_full" if self._present >= self._max_connections else None

    async def enter(self, user: str, connection: str) -> bool:
        """Take a place; ``False`` when the user holds all they may. In either case ``leave`` follows.

        Raises:
            Unavailable: Redis did not answer.
        """
        # Handshakes under way count, so that no crowd slips past.
        self._present += 1
        return await self._places.acquire(user, connection)

    def leave(self, user: str, connection: str) -> None:
        """Give back what ``enter`` has taken."""
        self._present -= 1
        self._places.give_back(user, connection)
