"""Who was refused a channel, or sent away, a short while ago: they are told when it is granted, and may subscribe again.

Redis tells of the grants of a channel under a name of their own (``Keys.granted``). A node listens there only while
somebody here was refused the channel, so that a grant reaches no node on which nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from gateway.core import protocol
from gateway.core.chunks import chunks, groups
from gateway.core.timing import Expiries
from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.interest import Interests
from gateway.node.ports import Clock, Grants
from gateway.node.tasks import Retry, Tasks
from publisher.contract.grants import EVERYBODY, grantee_of
from publisher.errors import Unavailable

REMEMBERED_SECONDS: Final = 300.0
MOST_OF_A_CONNECTION: Final = 100
"""So many refusals of a connection are remembered, the last ones: each costs Redis a subscription."""

_AT_ONCE: Final = 500


class Refusals:
    """Remembers refusals for some minutes, and tells of the grants that come after them.

    Args:
        interests: in the names under which Redis tells of grants.
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        hub: Hub,
        interests: Interests,
        grants: Grants,
        tasks: Tasks,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._hub = hub
        self._interests = interests
        self._grants = grants
        self._tasks = tasks
        self._clock = clock
        self._retry = Retry(jitter)
        self._refused: dict[str, dict[Connection, None]] = {}
        # The same by connection; what was refused the longest ago comes first.
        self._channels: dict[Connection, dict[str, None]] = {}
        self._expiries: Expiries[tuple[Connection, str]] = Expiries(clock())
        self._asking: asyncio.Task[None] | None = None

    # -- what is remembered -------------------------------------------------------------------

    def remember(self, connection: Connection, channel: str) -> None:
        """Tell a connection that was refused ``channel`` if it is granted within the next minutes."""
        self.forget(connection, channel)
        channels = self._channels.setdefault(connection, {})
        channels[channel] = None
        self._refused.setdefault(channel, {})[connection] = None
        self._expiries.expect((connection, channel), self._clock() + REMEMBERED_SECONDS)
        listening = self._interests.take(channel)
        self._tasks.spawn(self._ask_behind(listening, connection, channel), f"ask about {channel}")
        if len(channels) > MOST_OF_A_CONNECTION:
            self.forget(connection, next(iter(channels)))

    def forget(self, connection: Connection, channel: str) -> None:
        """Forget that a connection was refused ``channel``; if it was not, that is no error."""
        channels = self._channels.get(connection, {})
        if channel not in channels:
            return
        del channels[channel]
        if not channels:
            del self._channels[connection]
        del self._refused[channel][connection]
        if not self._refused[channel]:
            del self._refused[channel]
        self._expiries.forget((connection, channel))
        self._interests.release(channel)

    def forget_all(self, connection: Connection) -> None:
        """Forget what a connection was refused: its socket is gone."""
        for channel in list(self._channels.get(connection, ())):
            self.forget(connection, channel)

    def tick(self) -> None:
        """Forget what is too long ago; to be called now and then."""
        for connection, channel in self._expiries.due(self._clock()):
            self.forget(connection, channel)

    # -- grants -------------------------------------------------------------------------------

    def hear(self, channel: str, payload: bytes) -> None:
        """Take what Redis tells: to whom ``channel`` was granted."""
        grantee = grantee_of(payload.decode(errors="replace"))
        for connection in list(self._refused.get(channel, ())):
            if grantee in (EVERYBODY, connection.user):
                self._tell(connection, channel)

    def ask_all(self) -> None:
        """Ask about all refusals: the node may have heard nothing of a grant while it was cut off."""
        if self._asking is not None:
            self._asking.cancel()
        self._asking = self._tasks.spawn(self._ask_all(), "ask about all refusals")

    async def _ask_all(self) -> None:
        refusals = [(each, name) for each, names in self._channels.items() for name in names]
        by_server = groups(refusals, lambda refusal: self._grants.server_of(refusal[1]))
        # Each question is asked until it is answered: those to a server that is down hold up no others.
        await asyncio.gather(*map(self._ask_in_turn, by_server.values()))

    async def _ask_in_turn(self, refusals: list[tuple[Connection, str]]) -> None:
        for some in chunks(refusals, _AT_ONCE):
            await asyncio.gather(*(self._ask(*refusal) for refusal in some))

    async def _ask_behind(
        self, listening: asyncio.Future[None], connection: Connection, channel: str
    ) -> None:
        """Ask once more as soon as Redis tells of grants: one may have come just before that."""
        await asyncio.shield(listening)
        await self._ask(connection, channel)

    async def _ask(self, connection: Connection, channel: str) -> None:
        # What Redis refuses for good would only be refused again when the client subscribes.
        with contextlib.suppress(Unavailable):
            seconds = await self._retry(lambda: self._grants.remaining(channel, connection.user))
            if seconds > 0:
                self._tell(connection, channel)

    def _tell(self, connection: Connection, channel: str) -> None:
        if channel in self._channels.get(connection, ()):
            self.forget(connection, channel)
            self._hub.tell(connection, protocol.granted(channel))
