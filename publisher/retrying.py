"""How often a failed round trip is tried again, after how long, and which calls that suits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Reply, Wait
from publisher.errors import Unavailable
from publisher.transport.contact import TOLD_AGAIN_SECONDS
from publisher.transport.failures import meaning
from publisher.transport.flows import Flow, Pause, T, round_trips

log = logging.getLogger("publisher")

_LONGEST_PAUSE_SECONDS: Final = 2.0
_LONGEST_IN_FAILOVER_SECONDS: Final = 0.5
"""Once another primary is there, nobody waits longer to notice."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failed round trip is tried again, and after how long.

    ``backoff`` seconds before the first time, doubled for each after it, up to two seconds; ``random``
    (0 to 1) takes away up to half, so that many clients do not come back together.

    With ``give_up_after`` another server may take over. Then it is tried again for so many seconds of ``clock``, however
    often that is, unless ``limit`` is 0.
    """

    limit: int
    random: Callable[[], float]
    backoff: float = 0.05
    give_up_after: float | None = None
    clock: Callable[[], float] = time.monotonic
    _told_at: dict[str, float] = field(default_factory=dict, init=False, compare=False)

    @property
    def other_servers(self) -> bool:
        """Whether another server may take over."""
        return self.give_up_after is not None

    def pause(self, failures: int) -> Pause:
        """The pause after so many failures in a row."""
        longest = (
            _LONGEST_PAUSE_SECONDS if self.give_up_after is None else _LONGEST_IN_FAILOVER_SECONDS
        )
        # Without the cap on the exponent a very large limit would overflow.
        longest = min(longest, self.backoff * 2 ** min(failures - 1, 16))
        return Pause(longest * (0.5 + self.random() / 2))

    def tell(self, error: Unavailable) -> None:
        """Log a try that failed, also where the next one will make it good; of those with the same code one for a while.

        That a primary is lost is told where it is noticed (``transport/contact.py``).
        """
        if error.server and error.retryable:
            return
        kind, now = error.reason.partition(" ")[0], self.clock()
        if now - self._told_at.get(kind, float("-inf")) >= TOLD_AGAIN_SECONDS:
            self._told_at[kind] = now
            log.warning("redis_unavailable reason=%r maybe_sent=%s", error.reason, error.maybe_sent)


class Failures:
    """The failures of one call, in a row."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self.reset()

    def reset(self) -> None:
        """It has succeeded with a part of what it does."""
        self._count = 0
        self._since = self._retries.clock()

    def add(self, error: Unavailable) -> Pause | None:
        """It has failed once more; returns the pause before the next try, ``None`` where there is none."""
        self._count += 1
        retries = self._retries
        if error.retryable:  # what is not is raised
            retries.tell(error)
        if retries.give_up_after is None or not retries.limit:
            over = self._count > retries.limit
        else:
            over = retries.clock() - self._since >= retries.give_up_after
        return None if over else retries.pause(self._count)


def again(attempt: Callable[[], Flow[T]], retries: Retries) -> Flow[T]:
    """Make an attempt until one succeeds; returns its result. It must be such that twice does no more than once.

    Raises:
        Unavailable: what the last one has raised.
    """
    failures = Failures(retries)
    maybe_sent = False
    while True:
        try:
            result = yield from attempt()
        except Unavailable as error:
            maybe_sent = maybe_sent or error.maybe_sent
            pause = failures.add(error)
            if pause is None or not error.retryable:
                raise error.told(maybe_sent=maybe_sent) from error.__cause__
        else:
            return result
        yield pause


def repeat(calls: Sequence[Call], retries: Retries) -> Flow[list[Reply]]:
    """Run calls until all are answered. They must be such that twice does no more than once.

    Raises:
        Unavailable: they were not answered at any try, or with an error.
    """
    return (yield from again(partial(once, calls), retries))


def write(call: Call, retries: Retries, min_replicas: int, replica_timeout: float) -> Flow[Reply]:
    """Run a call until it is answered, and as many replicas have what it has written. It must be as with :func:`again`.

    Raises:
        Unavailable: as :func:`repeat`, or fewer replicas have confirmed it within ``replica_timeout`` seconds.
    """
    wait = Wait(min_replicas, replica_timeout) if min_replicas else None

    def attempt() -> Flow[Reply]:
        replies = yield from once([call], wait)
        if wait is not None and replies[-1] < min_replicas:
            reason = (
                f"only {replies[-1]} of {min_replicas} replicas have it: a failover may lose it"
            )
            raise Unavailable(reason, maybe_sent=True)
        return replies[0]

    return (yield from again(attempt, retries))


def read(calls: Sequence[Call], retries: Retries) -> Flow[list[Reply]]:
    """Run calls that change nothing. Raises as :func:`repeat` does."""
    return (yield from without_effect(repeat(calls, retries)))


def without_effect(flow: Flow[T]) -> Flow[T]:
    """Take a flow that changes nothing: whatever fails, nothing was sent by it."""
    try:
        return (yield from flow)
    except Unavailable as error:
        raise error.told(maybe_sent=False) from error.__cause__


def once(calls: Sequence[Call], wait: Wait | None = None) -> Flow[list[Reply]]:
    """One round trip. An error in place of a reply is raised. With ``wait`` the last reply is how many replicas have it.

    Raises:
        Unavailable: no answer, or an error.
    """
    replies = yield from round_trips(calls, wait)
    found = [reply for reply in replies if isinstance(reply, ResponseError)]
    if found:
        error = meaning(found[0])
        raise error.told(maybe_sent=error.maybe_sent or len(found) < len(replies))
    return replies
