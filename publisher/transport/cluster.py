"""What a Redis Cluster says of itself, and what is believed of it. Without any I/O: who asks and sends is elsewhere.

Each of 16,384 slots is of one primary, and a key's slot follows from its name (Redis documentation, "Redis cluster
specification"). Servers tell the whole map, and what is told by one that is behind the others does not count: the
number of elections that it knows of (``cluster_current_epoch``) is lower.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Reply
from publisher.errors import Rejected, Unavailable
from publisher.transport.failures import code, meaning
from publisher.transport.redirects import NO_NAME, Redirect, leads_nowhere, redirect
from publisher.transport.redis_py import Connector, Host, shown

log = logging.getLogger(__name__)

SLOTS: Final = REDIS_CLUSTER_HASH_SLOTS
QUESTION: Final = Call(("CLUSTER", "INFO")), Call(("CLUSTER", "SLOTS"))
"""What a server is asked; :meth:`Cluster.read` reads the replies. Works on servers of every version.

In this order: were an election heard of in between, the map would seem to be older than it is, and not newer.
"""

MAP_SECONDS: Final = 0.5
"""So long one server may take to answer the question; then another one is asked."""

ASKED_AGAIN_SECONDS: Final = 10.0
"""The map is asked for after this, too: a failover that nobody has heard of."""

LEAST_SECONDS: Final = 0.1
"""It is not asked for more often, whatever the reason."""

DOUBTED_SECONDS: Final = 1.0
"""A server that has failed is the last to be chosen for so long. Another one's map says nothing of whether it answers."""

_KNOWN_ASKED_AT_ONCE: Final = 2
"""Where there is a map already, that many of its servers are asked one after the other, and then a seed."""

_DOUBTFUL: Final = frozenset({"CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY"})


@lru_cache(16_384)
def slot_of(key: str) -> int:
    """The slot of a key or of a channel of sharded pub/sub."""
    return key_slot(key.encode())


class Slots:
    """Which primary owns each slot. ``replicas`` may be asked for the map, too.

    ``epoch`` is how many elections the server knew of that has told this; ``None`` if it has not said that.

    Raises:
        ValueError: ``ranges`` (first slot, last slot, owner) has a slot that there is not.
    """

    def __init__(
        self,
        ranges: Iterable[tuple[int, int, Host]],
        replicas: Iterable[Host] = (),
        epoch: int | None = None,
    ) -> None:
        self._owners: list[Host | None] = [None] * SLOTS
        for first, last, host in ranges:
            if not 0 <= first <= last < SLOTS:
                raise ValueError(f"no slots {first} to {last}")
            self._owners[first : last + 1] = [host] * (last + 1 - first)
        self.replicas = tuple(dict.fromkeys(replicas))
        self.epoch = epoch
        self._owned = Counter(self._owners)
        self._list()

    def _list(self) -> None:
        self.primaries = tuple(each for each in dict.fromkeys(self._owners) if each is not None)

    def owner(self, slot: int) -> Host | None:
        """The primary that a slot is of; ``None`` where nobody has it."""
        return self._owners[slot]

    def move(self, slot: int, host: Host) -> bool:
        """A slot is of ``host``; returns whether that is news."""
        former = self._owners[slot]
        if former == host:
            return False
        self._owners[slot] = host
        self._owned[former] -= 1
        self._owned[host] += 1
        # Rarely: thousands of slots may move one after the other.
        if not self._owned[former] or self._owned[host] == 1:
            self._list()
        return True

    def moved_since(self, before: Slots) -> dict[int, Host | None]:
        """The slots that had another owner ``before``, with the one that they have here."""
        if self._owners == before._owners:
            return {}
        pairs = enumerate(zip(before._owners, self._owners, strict=True))
        return {slot: now for slot, (former, now) in pairs if former != now}

    def copy(self) -> Slots:
        """The same, for whoever compares with it later."""
        twin: Slots = copy(self)
        twin._owners = list(self._owners)
        twin._owned = self._owned.copy()
        return twin


@dataclass(frozen=True)
class Cluster:
    """How to reach a cluster. Can be pickled if its connector can.

    ``seeds`` are asked for the map first. ``servers`` makes connections to any of them once it is told host and port
    (:meth:`at`). ``remap`` turns the address that a server is told by into the one where it is reached.
    """

    seeds: tuple[Host, ...]
    servers: Connector
    remap: Callable[[Host], Host] | None = None

    @property
    def address(self) -> str:
        """The servers that are asked first, as a person reads them."""
        return ",".join(map(shown, self.seeds))

    def at(self, host: Host) -> Connector:
        """Makes connections to one of its servers."""
        return self.servers.at(host)

    def read(self, replies: Sequence[Reply], asked: Host) -> Slots:
        """The map, from the replies of ``asked`` to :data:`QUESTION`.

        Raises:
            Unavailable: it has none.
            Rejected: it does not let us ask, or is in no cluster.
        """
        details, reply = replies
        if isinstance(reply, ResponseError):
            if "cluster support disabled" in str(reply):
                raise Rejected(
                    "it is no Redis Cluster: name a single server by redis://", maybe_sent=False
                )
            raise meaning(reply).told(maybe_sent=False)
        ranges: list[tuple[int, int, Host]] = []
        replicas: list[Host] = []
        for first, last, primary, *others in reply:
            if (host := self._host(primary, asked)) is not None:
                ranges.append((int(first), int(last), host))
            replicas += [each for other in others if (each := self._host(other, asked)) is not None]
        if not ranges:
            raise Unavailable("it knows of no slots", maybe_sent=False)
        return Slots(ranges, replicas, _epoch(details))

    def _host(self, server: Sequence[Reply], asked: Host) -> Host | None:
        name, port, *rest = server
        if name == NO_NAME:
            # Its address may stand behind it.
            details: Sequence[bytes] = rest[1] if len(rest) > 1 else ()
            known = dict(zip(details[::2], details[1::2], strict=False))
            name = known.get(b"ip")
            if not name:
                return None
        # Nothing, or nil, stands for the address by which it was asked.
        told = (name.decode() if name else asked[0], int(port))
        return self.remap(told) if self.remap else told


def _epoch(details: Reply) -> int | None:
    if isinstance(details, ResponseError):
        if code(details) == "NOPERM":
            return None  # it may not be asked for more
        # Of one that is loading its data the map is what it knew before its restart.
        raise meaning(details).told(maybe_sent=False)
    found = re.search(rb"^cluster_current_epoch:(\d+)", details, re.MULTILINE)
    return int(found[1]) if found else None


_BEHIND: Final = Unavailable("it is behind what was known", maybe_sent=False)

Search: TypeAlias = Generator[Host, Slots, None]
"""Yields the servers to ask; is sent the map of each, or thrown its ``Unavailable``."""


class Map:
    """What is known of a cluster.

    Nothing here is locked: threads that learn at the same time have the same answer, or the next redirection mends it.

    Args:
        clock: a monotonic clock in seconds.
        moved: told after slots have got other owners.
        longest: seconds. While the same servers are doubted again and again, the pauses between two questions double
            up to this.
    """

    def __init__(
        self,
        cluster: Cluster,
        clock: Callable[[], float],
        moved: Callable[[], None] = lambda: None,
        longest: float = LEAST_SECONDS,
    ) -> None:
        self.cluster = cluster
        self._clock = clock
        self._moved = moved
        self._longest = longest
        self._pause = LEAST_SECONDS
        self.slots: Slots | None = None
        self._why_unknown = "the cluster's map is not known"
        self._due = self._asked_at = float("-inf")
        self._turn = 0
        # The newest that a map was of. Who has been asked since it was last told, with a map that is older or none.
        self._epoch = -1
        self._in_vain: dict[Host, Slots | None] = {}
        # Until when each is doubted; and when something was last said against it, whatever it has answered since.
        self._doubted: dict[Host, float] = {}
        self._accused: dict[Host, float] = {}
        self._logged: frozenset[Host] = frozenset()

    @property
    def stale(self) -> bool:
        """Whether to ask for the map (:meth:`look`)."""
        return self._clock() >= self._due

    @property
    def primaries(self) -> tuple[Host, ...]:
        """Those that own slots, as far as is known."""
        return self.slots.primaries if self.slots else ()

    def owner(self, key: str | None) -> Host:
        """The primary for a call with this first key; any, the same for a while, where it has none.

        Raises:
            Unavailable: nobody has the slot, as far as is known.
        """
        slots = self.slots
        if slots is None:
            raise Unavailable(self._why_unknown, maybe_sent=False)
        if key is None:
            return min(slots.primaries, key=self.is_doubted)
        host = slots.owner(slot_of(key))
        if host is None:
            self.doubt()
            raise Unavailable(f"no server has slot {slot_of(key)}", maybe_sent=False)
        return host

    def doubt(self, host: Host | None = None) -> None:
        """Ask for the map soon: ``host`` did not answer, or not as a primary does.

        What is said again of the same server is no news, and the map is asked for after the pause that has grown.
        """
        if host is None or self._is_news(host):
            self._pause = LEAST_SECONDS
        if host is not None:
            self._accused[host] = self._clock()
            self._distrust(host)
        self._due = min(self._due, self._asked_at + self._pause)

    def _is_news(self, host: Host) -> bool:
        return self._clock() - self._accused.get(host, float("-inf")) >= DOUBTED_SECONDS

    def _distrust(self, host: Host) -> None:
        self._doubted[host] = self._clock() + DOUBTED_SECONDS

    def is_doubted(self, host: Host) -> bool:
        """Whether a server has failed a short while ago."""
        return self._doubted.get(host, float("-inf")) > self._clock()

    def hear(self, reply: Reply, asked: Host) -> Redirect | None:
        """Learn from a reply; returns where the call is to be sent instead, if it was not carried out."""
        if not isinstance(reply, ResponseError):
            return None
        found = redirect(reply, asked)
        if found is None:
            if code(reply) in _DOUBTFUL:
                self.doubt(asked)
            elif leads_nowhere(reply):
                self.doubt()
            return None
        slot, there = found
        remap = self.cluster.remap
        if remap is not None:
            there = there._replace(host=remap(there.host))
        if not there.asking:
            self.doubt()
            if self.slots is not None and self.slots.move(slot, there.host):
                self._moved()
        return there

    def look(self) -> Search:
        """Ask one server after the other until one tells its map. What none knows stays as it was.

        A map that is older than one before does not count: its server is cut off from the others, or has just started.

        Raises:
            Unavailable: there is no map yet, and nobody has one.
            Rejected: nobody lets us ask.
        """
        refusals: dict[Host, Unavailable] = {}
        self._asked_at = self._clock()
        next_due = self._due
        if self.slots is not None:
            # Whoever comes meanwhile goes on with what is known.
            self._due = next_due = self._asked_at + ASKED_AGAIN_SECONDS
        for host in self._candidates():
            try:
                slots = yield host
            except Unavailable as error:
                refusals[host] = error
                self._in_vain[host] = None
            else:
                if slots.epoch is None or slots.epoch >= self._epoch:
                    self._doubted.pop(host, None)
                    self._learn(slots)
                    break
                refusals[host] = _BEHIND
                self._in_vain[host] = slots
            self._distrust(host)
        else:
            self._begin_anew()
        if self.slots is None:
            failure = _none(refusals)
            self._why_unknown = failure.reason
            raise failure
        # What is doubted since the question may be what was answered.
        doubted = self._due < next_due
        self._asked_at = self._clock()
        again = self._pause if refusals or doubted else ASKED_AGAIN_SECONDS
        self._due = self._asked_at + again
        self._pause = min(2 * self._pause, self._longest)

    def _candidates(self) -> list[Host]:
        """Whom to ask, best first: those that have answered; each time another one begins."""
        seeds = self.cluster.seeds
        self._turn += 1
        hosts = dict.fromkeys((*_turned(self._known(), self._turn), *seeds))
        best_first = sorted(hosts, key=self.is_doubted)
        if self.slots is None:
            return best_first
        first = best_first[:_KNOWN_ASKED_AT_ONCE]
        # Where all servers have got other addresses, nobody knows them but a seed.
        others = [each for each in (*_turned(seeds, self._turn), *best_first) if each not in first]
        return first + others[:1]

    def _known(self) -> tuple[Host, ...]:
        """The servers that the map names, and the primaries that older ones name."""
        servers = [*self.slots.primaries, *self.slots.replicas] if self.slots else []
        for older in list(self._in_vain.values()):
            servers += older.primaries if older else ()
        return tuple(dict.fromkeys(servers))

    def _begin_anew(self) -> None:
        """Believe an older map where all have been asked and most of its primaries tell it: the cluster was set up anew."""
        asked = dict(self._in_vain)
        older = [each for each in asked.values() if each is not None]
        if not older or not asked.keys() >= {*self._known(), *self.cluster.seeds}:
            return
        newest = max(older, key=lambda each: each.epoch or 0)
        telling = [each for each in newest.primaries if asked.get(each) is not None]
        if 2 * len(telling) > len(newest.primaries):
            self._learn(newest)

    def _learn(self, slots: Slots) -> None:
        self._epoch = self._epoch if slots.epoch is None else slots.epoch
        self._in_vain.clear()
        before, self.slots = self.slots, slots
        primaries = frozenset(slots.primaries)
        if self._logged and self._logged != primaries:
            # Not for each slot: those of a whole primary may move one after the other.
            log.warning("redis_cluster_changed primaries=%s", ",".join(map(shown, slots.primaries)))
        self._logged = primaries
        if before is not None and slots.moved_since(before):
            self._pause = LEAST_SECONDS
            self._moved()


def _none(refusals: dict[Host, Unavailable]) -> Unavailable:
    """What to raise where every server has refused to answer, or has not."""
    told = "; ".join(f"{shown(host)}: {error.reason}" for host, error in refusals.items())
    passing = any(error.retryable for error in refusals.values())
    return (Unavailable if passing else Rejected)(told, maybe_sent=False)


def _turned(hosts: tuple[Host, ...], turn: int) -> tuple[Host, ...]:
    """The same hosts, of which another one is the first each ``turn``."""
    first = turn % max(1, len(hosts))
    return *hosts[first:], *hosts[:first]
