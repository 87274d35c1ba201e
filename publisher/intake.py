"""The messages of a call: taken off their iterable as there is room, and their outcomes in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from publisher.errors import InvalidInput, Unavailable
from publisher.publication import Publication

BATCH: Final = 500
"""Messages in one round trip: enough to make its cost small, few enough to finish within a timeout."""

BATCH_BYTES: Final = 2 * 1024 * 1024
"""A round trip takes no further message once it has so many bytes: 1.7 s of a line of 10 Mbit/s."""


class Intake:
    """Takes messages off their iterable as round trips have room for them, and puts the outcomes in order.

    So that of many large messages only a few exist as JSON at any time. What the iterable raises is raised once those
    before it have been sent.
    """

    def __init__(
        self,
        accepted: Iterator[Publication | InvalidInput],
        finished: Callable[[Publication], None] | None = None,
    ) -> None:
        self._accepted = accepted
        self._finished = finished
        self._raised: Exception | None = None
        self.outcomes: list[Any] = []

    def fill(self, waiting: Sequence[Publication]) -> list[Publication]:
        """``waiting``, and as many more as fit into a round trip."""
        filled = list(waiting)
        size = sum([each.size for each in waiting])
        if len(filled) >= BATCH or size >= BATCH_BYTES:
            return filled
        room = BATCH - len(filled)
        for each in self._take():
            if isinstance(each, Publication):
                each.place = len(self.outcomes)
                filled.append(each)
                size += each.size
                room -= 1
            self.outcomes.append(each)
            if not room or size >= BATCH_BYTES:
                break
        if not filled:
            self._end()
        return filled

    def _take(self) -> Iterator[Publication | InvalidInput]:
        """What the iterable brings, until it ends or raises."""
        try:
            while self._raised is None:
                yield next(self._accepted)
        except StopIteration:
            return
        except Exception as error:  # noqa: BLE001 - whatever the caller raises is the caller's
            self._raised = error

    def _end(self) -> None:
        if self._raised is not None:
            raise self._raised

    def sort_out(self, tried: Iterable[Publication]) -> list[Publication]:
        """Keep the outcomes of ``tried``; returns those that are to be tried again."""
        again = []
        for each in tried:
            if each.pending:
                again.append(each)
            else:
                self._finish(each)
        return again

    def _finish(self, each: Publication) -> None:
        self.outcomes[each.place] = each.outcome
        if each.trace is not None:
            each.trace.end(each.outcome)
        if self._finished is not None:
            self._finished(each)

    def drop(self, waiting: Iterable[Publication], failure: Unavailable) -> None:
        """Note the outcomes of ``waiting``, which are not sent any more because of ``failure``."""
        for each in waiting:
            if each.unfinished:
                each.failed(failure.told(maybe_sent=False))
            self._finish(each)

    def give_up(self, waiting: Iterable[Publication], failure: Unavailable) -> None:
        """Note the outcomes, where nothing more is sent because of ``failure``."""
        self.drop(waiting, failure)
        for rest in self._take():
            self.outcomes.append(rest)
            if isinstance(rest, Publication):
                rest.place = len(self.outcomes) - 1
                rest.failed(failure.told(maybe_sent=False))
                self._finish(rest)
        self._end()
