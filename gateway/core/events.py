"""Events of Server-Sent Events as bytes (WHATWG HTML §9.2), and JSON arrays for clients that poll.

An event has no ``event:`` field, so that ``onmessage`` of an ``EventSource`` hears all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from publisher.contract.message import Message

COMMENT: Final = b":\n\n"
"""Keeps a line open on which nothing comes, and is no event."""


def event(text: bytes, id: bytes = b"") -> bytes:
    """A message as an event; ``id`` is where a client goes on that comes back."""
    data = _in_one_line(text)
    return b"id: %b\ndata: %b\n\n" % (id, data) if id else b"data: %b\n\n" % data


def position(id: bytes) -> bytes:
    """Tell a client where to go on when it comes back. Without data it is no event, and nobody hears of it (§9.2.6)."""
    return b"id: %b\n\n" % id


def retry(milliseconds: int) -> bytes:
    """Tell a client how long to wait before it comes back."""
    return b"retry: %d\n\n" % milliseconds


def _in_one_line(text: bytes) -> bytes:
    """JSON without line ends: a publisher may write some, and each would end a field. None stands within a string."""
    if b"\n" in text or b"\r" in text:
        return text.replace(b"\r", b" ").replace(b"\n", b" ")
    return text


class EventEncoding(NamedTuple):
    """How an event stream is sent messages. ``ids``: logged ones name their ids, since all are of one channel."""

    ids: bool

    @property
    def asks(self) -> bool:
        """Whether the client answers pings."""
        return False

    @property
    def transport(self) -> str:
        """The name of this kind of connections in the metrics."""
        return "sse"

    def told(self, message: bytes) -> bytes:
        """A message that is no data."""
        return event(message)

    def ping(self, _payload: bytes) -> bytes:
        """What shows whether the line is still there."""
        return COMMENT

    def data(self, messages: Sequence[Message], texts: Sequence[bytes]) -> bytes:
        """Messages of a channel, of which ``texts`` is the JSON."""
        if not self.ids:
            return b"".join(map(event, texts))
        ids = (b"%d" % each.id if each.logged else b"" for each in messages)
        return b"".join(map(event, texts, ids))


class PollEncoding(NamedTuple):
    """How a client that polls is sent messages: as members of an array, each with a comma behind it."""

    @property
    def asks(self) -> bool:
        """Whether the client answers pings."""
        return False

    @property
    def transport(self) -> str:
        """The name of this kind of connections in the metrics."""
        return "poll"

    def told(self, message: bytes) -> bytes:
        """A message that is no data."""
        return message + b","

    def ping(self, _payload: bytes) -> bytes:
        """Nothing: it is there while it polls."""
        return b""

    def data(self, _messages: Sequence[Message], texts: Sequence[bytes]) -> bytes:
        """Messages of a channel, of which ``texts`` is the JSON."""
        return b",".join(texts) + b","


WITH_IDS: Final = EventEncoding(True)
WITHOUT_IDS: Final = EventEncoding(False)
POLLED: Final = PollEncoding()
