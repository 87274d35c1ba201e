"""Notes, behind a publish, in which channels the owner's confirmation is awaited: where the publish cannot do so itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from publisher.contract import unconfirmed
from publisher.contract.keys import Keys
from publisher.errors import NotReplicated, Unavailable
from publisher.publication import Publication
from publisher.records import Published
from publisher.retrying import Retries, log, once
from publisher.transport.flows import Flow

_LEFT: Final = 10_000
_REST_SECONDS: Final = 1.0
"""After a failure: the server that has the events holds up its own, and publishes elsewhere little."""


class Noting:
    """Builds the flow, for a cluster, where a message and the events are in different slots.

    The message is out, so nothing is raised. What cannot be noted now is noted with what is published next.

    Args:
        clock: a monotonic clock in seconds.
    """

    def __init__(self, keys: Keys, retries: Retries, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._retries = retries
        self._clock = clock
        self._rests_until = float("-inf")
        self._left: dict[str, int] = {}

    def note(self, tried: Iterable[Publication]) -> Flow[None]:
        """Note what was published of ``tried``."""
        messages: dict[str, int] = {}
        for each in tried:
            done = each.outcome
            if not isinstance(done, Published | NotReplicated):
                continue
            # Of a duplicate the first call has noted it; it may be told by now.
            if unconfirmed.awaited(each.run[0]) and not done.duplicate:
                messages.setdefault(each.channel, done.id)
        if not messages:
            return
        left, self._left = self._left, {}
        messages.update(left)  # those are older
        if self._clock() < self._rests_until:
            self._keep(messages)
            return
        try:
            yield from once([unconfirmed.note(self._keys, messages)])
        except Unavailable as error:
            self._retries.tell(error)
            self._rests_until = self._clock() + _REST_SECONDS
            if error.retryable:
                self._keep(messages)
            else:
                self._drop(messages, error.reason)

    def _keep(self, messages: dict[str, int]) -> None:
        # Another thread may have left some meanwhile.
        messages.update(self._left)
        if len(messages) > _LEFT:
            self._drop(messages, "too many wait")
        else:
            self._left = messages

    def _drop(self, messages: dict[str, int], reason: str) -> None:
        log.warning("unconfirmed_not_noted channels=%d reason=%r", len(messages), reason)
