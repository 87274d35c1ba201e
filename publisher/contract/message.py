"""How a message is written in Redis: in a channel's log and on its live channel, byte for byte the same.

::

    <id>:<prev>:<nonce>:<JSON of data>
    <id>:<prev>:<nonce>/<traceparent>:<JSON of data>
    <id>:<prev>:<nonce>/<traceparent>+<extension>:<JSON of data>

``id`` is in microseconds of the Redis clock and rises within the channel, ``prev`` is the id before it
(0 for none), ``nonce`` names the publish. A message that is not logged has an empty ``prev``, and its
``id`` is only a time. An entry without a body is a tombstone: its message was taken out on purpose. It may stand for several
messages in a row, from its first up to ``id``: ``nonce`` is ``<first>|<nonce of the last>,<id before>=<its nonce>,…`` then (``delete.lua``). Where Redis has lost a
log, ``prev`` is 0 again, and between it and the first may be messages that nobody has taken out.

No reader looks into the nonce, which holds neither ``/`` nor ``+``. So a ``traceparent`` (``trace_context.py``) stands behind it: a
reader that makes no spans takes both for the nonce. Scripts compare and keep the nonce alone.

An ``extension`` says that an entry must be read in another way: ``e1.<key>`` that its body is sealed (``sealing.py``),
``t<seconds>`` that it counts for so long after its id, ``t<seconds>,e1.<key>`` both.
A reader that does not know the extension, or lacks the key, stops before that entry, and neither delivers nor confirms
anything behind it. A tombstone has nothing left to read, so its extension does not count.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

NOT_LOGGED: Final = -1
"""``Message.prev`` of a message that has no place in a log."""

NO_POSITION: Final = -1
"""``LogPage.position`` for a user of whom no position is stored."""

MAX_ID: Final = 2**53 - 1
"""Ids stay exact in JavaScript and as a sorted-set score (Redis documentation, sorted sets)."""

TAKEN_OUT_BYTES: Final = 1_000
"""So long is what a tombstone names at most (``delete.lua``, ``publish.lua``)."""

_TAKEN_OUT: Final = re.compile(rb",([0-9]+)=")


class Message:
    """A message as read from Redis. ``body`` is the JSON of its data, ready to be sent on.

    ``extension`` says how the entry must be read; empty for one that this version can read. Behind the ``nonce`` there may
    be a traceparent.
    """

    __slots__ = ("body", "extension", "id", "nonce", "prev")

    def __init__(
        self, id: int, prev: int, body: bytes, nonce: bytes = b"", extension: bytes = b""
    ) -> None:
        self.id = id
        self.prev = prev
        self.body = body
        self.nonce = nonce
        self.extension = extension

    @property
    def logged(self) -> bool:
        """Whether the message has an id that a client may see."""
        return self.prev != NOT_LOGGED

    @property
    def removed(self) -> bool:
        """Whether this is a tombstone, which holds the place of messages that were taken out."""
        return not self.body

    @property
    def first(self) -> int:
        """The first message that a tombstone stands for."""
        first, bar, _ = self.nonce.partition(b"|")
        return int(first) if bar else self.id

    def stands_for(self, position: int) -> bool:
        """Whether this is a tombstone, also for the message with the id ``position``.

        An id between those that it stands for may be of a message that a failover has lost. It names each, from the newest on, as far
        as there is room; of those before there is no telling.
        """
        if not self.removed or not self.first <= position <= self.id:
            return False
        named = {self.id, self.first, *map(int, _TAKEN_OUT.findall(self.nonce))}
        is_cut = len(self.nonce.partition(b"|")[2]) >= TAKEN_OUT_BYTES
        return position in named or (is_cut and position < min(named - {self.first}))

    def follows(self, position: int) -> bool:
        """Whether nothing is missing between ``position``, which is below its id, and this message."""
        return self.prev == position or self.stands_for(position)

    @property
    def timestamp(self) -> int:
        """When it was published, in milliseconds since 1970."""
        return self.id // 1000

    def __repr__(self) -> str:
        return f"Message(id={self.id}, prev={self.prev}, {len(self.body)} bytes)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return (self.id, self.prev, self.body) == (other.id, other.prev, other.body)

    def __hash__(self) -> int:
        return hash((self.id, self.prev))


class LogPage(NamedTuple):
    """A page of a log.

    ``position`` is where it was read from: ``NO_POSITION`` for a user who was not there before. ``newest`` is the id of
    the last message ever logged, 0 where none is known of. ``messages`` are those after the position, oldest first.
    """

    position: int
    newest: int
    messages: list[Message]
    unreadable: int = 0
    """Entries that nobody of ours wrote; they are left out."""

    @property
    def complete(self) -> bool:
        """Whether nothing follows in the log."""
        return not self.messages or self.messages[-1].id >= self.newest

    def is_behind(self, position: int) -> bool:
        """Whether the log holds, or ends with, an id below one that it does not hold: Redis has lost writes."""
        return self.newest < position or bool(self.messages and self.messages[0].id < position)


def decode(entry: bytes) -> Message:
    """Read an entry of a log or a live payload.

    Raises:
        ValueError: the entry was not written by this package.
    """
    id_, prev, nonce, body = entry.split(b":", 3)
    message = Message(int(id_), int(prev) if prev else NOT_LOGGED, body, nonce)
    if b"+" in nonce:
        message.nonce, _, extension = nonce.partition(b"+")
        message.extension = extension if body else b""
    return message


_LIVES_FOR: Final = re.compile(rb"t([0-9]{1,10})(?:,(.+))?", re.DOTALL)


def lives_for(seconds: int) -> str:
    """The extension of a message that counts for so long."""
    return f"t{seconds}"


def expire(message: Message, now_us: int) -> None:
    """Read how long a message counts, if its extension says so. One whose time is over is a tombstone from here on.

    ``now_us``: microseconds since 1970. What else the extension says is left in it.
    """
    lives = _LIVES_FOR.fullmatch(message.extension)
    if lives is None:
        return
    message.extension = lives[2] or b""
    if now_us >= message.id + int(lives[1]) * 1_000_000:
        message.body = message.extension = b""


def encode_unlogged(timestamp_us: int, nonce: bytes, body: bytes) -> bytes:
    """The payload of a message that is published without a log."""
    return b"%d::%b:%b" % (timestamp_us, nonce, body)
