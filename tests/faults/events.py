"""A backend that is told what happens to users, and what must hold of what it is told."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

import redis.asyncio

from publisher import AsyncPublisher
from publisher.contract.events import CONNECTED, DISCONNECTED
from publisher.contract.keys import Keys
from tests.faults.backend import Backend
from tests.faults.trace import Session, Told, Trace, moment_of

KINDS: Final = "connected,disconnected,subscribed,unsubscribed,confirmed,lost"
NODE_LEASE_SECONDS: Final = 10.0
OF_A_DEAD_NODE_SECONDS: Final = NODE_LEASE_SECONDS + 5
_GROUP: Final = "soak"
_TOLD_SECONDS: Final = 2.0
"""A connection that lasts so long is told, unless Redis is away."""


class EventReader(Backend):
    """Notes each event that it is given."""

    def __init__(self, publisher: AsyncPublisher, trace: Trace) -> None:
        super().__init__()
        self._events = publisher.events(_GROUP, start="oldest")
        self._given = trace.given

    async def run(self) -> None:
        """Go on until stopped, and until there is none left."""
        handled: list[str] = []
        while True:
            events = await self._events.take(handled)
            handled = [each.id for each in events]
            self._given += handled
            if not events and await self._stopped_within(0.25):
                return


async def events_in(client: redis.asyncio.Redis, prefix: str) -> list[Told]:
    """All that were ever told."""
    found = []
    for id_, fields in await client.xrange(Keys(prefix).events):
        told = {name.decode(): value.decode() for name, value in fields.items()}
        at = moment_of(int(id_.partition(b"-")[0]) / 1_000)
        found.append(
            Told(
                *(id_.decode(), at, told["kind"], told["user"], told["node"]),
                connection=told.get("connection", ""),
                first="first" in told,
                last="last" in told,
            )
        )
    return found


def told_of_all_dead(trace: Trace, events: list[Told]) -> bool:
    """Whether the end of each connection was told that began at a node which was killed."""
    there = {each.connection for each in events if each.kind == CONNECTED}
    there -= {each.connection for each in events if each.kind == DISCONNECTED}
    return not any(each.partition("/")[0] in trace.killed for each in there)


def told_wrongly(trace: Trace) -> Iterator[str]:
    """Events that do not fit those before, that are missing, late, or were not given to who asks for them."""
    if not trace.events:
        return
    yield from _inconsistent(trace)
    yield from _late(trace)
    yield from _untold(trace)
    given = set(trace.given)
    # What was told after the reader had ended is in the stream only.
    newest = max((_order(each) for each in given), default=(0, 0))
    for each in trace.events:
        if each.id not in given and _order(each.id) < newest:
            yield f"event: {each.kind} of {each.user} ({each.id}) was never given to its group"


def _order(id_: str) -> tuple[int, int]:
    milliseconds, _, number = id_.partition("-")
    return int(milliseconds), int(number)


def _inconsistent(trace: Trace) -> Iterator[str]:
    """Each connection begins, and ends once for each time; a user's first and last are those that the events make them."""
    open_: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for each in trace.events:
        what = f"event: {each.kind} of {each.user}'s {each.connection} ({each.id})"
        if each.kind == CONNECTED:
            if each.connection in open_:
                yield f"{what} was told twice"
            if each.first != (counts[each.user] == 0):
                yield f"{what} says first={each.first}, and {counts[each.user]} were there"
            open_[each.connection] = each.user
            counts[each.user] += 1
        elif each.kind == DISCONNECTED:
            if open_.pop(each.connection, None) is None:
                yield f"{what} was told twice, or never began"
                continue
            counts[each.user] -= 1
            if each.last != (counts[each.user] == 0):
                yield f"{what} says last={each.last}, and {counts[each.user]} are left"
    for connection, user in open_.items():
        yield f"event: the end of {user}'s {connection} was never told"


def _late(trace: Trace) -> Iterator[str]:
    """The end of a dead node's connections is told within its lease and five seconds."""
    for each in trace.events:
        killed_at = trace.killed.get(each.node)
        if each.kind == DISCONNECTED and killed_at is not None:
            excused = sum(outage.overlap(killed_at, each.at) for outage in trace.outages)
            late = each.at - killed_at
            if late - excused > OF_A_DEAD_NODE_SECONDS and not trace.losing(killed_at, each.at):
                yield f"event: the end of {each.user}'s {each.connection} was told {late:.1f} s after its node was killed"


def _untold(trace: Trace) -> Iterator[str]:
    """As many connections of a user were told as surely there were."""
    told: dict[str, set[str]] = defaultdict(set)
    for each in trace.events:
        if each.kind == CONNECTED:
            told[each.user].add(each.connection)
    surely: Counter[str] = Counter()
    for device in trace.devices:
        surely[device.user] += sum(_is_sure(trace, session) for session in device.sessions)
    for user, count in surely.items():
        if count > len(told[user]):
            yield f"event: {user} had {count} connections at least, and {len(told[user])} were told"


def _is_sure(trace: Trace, session: Session) -> bool:
    begin, end = session.opened_at - _TOLD_SECONDS, session.lasted_until(trace.ended_at)
    lasted = end - session.opened_at >= _TOLD_SECONDS
    return lasted and not trace.disturbed(begin, session.opened_at + _TOLD_SECONDS)
