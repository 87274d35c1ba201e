"""How a round trip finds its server in a cluster, and follows the errors that lead to another: for threads and asyncio."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, NamedTuple, TypeAlias

from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Reply
from publisher.errors import Unavailable
from publisher.transport.cluster import Map, slot_of
from publisher.transport.failures import code, meaning
from publisher.transport.flows import RoundTrip
from publisher.transport.redirects import ASKING, Redirect, leads_nowhere
from publisher.transport.redis_py import Host

_MOST_REDIRECTIONS: Final = 5
"""While slots move, servers may lead to each other for a moment."""

_LATER: Final = frozenset({"TRYAGAIN", "CLUSTERDOWN"})
_ON_ITS_WAY: Final = "TRYAGAIN the slot is on its way to another server"


class Hop(NamedTuple):
    """A round trip with one server."""

    host: Host
    step: RoundTrip


Route: TypeAlias = Generator[Hop, list[Reply], list[Reply]]
"""Yields its hops; is sent the replies of each, or thrown its ``Unavailable``."""


def host_of(known: Map, step: RoundTrip) -> Host:
    """Where a round trip begins.

    Raises:
        Unavailable: nobody has the slot, as far as is known.
    """
    if step.at is not None:
        return step.at
    return known.owner(next((key for call in step.calls if (key := call.key) is not None), None))


def owners(known: Map, keys: tuple[str, ...]) -> list[Host | None]:
    """The primary of each key; ``None`` where nobody has its slot."""
    found: list[Host | None] = []
    for key in keys:
        try:
            found.append(known.owner(key))
        except Unavailable:
            found.append(None)
    return found


def route(known: Map, step: RoundTrip, host: Host) -> Route:
    """The replies to a round trip that begins at ``host``. What another server has to answer is asked there.

    Raises:
        Unavailable: no answer to all of it.
    """
    replies = yield from _hop(known, Hop(host, step))
    if step.at is not None:
        return replies
    counts: list[Reply] = []
    replies = _without_count(step, replies, counts)
    asked = [host] * len(step.calls)
    for _ in range(_MOST_REDIRECTIONS):
        away = _away(known, step, replies, asked)
        if not away:
            return _with_count(step, replies, counts)
        for there, numbers in away.items():
            try:
                further = yield from _hop(known, _further(step, there, numbers))
            except Unavailable as error:
                sent = error.maybe_sent or any(map(_may_be_done, replies))
                raise error.told(maybe_sent=sent) from error.__cause__
            further = _without_count(step, further, counts, asking=there.asking)
            for number, reply in zip(numbers, further, strict=True):
                replies[number] = reply
                asked[number] = there.host
    for numbers in _away(known, step, replies, asked).values():
        for number in numbers:
            replies[number] = ResponseError(_ON_ITS_WAY)
    return _with_count(step, replies, counts)


def _hop(known: Map, hop: Hop) -> Route:
    try:
        return (yield hop)
    except Unavailable:
        known.doubt(hop.host)
        raise


def _away(
    known: Map, step: RoundTrip, replies: list[Reply], asked: list[Host]
) -> dict[Redirect, list[int]]:
    """The calls, by their numbers, that another server has to answer."""
    away: dict[Redirect, list[int]] = {}
    later: set[int] = set()
    for number, reply in enumerate(replies):
        if not isinstance(reply, ResponseError):
            continue
        there = known.hear(reply, asked[number])
        if there is None:
            if leads_nowhere(reply):
                replies[number] = ResponseError(_ON_ITS_WAY)
            if code(replies[number]) in _LATER:
                later.add(_slot(step.calls[number]))
        elif _slot(step.calls[number]) in later:
            # It must not come before what is tried again later.
            replies[number] = ResponseError(_ON_ITS_WAY)
        else:
            away.setdefault(there, []).append(number)
    return away


def _slot(call: Call) -> int:
    key = call.key
    return -1 if key is None else slot_of(key)


def _further(step: RoundTrip, there: Redirect, numbers: list[int]) -> Hop:
    calls = [step.calls[number] for number in numbers]
    if there.asking:
        calls = [each for call in calls for each in (ASKING, call)]
    return Hop(there.host, RoundTrip(calls, step.wait))


def _without_count(
    step: RoundTrip, replies: list[Reply], counts: list[Reply], *, asking: bool = False
) -> list[Reply]:
    """The replies of one server to the calls. How many replicas have confirmed them goes into ``counts``.

    Of a server that has carried nothing out, a replica or a primary without replicas, that says nothing.
    """
    count = None if step.wait is None else replies.pop()
    if asking:
        replies = replies[1::2]
    if step.wait is not None and any(map(_may_be_done, replies)):
        counts.append(count)
    return replies


def _with_count(step: RoundTrip, replies: list[Reply], counts: list[Reply]) -> list[Reply]:
    """The replies and, where replicas are waited for, how many have confirmed all of it: the fewest, or an error."""
    if step.wait is not None:
        errors = [each for each in counts if isinstance(each, ResponseError)]
        replies.append(errors[0] if errors else min(counts, default=0))
    return replies


def _may_be_done(reply: Reply) -> bool:
    """Whether the call may have changed something."""
    return not isinstance(reply, ResponseError) or meaning(reply).maybe_sent
