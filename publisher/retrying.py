"""How often a failed round trip is tried again, after how long, and which calls that suits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Reply
from publisher.errors import Unavailable
from publisher.transport.failures import meaning
from publisher.transport.flows import Flow, Pause, round_trips

log = logging.getLogger("publisher")

_LONGEST_PAUSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failed round trip is tried again, and after how long.

    ``backoff`` seconds before the first time, doubled for each after it, up to two seconds; ``random``
    (0 to 1) takes away up to half, so that many clients do not come back together.
    """

    limit: int
    random: Callable[[], float]
    backoff: float = 0.05

    def pause(self, failures: int) -> Pause:
        """The pause after so many failures in a row."""
        # Without the cap on the exponent a very large limit would overflow.
        longest = min(_LONGEST_PAUSE_SECONDS, self.backoff * 2 ** min(failures - 1, 16))
        return Pause(longest * (0.5 + self.random() / 2))


def repeat(calls: Sequence[Call], retries: Retries, *, errors: bool = False) -> Flow[list[Reply]]:
    """Run calls until all are answered. They must be such that twice does no more than once.

    With ``errors`` an error is an answer like any other.

    Raises:
        Unavailable: they were not answered at any try, or with an error.
    """
    failures = 0
    maybe_sent = False
    while True:
        try:
            replies = yield from once(calls, errors=errors)
        except Unavailable as error:
            if error.retryable:
                log_failure(error)
            failures += 1
            maybe_sent = maybe_sent or error.maybe_sent
            if failures > retries.limit or not error.retryable:
                raise error.told(maybe_sent=maybe_sent) from error.__cause__
        else:
            return replies
        yield retries.pause(failures)


def read(calls: Sequence[Call], retries: Retries) -> Flow[list[Reply]]:
    """Run calls that change nothing. Raises as :func:`repeat` does."""
    try:
        return (yield from repeat(calls, retries))
    except Unavailable as error:
        raise error.told(maybe_sent=False) from error.__cause__


def once(calls: Sequence[Call], *, errors: bool = False) -> Flow[list[Reply]]:
    """One round trip. Without ``errors`` an error in place of a reply is raised.

    Raises:
        Unavailable: no answer, or an error.
    """
    replies = yield from round_trips(calls)
    found = [reply for reply in replies if isinstance(reply, ResponseError)]
    if found and not errors:
        error = meaning(found[0])
        raise error.told(maybe_sent=error.maybe_sent or len(found) < len(replies))
    return replies


def log_failure(error: Unavailable) -> None:
    """Log a try that failed, also where the next one will make it good."""
    log.warning("redis_unavailable reason=%r maybe_sent=%s", error.reason, error.maybe_sent)
