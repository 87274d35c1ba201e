"""A reader's place in a channel: what comes next, what is a repeat, and what is missing.

Every logged message names the id before it in its channel (``prev``). A reader that holds a position can
therefore tell the next message (``prev`` is the position) from a repeat (``id`` is not above it) and from a
gap. What is missing in a gap is in the log; what is not there either is lost.

A channel is a reader on behalf of its live members; a subscription that is not live yet is a reader of its
own. Both read the log with the same loop (``node/catchup.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from itertools import islice
from typing import Final, NamedTuple

from publisher.contract.message import LogPage, Message

MAX_BUFFERED: Final = 1_000
MAX_BUFFERED_BYTES: Final = 1024 * 1024
"""Live messages kept while the log is read. More are not lost: the log is read once again."""


def behind(end: int, live: Iterable[Message]) -> list[Message]:
    """What came ``live`` behind a page of the log that ends with the id ``end``: in order, each once.

    Up to there the page tells what there is: what is not in it, or is a tombstone in it, was taken out or lost since it came
    live. Messages that are not logged have no place in the order of ids; they keep theirs, at the end.
    """
    logged: dict[int, Message] = {}
    unlogged: list[Message] = []
    for message in live:
        if not message.logged:
            unlogged.append(message)
        elif message.id > end:
            logged[message.id] = message
    return [logged[id_] for id_ in sorted(logged)] + unlogged


def unbroken(end: int, live: Iterable[Message]) -> bool:
    """Whether what came ``live`` goes on where a page of the log ends.

    If not, something in between has not come and is in the log by now, or Redis has lost what the page
    ends with.
    """
    for message in behind(end, live):
        if message.logged:
            if not message.follows(end):
                return False
            end = message.id
    return True


class Verdict(Enum):
    """What a message, or a page of the log, is to a reader."""

    NEXT = auto()
    """It goes on where the reader stands."""

    REPEAT = auto()
    """The reader has it already."""

    GAP = auto()
    """Something before it has not come; the log may have it."""

    LOST = auto()
    """Something before it is not in the log any more."""


class Buffer:
    """What comes live while the log is read: one for all who read a channel's log at the same time.

    A reader notes the :attr:`end` when it asks for a page, and then takes what has come :meth:`since`.
    """

    __slots__ = ("_bytes", "_first", "_messages", "readers")

    def __init__(self) -> None:
        self.readers = 0
        self._messages: deque[Message] = deque()
        self._first = 0  # the number of the first message that is kept
        self._bytes = 0

    @property
    def end(self) -> int:
        """The number that the next message will have."""
        return self._first + len(self._messages)

    def put(self, message: Message) -> None:
        """Keep a message; the oldest ones make room for it."""
        messages = self._messages
        messages.append(message)
        self._bytes += len(message.body)
        while len(messages) > MAX_BUFFERED or (messages and self._bytes > MAX_BUFFERED_BYTES):
            self._bytes -= len(messages.popleft().body)
            self._first += 1

    def since(self, mark: int) -> list[Message] | None:
        """What has come since ``mark``; ``None`` when some of it is not kept any more (overflow)."""
        if mark < self._first:
            return None
        return list(islice(self._messages, mark - self._first, None))

    def forget(self) -> None:
        """Let everybody who reads now read once more: messages may have been missed."""
        self._first = self.end + 1
        self._messages.clear()
        self._bytes = 0


class Taken(NamedTuple):
    """What a reader takes from a page and the live messages behind it.

    ``complete``: nothing follows but what comes live. ``unknown`` is the message before which the reader
    stops, because its extension is not known here.
    """

    messages: list[Message]
    complete: bool
    unknown: Message | None


class Reader:
    """A position in a channel, moved forward by what the reader takes.

    ``position`` is the id of the last message taken. Holes in the log up to ``told_upto`` need not be told again;
    only a Redis that has lost its writes leaves any.
    """

    __slots__ = ("position", "told_upto")

    def __init__(self) -> None:
        self.position = 0
        self.told_upto = 0

    def judge(self, message: Message) -> Verdict:
        """What a logged message that came live is to this reader."""
        if message.prev == self.position:
            return Verdict.NEXT
        return Verdict.REPEAT if message.id <= self.position else Verdict.GAP

    def judge_page(self, page: LogPage, asked: int) -> Verdict:
        """What a page is to this reader, which stood at ``asked`` when it asked for the page.

        What the reader has taken since then is missing from the page, and is not lost. A page may have been
        read from an earlier position; one that ends before the reader's own, with more to come, says nothing.
        """
        return Verdict.NEXT if self._hole(page, asked) is None else Verdict.LOST

    def _hole(self, page: LogPage, asked: int) -> int | None:
        """The id before which something is missing in the log."""
        if asked > page.newest:
            return page.newest
        end = self.position
        for message in self._following(page):
            if not message.follows(end) and (end == self.position or message.prev > self.told_upto):
                return message.prev
            end = message.id
        return page.newest if page.complete and end == asked != page.newest else None

    def was_told(self, page: LogPage, asked: int) -> bool:
        """Whether the hole that begins behind ``asked``, which is in the log, was told already."""
        hole = self._hole(page, asked)
        return hole is None or hole <= self.told_upto

    def begin_anew(self, page: LogPage) -> None:
        """Go on with whatever ``page`` begins with: what is missing before it, or in it, is settled."""
        self.told_upto = page.newest
        if page.complete and not self._following(page):
            self.position = page.newest

    def _following(self, page: LogPage) -> list[Message]:
        return [message for message in page.messages if message.id > self.position]

    def take(self, page: LogPage, live: Sequence[Message] | None) -> Taken:
        """Take what follows in a page that was judged, and, where it is the last one, what came ``live``.

        ``live`` holds what came since the page was asked for; ``None`` when not all of it was kept.
        """
        messages = self._following(page)
        complete = page.complete and live is not None
        if live:
            end = messages[-1].id if messages else self.position
            complete = complete and unbroken(end, live)
            # What is not logged is taken at once: no page will bring it.
            messages += behind(end, live if complete else (m for m in live if not m.logged))
        unknown = next((each for each in messages if each.extension), None)
        if unknown is not None:
            messages = messages[: messages.index(unknown)]
        for message in reversed(messages):
            if message.logged:
                self.position = message.id
                break
        return Taken(messages, complete, unknown)
