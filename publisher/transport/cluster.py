"""What a Redis Cluster says of itself, and what is believed of it. Without any I/O: who asks and sends is elsewhere.

Each of 16,384 slots is of one primary, and a key's slot follows from its name (Redis documentation, "Redis cluster
specification"). A server that is asked for a slot of another answers with an error that names the other; it has
carried nothing out then, so the call may be sent again there.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Reply
from publisher.errors import Rejected, Unavailable
from publisher.transport.failures import code, meaning
from publisher.transport.redis_py import Connector, Host, shown

log = logging.getLogger(__name__)

SLOTS: Final = REDIS_CLUSTER_HASH_SLOTS
QUESTION: Final = Call(("CLUSTER", "SLOTS"))
"""What a server is asked; :meth:`Cluster.read` reads the reply. Works on servers of every version."""

ASKING: Final = Call(("ASKING",))
"""Goes before a call that is sent where ``ASK`` has led it."""

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

_ELSEWHERE: Final = frozenset({"MOVED", "ASK"})
_NO_NAME: Final = b"?"
"""In the place of a server's host name where names are preferred and it has none."""

_DOUBTFUL: Final = frozenset({"CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY"})


@lru_cache(16_384)
def slot_of(key: str) -> int:
    """The slot of a key or of a channel of sharded pub/sub."""
    return key_slot(key.encode())


class Slots:
    """Which primary owns each slot. ``replicas`` may be asked for the map, too.

    Raises:
        ValueError: ``ranges`` (first slot, last slot, owner) has a slot that there is not.
    """

    def __init__(
        self, ranges: Iterable[tuple[int, int, Host]], replicas: Iterable[Host] = ()
    ) -> None:
        self._owners: list[Host | None] = [None] * SLOTS
        for first, last, host in ranges:
            if not 0 <= first <= last < SLOTS:
                raise ValueError(f"no slots {first} to {last}")
            self._owners[first : last + 1] = [host] * (last + 1 - first)
        self.replicas = tuple(dict.fromkeys(replicas))
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

    def read(self, reply: Reply, asked: Host) -> Slots:
        """The map, from the reply of ``asked`` to :data:`QUESTION`.

        Raises:
            Unavailable: it has none.
            Rejected: it does not let us ask, or is in no cluster.
        """
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
        return Slots(ranges, replicas)

    def _host(self, server: Sequence[Reply], asked: Host) -> Host | None:
        name, port, *rest = server
        if name == _NO_NAME:
            # Its address may stand behind it.
            details: Sequence[bytes] = rest[1] if len(rest) > 1 else ()
            known = dict(zip(details[::2], details[1::2], strict=False))
            name = known.get(b"ip")
            if not name:
                return None
        # Nothing, or nil, stands for the address by which it was asked.
        told = (name.decode() if name else asked[0], int(port))
        return self.remap(told) if self.remap else told


class Redirect(NamedTuple):
    """Where a call is to be sent; ``asking``: this once, behind :data:`ASKING`."""

    host: Host
    asking: bool


def redirect(error: Reply, asked: Host) -> tuple[int, Redirect] | None:
    """The slot, and where the error of ``asked`` leads; ``None`` if it does not lead elsewhere, or does not say where."""
    name = code(error)
    if name not in _ELSEWHERE:
        return None
    # The redis package takes the code off the text, others leave it there.
    slot, address = str(error).split()[-2:]
    host, _, port = address.rpartition(":")
    if host == _NO_NAME.decode():
        return None
    return int(slot), Redirect((host.strip("[]") or asked[0], int(port)), name == "ASK")


def leads_nowhere(reply: Reply) -> bool:
    """Whether another server has the slot, and it is not said which. The map tells: then the call is to be sent again."""
    return code(reply) in _ELSEWHERE and redirect(reply, ("", 0)) is None


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
                self._distrust(host)
            else:
                self._doubted.pop(host, None)
                self._learn(slots)
                break
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
        known = (*self.slots.primaries, *self.slots.replicas) if self.slots else ()
        self._turn += 1
        hosts = dict.fromkeys((*_turned(known, self._turn), *seeds))
        best_first = sorted(hosts, key=self.is_doubted)
        if self.slots is None:
            return best_first
        first = best_first[:_KNOWN_ASKED_AT_ONCE]
        # Where all servers have got other addresses, nobody knows them but a seed.
        others = [each for each in (*_turned(seeds, self._turn), *best_first) if each not in first]
        return first + others[:1]

    def _learn(self, slots: Slots) -> None:
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
