"""What must hold of a run: nobody hears what is not theirs, and nobody misses what is."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Final

from tests.model.record import NODE_REPLACED, OPEN, Arrival, Record, Session, Visit

PROMISED_SECONDS: Final = 1.0
"""So long after access has ended a message that is published then may still arrive (docs/publisher.md)."""
_HEALING_SECONDS: Final = 5.0
"""After a fault, what is taken away at its end may take effect a moment later."""


def violations(record: Record) -> list[str]:
    """Everything that must not be; empty when all is well."""
    return [
        each
        for visit in record.visits
        for each in (
            *_let_in(record, visit),
            *_overheard(record, visit),
            *_missed(record, visit),
            *_turned_away(record, visit),
            *still_there(record, visit),
            *(f"odd: {visit.name} {what}" for what in visit.odd),
        )
    ] + [*_never_arrived(record), *(f"log: {each}" for each in record.errors)]


# -- nobody hears what is not theirs --------------------------------------------------------------


def _let_in(record: Record, visit: Visit) -> Iterator[str]:
    for each in record.revocations:
        if visit.shown is not None and each.is_about(visit.shown) and each.done < visit.asked:
            late = visit.asked - each.done
            yield f"let in: {visit.name}, {late:.3f} s after its token had been revoked"


def _overheard(record: Record, visit: Visit) -> Iterator[str]:
    for session in visit.sessions:
        for arrival in session.arrivals:
            publication = record.publications.get(arrival.number)
            if publication is None or publication.channel != session.channel:
                yield f"overheard: {visit.name} got {publication} in {session.channel}"
            else:
                yield from _overheard_one(record, visit, session, arrival, publication.asked)


def _overheard_one(
    record: Record, visit: Visit, session: Session, arrival: Arrival, asked: float
) -> Iterator[str]:
    published = min(asked, arrival.at)
    for holders, what in ((visit.holders, session.channel), ((visit,), OPEN)):
        came = f"{visit.name} got #{arrival.number} of {session.channel} at {arrival.at:.3f}"
        if not _had_a_way(record, holders, what, published, arrival.at):
            yield f"overheard: {came}, published at {asked:.3f}, and had no way to {what!r} a second before, nor since"
        elif not _in_trouble(record, visit, arrival.at) and not _had_a_way(
            record, holders, what, arrival.at, arrival.at
        ):
            yield f"late: {came}, and had no way to {what!r} for a second"


def _had_a_way(
    record: Record, holders: Collection[object], what: str, at: float, until: float
) -> bool:
    """Whether one of the holders perhaps had a way at a moment, or in the second before, or since."""
    return record.ways.perhaps(holders, what, at - PROMISED_SECONDS, until) or record.ways.perhaps(
        holders, what, record.late.before(at, PROMISED_SECONDS), until
    )


def _in_trouble(record: Record, visit: Visit, at: float) -> bool:
    return any(
        fault.begin <= at <= fault.end + _HEALING_SECONDS
        for fault in record.faults
        if fault.node in {None, visit.node}
    )


def still_there(record: Record, visit: Visit) -> Iterator[str]:
    """In the end, what has no way in is over."""
    over = record.over
    if visit.ended == math.inf and not _had_a_way(record, (visit,), OPEN, over, over):
        yield f"outstayed: {visit.name} is still connected"
    for session in visit.sessions:
        if min(session.ended, visit.ended) == math.inf and not _had_a_way(
            record, visit.holders, session.channel, over, over
        ):
            yield f"outstayed: {visit.name} is still subscribed to {session.channel}"


# -- nobody misses what is theirs -----------------------------------------------------------------


def missing(record: Record, visit: Visit, session: Session) -> set[int]:
    """What was published for a subscription and has not come: all, or up to the last that came if it has ended."""
    open_to_the_end = session.ended == visit.ended == math.inf
    last = max((each.id or 0 for each in session.arrivals), default=0)
    return {
        each.number
        for each in record.publications.values()
        if each.channel == session.channel
        and each.done < math.inf
        and each.asked > session.answered
        and (open_to_the_end or (each.id or 0) < last)
    } - {each.number for each in session.arrivals}


def _missed(record: Record, visit: Visit) -> Iterator[str]:
    for session in visit.sessions:
        if not record.keeps_log(session.channel):
            continue
        if lost := missing(record, visit, session):
            yield f"missed: {visit.name} did not get {sorted(lost)[:10]} of {session.channel}"
        ids = [each.id or 0 for each in session.arrivals]
        if ids != sorted(set(ids)):
            yield f"disordered: {visit.name} in {session.channel}"


def never_arrived(record: Record, user: str, channel: str) -> set[int]:
    """What was published after a user's first subscription, and has come to none of the user's connections."""
    sessions = [
        session
        for visit in record.visits
        if visit.user == user
        for session in visit.sessions
        if session.channel == channel
    ]
    if not sessions:
        return set()
    first = min(each.answered for each in sessions)
    return {
        each.number
        for each in record.publications.values()
        if each.channel == channel and each.done < math.inf and each.asked > first
    } - {arrival.number for session in sessions for arrival in session.arrivals}


def in_the_end(record: Record) -> Iterator[tuple[str, str]]:
    """The users and the channels that they are subscribed to in the end: all of it must have come."""
    yield from {
        (visit.user, session.channel)
        for visit in record.visits
        for session in visit.sessions
        if min(session.ended, visit.ended) == math.inf and record.keeps_log(session.channel)
    }


def _never_arrived(record: Record) -> Iterator[str]:
    for user, channel in in_the_end(record):
        if lost := never_arrived(record, user, channel):
            yield f"never arrived: {user!r} did not get {sorted(lost)[:10]} of {channel}"


def _turned_away(record: Record, visit: Visit) -> Iterator[str]:
    """Nobody is refused, or sent away, who surely has a way in."""
    for refusal in visit.refusals:
        if record.ways.surely(visit.holders, refusal.channel, refusal.since, refusal.at):
            yield (
                f"turned away: {visit.name} was told {refusal.told} of {refusal.channel} at {refusal.at:.3f}, and has had "
                f"a way since {refusal.since:.3f}"
            )
    if (
        visit.ended < math.inf
        and not visit.left
        and not _node_left(record, visit)
        and record.ways.surely((visit,), OPEN, visit.opened, visit.ended)
    ):
        yield f"turned away: {visit.name} was closed at {visit.ended:.3f}: {visit.why}"


def _node_left(record: Record, visit: Visit) -> bool:
    return any(
        fault.name == NODE_REPLACED
        and fault.node == visit.node
        and fault.begin <= visit.ended <= fault.end
        for fault in record.faults
    )
