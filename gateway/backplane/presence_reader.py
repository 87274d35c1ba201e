"""Who is in a channel on all nodes, as a client of this node is told."""

from __future__ import annotations

from gateway.node.presence import PresentUsers
from publisher.contract.calls import present, users_of
from publisher.contract.keys import Keys
from publisher.transport.pipeline import Calls


class PresenceReader:
    """Implements ``ports.PresenceLog``. Of its own users a node knows more than it has written yet."""

    def __init__(self, pipeline: Calls, keys: Keys, node: str, own: PresentUsers) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._node = f"{node}/".encode()
        self._own = own

    async def users(self, channel: str) -> list[str]:
        """The users in a channel, each once, in the order of their ids."""
        members = await self._pipeline.call(present(self._keys, channel))
        others = users_of(each for each in members if not each.startswith(self._node))
        return sorted(others | self._own.users(channel).keys())
