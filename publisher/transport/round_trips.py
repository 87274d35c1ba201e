"""From calls to the commands of a round trip, and from its replies to theirs: without any I/O.

A script is sent by its hash; where Redis does not know it yet, a second round trip sends its text.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias

from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Command, Reply, Wait
from publisher.errors import Unavailable
from publisher.transport.failures import code

RoundTrips: TypeAlias = Generator[list[Command], list[Reply], list[Reply]]
"""Yields the commands of a round trip, and is sent their replies or has ``Unavailable`` thrown in."""


def round_trips(calls: Sequence[Call], wait: Wait | None = None) -> RoundTrips:
    """The round trips that ``calls`` need; returns the reply to each, errors among them.

    With ``wait`` the last reply, after those to the calls, is the number of replicas that have confirmed
    all that the calls wrote.

    Raises:
        Unavailable: no answer to all of them.
    """
    replies = yield _ending_with(wait, [call.cached() for call in calls])
    unknown = [index for index, reply in enumerate(replies) if _is_unknown_script(reply)]
    if unknown:
        try:
            again = yield _ending_with(wait, [calls[index].whole() for index in unknown])
        except Unavailable as error:
            # The other calls have taken effect in the first round trip.
            in_part = len(unknown) < len(calls)
            raise error.told(maybe_sent=error.maybe_sent or in_part) from error.__cause__
        replies = _merged(replies, unknown, again)
    if wait is not None and code(replies[-1]) == "UNBLOCKED":
        # It drops now what only it had, so the call must find out anew what became of it.
        raise Unavailable("the primary became a replica during the call", maybe_sent=True)
    return replies


def _ending_with(wait: Wait | None, commands: list[Command]) -> list[Command]:
    return commands if wait is None else [*commands, wait.command()]


def _is_unknown_script(reply: Reply) -> bool:
    return isinstance(reply, ResponseError) and code(reply) == "NOSCRIPT"


def _merged(replies: list[Reply], unknown: list[int], again: list[Reply]) -> list[Reply]:
    for index, reply in zip(unknown, again, strict=False):
        replies[index] = reply
    if len(again) > len(unknown):
        # The first round trip's count says nothing of the scripts, only of the calls beside them.
        beside = len(unknown) < len(replies) - 1
        replies[-1] = _fewest(replies[-1], again[-1]) if beside else again[-1]
    return replies


def _fewest(first: Reply, second: Reply) -> Reply:
    for count in (first, second):
        if isinstance(count, ResponseError):
            return count
    return min(first, second)
