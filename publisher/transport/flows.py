"""What calls need of the outside, as generators: the same code for threads and for asyncio, without any I/O.

A :class:`Flow` yields its steps and is sent the replies to each. ``blocking.run`` and ``loops.run`` take the steps.
:func:`driven` and :func:`driven_async` are how such a generator is led from its first step to its result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Command, Reply, Wait
from publisher.errors import Unavailable
from publisher.transport.failures import code
from publisher.transport.redis_py import Host

T = TypeVar("T")
StepT = TypeVar("StepT")
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A step of a flow: run these calls and send the replies back, or throw ``Unavailable`` in.

    With ``wait`` the last reply is the number of replicas that have confirmed the writes. In a cluster all calls are
    for one primary: that of the first key, or the server ``at`` which they are to be run whatever their keys.
    """

    calls: Sequence[Call]
    wait: Wait | None = None
    at: Host | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """A step of a flow: let this many seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SideBySide:
    """A step of a flow for a cluster: run these at the same time. The answer has the replies of each, or its ``Unavailable``."""

    round_trips: Sequence[RoundTrip]


@dataclass(frozen=True, slots=True)
class Owners:
    """A step of a flow for a cluster: the primary of each of these keys, as far as is known, or ``None``."""

    keys: tuple[str, ...]


Step = RoundTrip | Pause | SideBySide | Owners
Flow: TypeAlias = Generator[Step, list[Reply], T]


def driven(steps: Generator[StepT, AnswerT, T], take: Callable[[StepT], AnswerT]) -> T:
    """``take`` each of the ``steps`` and send the answer back, or throw its ``Unavailable`` in; returns the result."""
    try:
        step = next(steps)
        while True:
            try:
                answer = take(step)
            except Unavailable as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result


async def driven_async(
    steps: Generator[StepT, AnswerT, T], take: Callable[[StepT], Awaitable[AnswerT]]
) -> T:
    """As :func:`driven`, where ``take`` is to be awaited."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await take(step)
            except Unavailable as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result


def side_by_side(flows: Sequence[Flow[T]]) -> Flow[list[T]]:
    """Run ``flows`` of round trips in step with each other; their results."""
    results: dict[int, T] = {}
    steps: dict[int, Any] = {}

    def lead(number: int, move: Callable[[], Step]) -> None:
        try:
            steps[number] = move()
        except StopIteration as done:
            steps.pop(number, None)
            results[number] = done.value

    for number, flow in enumerate(flows):
        lead(number, partial(next, flow))
    while steps:
        numbers = list(steps)
        answers: list[Any]
        if len(numbers) == 1:
            try:
                answers = [(yield steps[numbers[0]])]
            except Unavailable as error:
                answers = [error]
        else:
            answers = yield SideBySide([steps[number] for number in numbers])
        for number, answer in zip(numbers, answers, strict=True):
            flow = flows[number]
            lead(
                number,
                partial(flow.throw if isinstance(answer, Unavailable) else flow.send, answer),
            )
    return [results[number] for number in range(len(flows))]


def round_trips(
    calls: Sequence[Call], wait: Wait | None = None, at: Host | None = None
) -> Flow[list[Reply]]:
    """Run ``calls`` in one round trip, in a cluster ``at`` this server; the replies, errors among them.

    With ``wait`` the last reply, after those to the calls, is the number of replicas that have confirmed all that
    the calls wrote.

    Raises:
        Unavailable: no answer to all of them.
    """
    replies = yield RoundTrip(calls, wait, at)
    if len(calls) == 1 and code(replies[0]) == "NOSCRIPT":
        replies = yield RoundTrip(
            calls, wait, at
        )  # with the script's text, since now it counts as unknown
    if wait is not None and code(replies[-1]) == "UNBLOCKED":
        # It drops now what only it had, so the call must find out anew what became of it.
        raise Unavailable("the primary became a replica during the call", maybe_sent=True)
    return replies


class Scripts:
    """Which scripts Redis has: those are sent by their hash, the others with their text.

    Redis forgets them at a restart, a failover or a ``SCRIPT FLUSH``. Of the calls of a round trip the first of each
    script brings the text. If those that Redis did not know the script for were sent once more, they would come
    behind the others.
    """

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()

    def commands(self, step: RoundTrip) -> tuple[list[Command], frozenset[str]]:
        """What to send, and the hashes of the scripts that Redis knows once it has answered."""
        known = set(self._known)
        commands = []
        for call in step.calls:
            script = call.script
            if script is None or script.sha in known:
                commands.append(call.cached())
            else:
                known.add(script.sha)
                commands.append(call.whole())
        if step.wait is not None:
            commands.append(step.wait.command())
        return commands, frozenset(known)

    def answered(self, known: frozenset[str], replies: Sequence[Reply]) -> None:
        """Take note of what Redis has answered, to all that was sent."""
        unknown = any(
            isinstance(each, ResponseError) and code(each) == "NOSCRIPT" for each in replies
        )
        self._known = frozenset() if unknown else known

    def forget(self) -> None:
        """A connection is lost: the next may be one to a server that knows none."""
        self._known = frozenset()
