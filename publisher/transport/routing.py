"""How a round trip finds its server in a cluster, and follows the errors that lead to another: for threads and asyncio."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, NamedTuple, TypeAlias

from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Reply
from publisher.errors import Unavailable
from publisher.transport.cluster import ASKING, Map, Redirect, slot_of
from publisher.transport.failures import code
from publisher.transport.flows import RoundTrip
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
    asked = [host] * len(step.calls)
    for _ in range(_MOST_REDIRECTIONS):
        away = _away(known, step, replies, asked)
        if not away:
            return replies
        for there, numbers in away.items():
            try:
                further = yield from _hop(known, _further(step, there, numbers))
            except Unavailable as error:
                # Of the others some may have been carried out.
                raise error.told(maybe_sent=True) from error.__cause__
            _put(step, replies, further, there, numbers)
            for number in numbers:
                asked[number] = there.host
    for numbers in _away(known, step, replies, asked).values():
        for number in numbers:
            replies[number] = ResponseError(_ON_ITS_WAY)
    return replies


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
    for number, reply in enumerate(replies[: len(asked)]):
        if not isinstance(reply, ResponseError):
            continue
        there = known.hear(reply, asked[number])
        if there is None:
            if code(reply) in _LATER:
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


def _put(
    step: RoundTrip,
    replies: list[Reply],
    further: list[Reply],
    there: Redirect,
    numbers: list[int],
) -> None:
    """Put the replies of another server in their places."""
    if step.wait is not None:
        count = further.pop()
        # What fewer replicas have is what all of it has.
        if isinstance(count, ResponseError):
            replies[-1] = count
        elif not isinstance(replies[-1], ResponseError):
            replies[-1] = min(count, replies[-1])
    if there.asking:
        further = further[1::2]
    for number, reply in zip(numbers, further, strict=True):
        replies[number] = reply
