"""Whether this node and Redis are well: the node's lease, and a probe that the node hears itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from gateway.backplane.pubsub import Confirmed, ListeningTime, Subscriber
from gateway.core.timing import Backoff
from gateway.node.ports import Clock
from gateway.node.stats import Stats
from gateway.node.tasks import Sleep
from publisher.contract import scripts
from publisher.contract.calls import Call
from publisher.contract.keys import MAX_NODE_LEASE_SECONDS, Keys
from publisher.errors import Unavailable
from publisher.transport.pipeline import Calls

log = logging.getLogger(__name__)

_RENEWALS_PER_LEASE: Final = 3
LONGEST_RENEWAL_SECONDS: Final = 1.5
"""A Redis that refuses writes still takes the probe: only the renewal tells of it."""
_DEAD_NODE_REMEMBERED_MS: Final = 60_000
_AWAY: Final = 0.5
"""When no node has renewed its lease for this part of one, it was Redis that was away."""
_GRACE_MS: Final = 3_000
"""A node that lives is back within so long after Redis answers again."""
_TOLD_AGAIN_SECONDS: Final = 60.0
"""So often the log says that Redis is still waited for."""


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """A node's entry in the list of nodes; the lease is in ``seconds``."""

    keys: Keys
    node: str
    seconds: float

    def renew(self) -> Call:
        """Put the entry on the list, or keep it there."""
        return Call.run(
            scripts.RENEW_NODE,
            [self.keys.nodes],
            self.node,
            round(self.seconds * 1000),
            _DEAD_NODE_REMEMBERED_MS,
            round(self.seconds * 1000 * _AWAY),
            _GRACE_MS,
            MAX_NODE_LEASE_SECONDS * 1000,
        )

    def remove(self) -> Call:
        """Take the entry off the list."""
        return Call(("ZREM", self.keys.nodes, self.node))


class NodeLease:
    """Renews the node's lease, which is far shorter than those of its users' places.

    While it is held the node counts as alive, to the others and to itself. The others drop the places of
    a node that let it run out. So a node that finds its own lease broken (it was frozen, or Redis has
    lost its data) first becomes alive again and then looks after its places, in this order.

    In a cluster the list of nodes is at one of several primaries. While that one is down nobody can read the list, so
    no node is judged dead: the lease counts as held until the primary has answered again. A node that has just started,
    and is not on the list, first waits for half a lease: a primary that fails over is back by then, and after a longer
    absence no node is judged dead for a while (``renew_node.lua``).

    A node cannot tell such a primary from one that only it does not reach. The others read the list then, and drop its
    places when they need them; it finds that out when it renews them (docs/delivery.md, "How exact").

    Args:
        address: the server that has the list of nodes now, for the log.
        returned: told when Redis answers again after it had not, or may have lost what it knew. In a cluster it is told
            of what another server has also while the list's does not answer.
        jitter: a number from 0 to 1.
        of_several: whether there are other servers, which may answer while the list's does not.
    """

    def __init__(
        self,
        pipeline: Calls,
        entry: NodeEntry,
        address: Callable[[], str],
        returned: Callable[[], None],
        clock: Clock,
        jitter: Callable[[], float],
        *,
        of_several: bool = False,
    ) -> None:
        self._of_several = of_several
        # Since when the calls fail.
        self._failing_since: float | None = None
        self._was_held = False
        self._pipeline = pipeline
        self._entry = entry
        self._address = address
        self._returned = returned
        self._clock = clock
        self._backoff = Backoff(jitter)
        self._sleep = Sleep()
        self._rechecks = 0
        # Whether there was a recheck after which ``returned`` has not been told.
        self._untold = False
        self._tell_at = float("-inf")
        self._alive = False
        self._given_up = False
        self._ends_at = float("-inf")

    @property
    def held(self) -> bool:
        """Whether the others count this node as alive, as far as it can know."""
        return self._is_excused() or (self._alive and self._clock() < self._ends_at)

    def _is_excused(self) -> bool:
        if not self._of_several or self._failing_since is None:
            return False
        return self._was_held or self._clock() - self._failing_since >= self._entry.seconds * _AWAY

    def recheck(self) -> None:
        """Renew the lease at once; until that has succeeded it does not count as held.

        What answered before need not be what answers now: Redis may have been restarted, be loading its
        data still, or have lost them.
        """
        self._rechecks += 1
        self._alive = False
        self._untold = True
        self._sleep.end()

    async def run(self) -> None:
        """Keep the lease until it is given up, or this is cancelled."""
        while not self._given_up:
            # The address too as it is now: what fails may be another server's by then.
            rechecks, asked_at, asked = self._rechecks, self._clock(), self._address()
            try:
                unbroken = bool(await self._pipeline.call(self._entry.renew()))
            except Unavailable as error:
                self._fail(asked, error)
                await self._sleep(self._backoff.next())
                continue
            if rechecks == self._rechecks:
                self._succeed(asked_at, unbroken=unbroken)
                await self._sleep(
                    min(self._entry.seconds / _RENEWALS_PER_LEASE, LONGEST_RENEWAL_SECONDS)
                )

    def _fail(self, asked: str, error: Unavailable) -> None:
        now = self._clock()
        if now >= self._tell_at:
            self._tell_at = now + _TOLD_AGAIN_SECONDS
            reason = error.reason or "unavailable"
            log.warning("waiting_for_redis address=%s reason=%s", asked, reason)
        self._alive = False
        if self._failing_since is None:
            self._failing_since = now
        if self._untold and self._is_excused():
            self._tell_return()

    def _tell_return(self) -> None:
        self._untold = False
        self._returned()

    def _succeed(self, asked_at: float, *, unbroken: bool) -> None:
        self._backoff.reset()
        self._tell_at = float("-inf")
        if not (self._alive and unbroken):
            if self._alive:
                log.warning("node_lease_broken")
            else:
                log.info("redis_reached address=%s", self._address())
            self._tell_return()
        self._alive = self._was_held = True
        self._failing_since = None
        self._ends_at = asked_at + self._entry.seconds

    async def give_up(self) -> None:
        """Take the node off the list; its places have been given back.

        Raises:
            Unavailable: Redis did not answer; the lease runs out by itself.
        """
        # A renewal behind the removal would put the node back on the list.
        self._given_up = True
        self._sleep.end()
        await self._pipeline.call(self._entry.remove())


INTERVAL_SECONDS: Final = 0.5
DEADLINE_SECONDS: Final = 2.0
"""Without its probe for so long a node is not ready."""
_PATIENCE_SECONDS: Final = 1.5
"""A connection that does not bring a probe that Redis has taken is given up after this."""
_PATIENCE_AFTER_TROUBLE_SECONDS: Final = 0.5
_CONFIRMED_SECONDS: Final = 0.1
"""So long the first probe waits for its subscription; the next one follows anyway."""
_RENEWED_SECONDS: Final = 0.1
"""After a name that was refused or given away the next one waits so long: it may be refused as well."""


class Probe:
    """The node hearing itself through Redis.

    A pub/sub connection can fail without an error: clients stay connected, publishes succeed, nothing is
    delivered and every check is green. So a node is ready only while it hears its own probe, and a
    connection that does not bring it although Redis has taken it is made anew.

    The node subscribes to a new name before it publishes there. Hearing that proves that Redis still hears
    the node too, and has carried out every earlier command of the connection. Redis answers a PUBLISH with
    the number of subscribers that it has sent the message to: a name that was never used before has one
    if Redis has heard the SUBSCRIBE of the present connection, and none otherwise.

    All times are those of ``ListeningTime``: a node that is busy has not been silent to itself.

    Args:
        pipeline: not the one that clients wait for.
        name: what the names of the pub/sub channels begin with (``Keys.probe``).
    """

    def __init__(
        self,
        subscriber: Subscriber,
        pipeline: Calls,
        name: str,
        listening: ListeningTime,
        stats: Stats,
    ) -> None:
        self._subscriber = subscriber
        self._pipeline = pipeline
        self._name = name
        self._listening = listening
        self._stats = stats
        self._sleep = Sleep()
        self._publishing: asyncio.Task[int | None] | None = None
        self._heard_at = float("-inf")
        self.since = listening.seconds
        """When the node was heard last, or its connection was made, whichever came later."""
        self._patience = _PATIENCE_SECONDS
        self._missed: _Missed | None = None
        self._over = False
        self._renewed = False

    @property
    def heard(self) -> bool:
        """Whether the node has heard itself a moment ago."""
        return self._listening.seconds - self._heard_at <= DEADLINE_SECONDS

    def recheck(self) -> None:
        """Probe at once: what was heard so far came over another connection."""
        self._heard_at = float("-inf")
        self.since = self._listening.seconds
        self._over = True
        self._sleep.end()
        if self._publishing is not None:
            # It may wait for a server that hangs, and from which the connection was led away.
            self._publishing.cancel()

    async def run(self) -> None:
        """Probe until cancelled."""
        former = ""
        for number in count():
            name = self._next_name(number)
            self._over = False
            self._missed = None
            # Both leave in one write.
            confirmed = self._subscriber.listen(name, self._hear)
            self._subscriber.drop(former)
            former = name
            await asyncio.wait([confirmed], timeout=_CONFIRMED_SECONDS)
            await self._probe(name, confirmed)
            if self._renewed:
                self._renewed = False
                await asyncio.sleep(_RENEWED_SECONDS)

    def _next_name(self, number: int) -> str:
        return f"{self._name}:{number}"

    def _command(self, name: str) -> Call:
        return Call(("PUBLISH", name, b""))

    def renew(self) -> None:
        """Probe under another name: this one can be heard no more."""
        self._over = self._renewed = True
        self._sleep.end()

    async def _probe(self, name: str, confirmed: Confirmed) -> None:
        """Publish until that is heard, or the connection is another one."""
        while not self._over:
            subscribers = await self._publish_until_over(name)
            # By the time of the answer, what had come on the other connection has been read too.
            if subscribers is not None and not self._over:
                if self._missed is None:
                    self._missed = _Missed(self._subscriber, self._listening.seconds)
                else:
                    self._judge(self._missed, subscribers, confirmed)
            await self._sleep(INTERVAL_SECONDS)

    async def _publish_until_over(self, name: str) -> int | None:
        publishing = self._publishing = asyncio.create_task(self._publish(name), name="probe")
        try:
            await asyncio.wait([publishing])
            return None if publishing.cancelled() else publishing.result()
        finally:
            publishing.cancel()

    async def _publish(self, name: str) -> int | None:
        """Send the probe; returns how many subscribers Redis knows, ``None`` if it has not taken it."""
        try:
            subscribers: int = await self._pipeline.call(self._command(name))
        except Unavailable:
            # The lease tells of a Redis that does not answer. A connection that outlives the trouble
            # may be one to a Redis, or over a way, that is no more.
            self._patience = _PATIENCE_AFTER_TROUBLE_SECONDS
            return None
        return subscribers

    def _hear(self, _payload: bytes) -> None:
        self._heard_at = self.since = self._listening.seconds
        self._patience = _PATIENCE_SECONDS
        self._over = True

    def _judge(self, missed: _Missed, subscribers: int, confirmed: Confirmed) -> None:
        """Give up a connection that should have brought the probe, and on which it is not on its way."""
        now = self._listening.seconds
        missed.look(now, sent=subscribers > 0, confirmed=confirmed.done())
        if self._subscriber.received is None or now - missed.hopeless_since < self._patience:
            return
        log.warning("probe_unheard seconds=%.1f", now - missed.since)
        self._stats.probes_unheard += 1
        self._missed = None
        self._subscriber.rebuild()


class _Missed:
    """A probe that Redis has taken and that was not heard since.

    ``hopeless_since`` begins anew with every sign that the probe may still come.
    """

    def __init__(self, subscriber: Subscriber, now: float) -> None:
        self.since = self.hopeless_since = now
        self._subscriber = subscriber
        self._answered = subscriber.answered
        self._received = subscriber.received

    def look(self, now: float, *, sent: bool, confirmed: bool) -> None:
        """Take note of what has come since the last look.

        A probe that Redis has ``sent`` to this connection comes behind everything that comes now. One that
        it has not sent can only be waiting for its SUBSCRIBE, behind the commands that Redis answers now;
        other messages prove nothing.
        """
        answered, received = self._subscriber.answered, self._subscriber.received
        if sent:
            hopeful = received != self._received
        else:
            hopeful = answered != self._answered and not confirmed
        if hopeful:
            self.hopeless_since = now
        self._answered, self._received = answered, received
