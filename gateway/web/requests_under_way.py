"""Requests to streams that are under way on this node, polls or what is said: how many there may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from gateway.core.handshake import Refusal
from gateway.node.streams import Streams
from gateway.web.admission import Admission, unavailable
from gateway.web.user_quota import too_many

_FOR_A_PLACE: Final = 4
"""So many may be under way for each place that a user has. One waits; of those before it a client on a bad line may not have
taken the answers yet."""
_RETRY_SECONDS: Final = 5.0


class RequestsUnderWay:
    """Counts requests of one kind until their connections are over.

    Each holds room on the node, but for one to each stream that is here: its place is counted. That place may be given back before
    the client has taken its answer, and from then on the request holds room as the others do.

    Args:
        places: how many a user has.
        changed: told by how many more, or fewer, are under way.
    """

    def __init__(
        self,
        admission: Admission,
        streams: Streams,
        places: int,
        changed: Callable[[int], None] = lambda _by: None,
    ) -> None:
        self._admission = admission
        self._streams = streams
        self._most = places * _FOR_A_PLACE
        self._changed = changed
        self._of_user: Counter[str] = Counter()
        # By the name of its stream, the request that holds no room.
        self._covered: dict[str, object] = {}
        streams.on_leaving(self._uncover)

    def refusal(self, user: str) -> Refusal | None:
        """Why there may be no more of a user; ``None`` where there may be."""
        enough = self._of_user[user] >= self._most
        return too_many("under_way", _RETRY_SECONDS) if enough else None

    def enter(self, user: str, stream: str) -> Callable[[], None] | Refusal:
        """Count a request of ``user`` to a ``stream``, here or elsewhere. Returns what is called once when it is over; or why it may not
        be.
        """
        refusal = self.refusal(user)
        if refusal is not None:
            return refusal
        covered = stream not in self._covered and self._streams.find(stream, user) is not None
        if not covered and not self._admission.lend():
            return unavailable("node_full")
        return self._count(user, stream, covered=covered)

    def begin(self, user: str, stream: str) -> Callable[[], None]:
        """Count the request with which a stream begins here. Returns what is called once when it is over."""
        return self._count(user, stream, covered=True)

    def _count(self, user: str, stream: str, *, covered: bool) -> Callable[[], None]:
        request = object()
        if covered:
            self._covered[stream] = request
        self._of_user[user] += 1
        self._changed(1)

        def over() -> None:
            self._changed(-1)
            self._of_user[user] -= 1
            if not self._of_user[user]:
                del self._of_user[user]
            if self._covered.get(stream) is request:
                del self._covered[stream]
            else:
                self._admission.give_back()

        return over

    def _uncover(self, stream: str) -> None:
        """Its place is about to be given back."""
        if self._covered.pop(stream, None) is not None:
            self._admission.keep()
