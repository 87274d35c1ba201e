"""A Redis that forgets, and a way from it that loses: for the tests of the gap rule."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from publisher.contract.message import LogPage, Message
from publisher.errors import Unavailable
from tests.unit.bench import FakeRedis
from tests.unit.fakes import Node, logged, payload


@dataclass(frozen=True)
class Confirmed:
    """A SUBSCRIBE has reached Redis; with ``restored`` the last one on a new connection."""

    restored: bool = False


class LossyRedis(FakeRedis):
    """One channel: its log is trimmed, expires, is lost or falls back; its stream drops and breaks.

    ``ever`` are the ids of all messages published, ``rolled_back`` those that Redis knows nothing of
    any more: it has lost them with all that followed, and cannot tell that they ever were.

    Args:
        retained: how many messages the log keeps.
    """

    def __init__(self, node: Node, retained: int) -> None:
        super().__init__(node)
        self.restored: Callable[[], None] = lambda: None
        self.connected = True
        self._retained = retained
        self._last = 0
        self._saved: tuple[list[Message], int] = ([], 0)
        self._clock_is_behind = False
        self._raised: set[int] = set()
        self.ever: list[int] = []
        self.rolled_back: set[int] = set()
        self.reports_due = 0
        self.gone_when_read: set[int] = set()
        self.newest_when_read = 0
        self._waiter: asyncio.Future[None] | None = None
        self._unconfirmed = 0
        self._wanted = False
        self._commands: deque[bool] = deque()
        self._way: deque[Message | Confirmed] = deque()
        self._answers: deque[tuple[asyncio.Future[LogPage], LogPage, set[int]]] = deque()

    @property
    def newest(self) -> int:
        """The last id, which outlives the log."""
        return self._last

    @property
    def quiet(self) -> bool:
        """Whether nothing is on its way and nobody waits for an answer."""
        return not (self._way or self._commands or self.reads or self._answers)

    # -- ports, as ``backplane.pubsub`` serves them -------------------------------------------

    def subscribe(self, channel: str) -> asyncio.Future[None]:
        self._wanted = True
        self._waiter = asyncio.get_running_loop().create_future()
        if self.connected:
            self._commands.append(True)
            self._unconfirmed += 1
        return self._waiter

    async def raise_last(self, channel: str, position: int) -> None:
        if position > self._last:
            self._last = position + 1_000_000
            self._raised.add(self._last)

    def unsubscribe(self, channel: str) -> None:
        self._wanted = False
        if self.connected:
            self._commands.append(False)

    # -- the live channel -------------------------------------------------------------------------

    def accept(self) -> None:
        """A command of the node's arrives at Redis."""
        if self._commands:
            self.subscribed = self._commands.popleft()
            if self.subscribed:
                self._way.append(Confirmed())

    def deliver(self) -> None:
        """The next thing on the pub/sub connection arrives at the node."""
        if not self._way:
            return
        match self._way.popleft():
            case Message() as message:
                if self._wanted:
                    self.node.hub.receive(self.name, payload(message.id, message.prev))
            case Confirmed(restored):
                self._unconfirmed = max(0, self._unconfirmed - 1)
                waiter = self._waiter
                if waiter is not None and not self._unconfirmed and not waiter.done():
                    waiter.set_result(None)
                if restored:
                    self.restored()

    def flood(self) -> None:
        while self._way:
            self.deliver()

    def lose(self) -> None:
        """A message is published and does not arrive, and the connection shows nothing of it."""
        self.publish()
        if self.subscribed:
            self._way.pop()

    def outage(self) -> None:
        """The connection is lost and made anew, and a message is published meanwhile."""
        self.cut()
        self.publish()
        self.back()

    def cut(self) -> None:
        """The connection ends, with all that is on it."""
        self.connected = self.subscribed = False
        self._way.clear()
        self._commands.clear()
        self._unconfirmed = 0

    def back(self) -> None:
        """There is a connection again, and it listens to what the last one did."""
        if not self.connected:
            self.connected, self.subscribed = True, self._wanted
            self._unconfirmed = 1
            self._way.append(Confirmed(restored=True))

    # -- the log ----------------------------------------------------------------------------------

    def publish(self) -> None:
        id_ = self._next_id()
        message = logged(id_, self._last)
        self.log = [*self.log, message][-self._retained :]
        self.ever.append(id_)
        self._last = id_
        if self.subscribed:
            self._way.append(message)

    def _next_id(self) -> int:
        """As the clock: it rises whatever Redis has forgotten, and no two moments are the same."""
        taken = {0, *self.ever, *self._raised}
        id_ = self._last + 1 if self._clock_is_behind else max(taken) + 1
        while id_ in taken:
            id_ += 1
        return id_

    def read_log(self) -> None:
        """The next question reaches Redis; the answer is under way."""
        if self.reads:
            question, since, limit = self.reads.popleft()
            after = [message for message in self.log if message.id > since]
            gone = set(self.ever) - {message.id for message in self.log}
            self._answers.append((question, LogPage(since, self.newest, after[:limit]), gone))

    def answer(self) -> None:
        """The next answer arrives."""
        if not self._answers:
            self.read_log()
        if self._answers:
            question, page, self.gone_when_read = self._answers.popleft()
            self.newest_when_read = page.newest
            if not question.done():
                question.set_result(page)

    def answer_last(self) -> None:
        """Answers come in another order than the questions."""
        self.reads.rotate(1)
        self._answers.rotate(1)
        self.answer()

    def fail(self) -> None:
        """The next answer is that there is none."""
        if not self._answers:
            self.read_log()
        if self._answers:
            question = self._answers.popleft()[0]
            if not question.done():
                question.set_exception(Unavailable("down", maybe_sent=True))

    def expire(self) -> None:
        self.log = []

    def save(self) -> None:
        self._saved = (self.log, self._last)

    def wipe(self) -> None:
        """FLUSHALL: the data goes, the connections stay, and what is on them arrives."""
        self.flood()
        self._fall_back_to([], 0)

    def restart(self) -> None:
        """Without persistence."""
        self.cut()
        self._fall_back_to([], 0)

    def fail_over(self) -> None:
        """To a replica that is not up to date."""
        self.cut()
        self._fall_back_to(*self._saved)

    def fail_over_in_time(self) -> None:
        """To one whose clock is behind, too: new ids lie below those that clients have."""
        self.fail_over()
        self._clock_is_behind = True

    def _fall_back_to(self, log: list[Message], last: int) -> None:
        self._clock_is_behind = False
        self.log, self._last = log, last
        self.reports_due += 1
        self.rolled_back |= {id_ for id_ in self.ever if id_ > last}
        self._saved = (log, last)
