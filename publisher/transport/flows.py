"""What calls need of the outside, as generators: the same code for threads and for asyncio, without any I/O.

A :class:`Flow` yields its steps and is sent the replies to each. ``blocking.run`` and ``loops.run`` take the steps.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Command, Reply, Wait
from publisher.errors import Unavailable
from publisher.transport.failures import code

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A step of a flow: run these calls and send the replies back, or throw ``Unavailable`` in.

    With ``wait`` the last reply is the number of replicas that have confirmed the writes. ``whole``: scripts are sent
    with their text, not by their hash.
    """

    calls: Sequence[Call]
    wait: Wait | None = None
    whole: bool = False

    def commands(self) -> list[Command]:
        """What is sent."""
        if self.whole:
            commands = [call.whole() for call in self.calls]
        else:
            commands = [call.cached() for call in self.calls]
        if self.wait is not None:
            commands.append(self.wait.command())
        return commands


@dataclass(frozen=True, slots=True)
class Pause:
    """A step of a flow: let this many seconds pass."""

    seconds: float


Step = RoundTrip | Pause
Flow: TypeAlias = Generator[Step, list[Reply], T]


def round_trips(calls: Sequence[Call], wait: Wait | None = None) -> Flow[list[Reply]]:
    """Run ``calls`` in one round trip, two when Redis does not know a script yet; the replies, errors among them.

    With ``wait`` the last reply, after those to the calls, is the number of replicas that have confirmed all that
    the calls wrote.

    Raises:
        Unavailable: no answer to all of them.
    """
    replies = yield RoundTrip(calls, wait)
    unknown = [index for index, reply in enumerate(replies) if _is_unknown_script(reply)]
    if unknown:
        try:
            again = yield RoundTrip([calls[index] for index in unknown], wait, whole=True)
        except Unavailable as error:
            # The other calls have taken effect in the first round trip.
            in_part = len(unknown) < len(calls)
            raise error.told(maybe_sent=error.maybe_sent or in_part) from error.__cause__
        replies = _merged(replies, unknown, again)
    if wait is not None and code(replies[-1]) == "UNBLOCKED":
        # It drops now what only it had, so the call must find out anew what became of it.
        raise Unavailable("the primary became a replica during the call", maybe_sent=True)
    return replies


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
