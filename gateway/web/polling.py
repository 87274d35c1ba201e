"""A client that polls: what is due to it waits here for its next request, which may come to any node."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.core import positions, protocol
from gateway.core.closing import Closing
from gateway.core.encodings import Encoding
from gateway.core.events import POLLED
from gateway.node.life_checks import SILENT_SECONDS
from gateway.node.ports import Answering
from gateway.node.streams import NO_MESSAGES, REPLACED, Stream, Streams
from gateway.web.event_stream import StreamSession

HOLD_SECONDS: Final = 30.0
"""So long a client that polls keeps its place between two requests."""
LEFT_SECONDS: Final = SILENT_SECONDS
"""So long it keeps it where its connection has ended while a request waited: a page that was left does not come back."""
_JOINING_SECONDS: Final = 2.0
"""So long its first request waits for its channels, so that it is answered with what was missed in them."""
APART_SECONDS: Final = 0.3
"""So far apart the answers to a client are at least, but for one that is full: in a busy channel each would hold one message, and
five clients of a user would soon have asked more often than a user may.
"""
_CONGESTED_BYTES: Final = 64 * 1024
"""An answer ends with what passes this: a slow line could not bear all that may wait, and would get on no further."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one answer has of the messages, and where the client stands behind them."""

    data: bytes
    position: str
    marks: Mapping[str, int]


class PollSocket:
    """Implements ``ports.Socket`` and ``ports.Polls``.

    Args:
        high_water: bytes that may wait for the next request.
        since: where the client says that it stands.
        clock: seconds of a monotonic clock.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        high_water: int,
        since: str,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.encoding: Encoding = POLLED
        self._high_water = high_water
        self._clock = clock
        self._wall_clock = wall_clock
        # What waits for the next requests: an answer each, and what came behind those.
        self._parts: deque[_Part] = deque()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.untaken = 0
        self.taken = 0
        self.arrived = 0
        self._polled_at = clock()
        # What the last answer held, until the next request shows that it has come; and where that began and ended.
        self._unproven = b""
        self._begun = self._ended = since
        self._marks: Mapping[str, int] = {}
        self._answer: Answering | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answered_at = -math.inf
        self._gathers = False
        self._is_first = True
        self._closing = False
        self._session: StreamSession | None = None
        self._drained: asyncio.Future[None] | None = None

    def serve(self, streams: Streams, stream: Stream, session: StreamSession) -> None:
        """Tell ``session`` what becomes of it."""
        self._streams, self._stream, self._session = streams, stream, session
        self._hold()

    # -- ports.Socket -------------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        """Keep messages for the next request, or answer the one that waits."""
        if self._closing:
            return True
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self.untaken += len(data)
        if self._waiting_bytes > _CONGESTED_BYTES:
            self._part()
        if self._answer is not None and not (self._unproven or self._joins or self._gathers_more):
            self._give()
        elif self.congested and self._session is not None:
            self._session.congested()
        return self.untaken <= self._high_water

    @property
    def waiting(self) -> int:
        """Bytes that wait for the next requests: all that is untaken waits in the node."""
        return self.untaken

    @property
    def quiet(self) -> float:
        """Seconds since the last request; 0 while one waits."""
        return 0.0 if self._answer is not None else self._clock() - self._polled_at

    @property
    def there(self) -> bool:
        """Whether the client is there as far as anybody can tell: while a request of it waits."""
        return self._answer is not None

    @property
    def unheard(self) -> bool:
        """Whether nothing can be heard of it: between two requests. How long these may be apart is seen to here."""
        return self._answer is None

    @property
    def congested(self) -> bool:
        """Whether more waits for the next request than may wait before the next page of a log."""
        return self.untaken > _CONGESTED_BYTES and not self._closing

    async def drained(self) -> None:
        """Wait until it is not congested, or the client is gone."""
        if self.congested:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def close(self, _reason: Closing) -> None:
        """Answer the request that waits with what there is, and end soon."""
        if not self._closing:
            if self._answer is not None:
                self._unite()
                self._give()
            self._closing = True
            self._wake()
            self._set_timer(0.0, self._over)

    def stop_reading(self) -> None:
        """End it."""
        if not self._closing:
            self._closing = True
            self._set_timer(0.0, self._over)

    # -- ports.Polls --------------------------------------------------------------------------

    def poll(self, since: str, wait: float, answer: Answering) -> bool:
        """Answer with what there is, or comes in so many seconds; ``False``, and no answer, where ``since`` is neither end of the last
        answer.
        """
        # Of a request that comes late, or of a client that was set back, nothing tells what has arrived.
        if since not in {self._begun, self._ended}:
            return False
        self.arrived += 1
        self._release(REPLACED)
        if self._unproven and since == self._ended:
            self._streams.prove(self._stream, self._marks)
            self._unproven = b""
            self._begun = self._ended
        self._streams.settle(self._stream)
        if self._closing:
            answer(200, NO_MESSAGES)
            return True
        self._answer = answer
        if self._unproven:
            self._repeat(wait)
        elif self._joins:
            self._set_timer(max(wait, _JOINING_SECONDS), self._give_up)
        else:
            self._gather(wait)
        return True

    @property
    def _joins(self) -> bool:
        """Whether its first request waits for its channels."""
        return self._is_first and self._streams.joins(self._stream)

    @property
    def _due(self) -> bool:
        return bool(self._parts or self._waiting)

    @property
    def _gathers_more(self) -> bool:
        """Whether what is due waits for more, since the client was answered a moment ago."""
        return self._gathers and not self._parts

    def _gather(self, wait: float) -> None:
        """Answer with what there is, or comes within ``wait`` seconds, and not right behind the last answer unless this one is full."""
        seconds = min(wait, self._answered_at + APART_SECONDS - self._clock())
        self._gathers = seconds > 0
        if self._gathers_more:
            self._set_timer(seconds, self._gather, wait - seconds)
        elif self._due:
            self._give()
        else:
            self._set_timer(wait, self._give_up)

    def _repeat(self, wait: float) -> None:
        """Answer once more what was answered, as soon as the client's budget bears that; with nothing where it has to wait for longer."""
        seconds = self._streams.owes(self._stream)
        if seconds > wait:
            self._set_timer(wait, self._give_nothing)
        else:
            self._set_timer(seconds, self._give)

    def forget(self, answer: Answering) -> None:
        """Whoever waits for this answer has gone; what it would have got waits for the next."""
        if self._answer == answer:
            self._answer = None
            if self._is_first:
                self._over()  # nobody was told by which name to go on
            else:
                self._hold(LEFT_SECONDS)

    def _give_up(self) -> None:
        self._streams.settle(self._stream)
        if self._answer is not None:
            self._give()

    def _give_nothing(self) -> None:
        self._release()
        self._hold()

    def _give(self) -> None:
        answer, self._answer = self._answer, None
        assert answer is not None
        self._is_first = False
        self._answered_at = self._clock()
        self._hold()
        # An answer that was lost comes again as it was: were what has come since added, it would grow without a bound.
        if self._unproven:
            self._streams.charge(self._stream, len(self._unproven))
        elif self._due:
            self._take()
        if not self._unproven:
            answer(200, NO_MESSAGES)
            return
        end = protocol.heartbeat(int(self._wall_clock() * 1000), self._ended)
        answer(200, b"[%b%b]" % (self._unproven, end))

    def _part(self) -> None:
        """Let an answer end here."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        position = self._streams.position(self._stream).decode()
        self._parts.append(_Part(data, position, self._streams.marks(self._stream)))

    def _unite(self) -> None:
        """Make the last answer: what comes again, and all that waits, which tells why it is the last."""
        self.untaken += len(self._unproven)
        self._waiting = [self._unproven, *(each.data for each in self._parts), *self._waiting]
        self._unproven = b""
        self._parts.clear()

    def _take(self) -> None:
        """Make an answer of what waits."""
        if not self._parts:
            self._part()
        part = self._parts.popleft()
        self._unproven = part.data
        self.taken += len(part.data)
        self.untaken -= len(part.data)
        if not self.congested:
            self._wake()
        # Behind messages of channels that are not in the address it has not moved. Without a mark a client that asks once
        # more, since it has got no answer, could not be told from one that has got it.
        self._ended = positions.told_apart(part.position, self._begun)
        self._marks = part.marks

    def _release(self, status: int = 200) -> None:
        """Answer the request that waits, if one does, with no messages."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(status, NO_MESSAGES)

    # -- the end ------------------------------------------------------------------------------

    def _hold(self, seconds: float | None = None) -> None:
        self._polled_at = self._clock()
        self._set_timer(HOLD_SECONDS if seconds is None else seconds, self._over)

    def _set_timer(self, seconds: float, then: Callable[..., None], *given: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, then, *given)

    def _over(self) -> None:
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._release()
        self._wake()
        session, self._session = self._session, None
        if session is not None:
            session.lost()

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
