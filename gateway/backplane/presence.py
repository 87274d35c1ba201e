"""What Redis knows of who is in a channel on this node.

Each user there is a lease, as long as that of the node: if the node dies, they are gone as soon as it. What changes is
gathered for a moment, and the leases are renewed together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.backplane.servers import ONE, Servers
from gateway.core.chunks import chunks
from gateway.core.log_limit import FirstTimes
from gateway.core.timing import Backoff
from gateway.node.presence import PresentUsers
from gateway.node.stats import Stats
from gateway.node.tasks import Sleep
from publisher.contract import scripts
from publisher.contract.calls import Call
from publisher.contract.channels import Namespace, namespace_of
from publisher.contract.keys import MAX_NODE_LEASE_SECONDS, Keys
from publisher.errors import Rejected, Unavailable
from publisher.transport.pipeline import Calls

log = logging.getLogger(__name__)

_GATHERED_SECONDS: Final = 0.25
"""A page that is loaded again changes nothing, and many who come together take few calls."""
_RENEWALS_PER_LEASE: Final = 3
_USERS_PER_CALL: Final = 500
_CALLS_AT_ONCE: Final = 50

_MAX_LEASE: Final = str(MAX_NODE_LEASE_SECONDS * 1000)


@dataclass(frozen=True, slots=True)
class PresenceTable:
    """The call by which a ``node`` notes who is in a channel; its leases last ``seconds``."""

    keys: Keys
    node: str
    seconds: float
    namespaces: Mapping[str, Namespace]

    def note(self, channel: str, there: list[str], gone: list[str]) -> Call:
        """Note who is there, for the time of a lease, and who is not any more."""
        rules = self.namespaces[namespace_of(channel)].presence
        announced = rules is not None and rules.announce
        names = [self.keys.presence(channel)]
        if announced:
            names.append(self.keys.presence_nodes(channel))
        return Call.run(
            scripts.PRESENCE_SHARDED if self.keys.sharded else scripts.PRESENCE,
            names,
            str(int(self.seconds * 1000)),
            _MAX_LEASE,
            str(len(there)),
            self.keys.presence_changes(channel) if announced else "",
            str(rules.max_members) if rules is not None and announced else "0",
            *(f"{self.node}/{user}" for user in (*there, *gone)),
        )


class PresenceWriter:
    """Keeps the users of this node in Redis. ``present`` says who they are.

    Args:
        random: a number from 0 to 1.
        servers: what is for one that is away is written when it is back.
    """

    def __init__(
        self,
        pipeline: Calls,
        table: PresenceTable,
        random: Callable[[], float],
        stats: Stats,
        servers: Servers = ONE,
    ) -> None:
        self.present = PresentUsers(table.namespaces, self._note, stats)
        self._stats = stats
        self._pipeline = pipeline
        self._table = table
        self._random = random
        self._away = servers.away
        # Users that Redis has to be told of: whether they are there is looked up when that is written.
        self._changed: dict[str, set[str]] = {}
        self._sleep = Sleep()
        self._one_at_a_time = asyncio.Lock()
        # Channels whose users Redis refuses to note: each is told once.
        self._refused: FirstTimes[str] = FirstTimes()

    def _note(self, channel: str, user: str) -> None:
        if not self._changed:
            self._sleep.end()
        self._changed.setdefault(channel, set()).add(user)

    def renew(self) -> None:
        """Renew all leases soon: Redis may have lost them."""
        for channel in self.present.channels():
            self._changed.setdefault(channel, set()).update(self.present.users(channel))
        self._sleep.end()

    async def run(self) -> None:
        """Write what changes and renew the leases, until cancelled."""
        backoff = Backoff(self._random)
        pause = self._table.seconds / _RENEWALS_PER_LEASE
        loop = asyncio.get_running_loop()
        renewed_at = loop.time()
        while True:
            await self._sleep(renewed_at + pause - loop.time())
            if loop.time() >= renewed_at + pause:
                renewed_at = loop.time()
                self.renew()
            else:
                await asyncio.sleep(_GATHERED_SECONDS)
            try:
                await self.flush()
            except Unavailable as error:
                log.info("presence_unwritten reason=%s", error.reason)
                await asyncio.sleep(backoff.next())
                self._sleep.end()
            else:
                backoff.reset()

    async def flush(self) -> None:
        """Write now what has changed; what fails stays for the next time, unless Redis would always refuse it.

        Raises:
            Unavailable: Redis did not answer.
        """
        async with self._one_at_a_time:
            changed, self._changed = self._changed, {}
            writes = [
                (channel, users)
                for channel, all_users in changed.items()
                for users in chunks(all_users, _USERS_PER_CALL)
            ]
            failure: Unavailable | None = None
            for some in chunks(writes, _CALLS_AT_ONCE):
                for each in await asyncio.gather(*(self._write(*write) for write in some)):
                    failure = failure or each
            if failure is not None:
                raise failure

    async def _write(self, channel: str, users: tuple[str, ...]) -> Unavailable | None:
        """Tell Redis of these users, and return why that has failed, if trying again may help."""
        if self._away(self._table.keys.presence(channel)):
            return None  # all that live are renewed when it is back, and others run out
        here = self.present.users(channel)
        there = [user for user in users if user in here]
        gone = [user for user in users if user not in here]
        try:
            await self._pipeline.call(self._table.note(channel, there, gone))
        except Rejected as error:
            self._stats.presence_unwritten += 1
            if self._refused.admit(channel):
                log.warning("presence_refused channel=%s reason=%s", channel, error.reason)
        except Unavailable as error:
            self._stats.presence_unwritten += 1
            self._changed.setdefault(channel, set()).update(users)
            return error
        else:
            self._refused.forget(channel)
        return None
