"""One connection's subscription to one channel, and the messages kept for it while it reads the log."""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.node.channel import LiveChannel
from gateway.node.connection import Connection
from publisher.channels import Channel
from publisher.message import Message

MAX_HELD: Final = 1_000
MAX_HELD_BYTES: Final = 1024 * 1024
"""Live messages kept while the log is read. More are not lost: the log is read once again."""


class Subscription:
    """Where a connection stands in a channel.

    A subscription *reads* a page of the log while live messages are held for it. Between two pages, and
    while its client is too slow for live delivery, it stands *apart*: nothing is kept for it, the log
    has it all. With the last page it begins to *follow*: what it has read may be ahead of what has come
    live, so it drops repeated messages until a newer one comes, and goes *live*. ``position`` is the
    last id it was given before it went live; from then on ``live`` is the channel it shares its place
    with. Where Redis has lost its data ``position`` goes back to where the log goes on; ``given`` does
    not, so that nothing is given twice.
    """

    __slots__ = (
        "_held_bytes",
        "answers",
        "apart",
        "channel",
        "connection",
        "doubtful",
        "given",
        "held",
        "interested",
        "live",
        "overflowed",
        "position",
        "reading",
        "task",
    )

    def __init__(self, connection: Connection, channel: Channel) -> None:
        self.connection = connection
        self.channel = channel
        self.position = 0
        self.given = 0
        self.held: list[Message] = []
        self._held_bytes = 0
        self.reading = False
        self.overflowed = False
        self.apart = False
        self.interested = False
        self.doubtful = False
        self.live: LiveChannel | None = None
        self.answers = 1
        self.task: asyncio.Task[None] | None = None

    @property
    def sent_upto(self) -> int:
        """The last id that its connection was sent."""
        return self.position if self.live is None else self.live.last

    def offer(self, message: Message) -> bool:
        """Take a live message before going live; ``True`` when the subscription should go live with it."""
        if not self.reading:
            return not message.logged or message.id > max(self.position, self.given)
        self._held_bytes += len(message.body)
        if len(self.held) < MAX_HELD and self._held_bytes <= MAX_HELD_BYTES:
            self.held.append(message)
        else:
            self.overflowed = True
        return False

    def read(self) -> None:
        """Begin to read a page of the log: what was held before is in it."""
        self.reading = True
        self.held.clear()
        self._held_bytes = 0
        self.overflowed = False

    def stop_reading(self) -> int:
        """Keep no more messages; returns how many of those that were kept are in no log."""
        self.reading = False
        unlogged = sum(not message.logged for message in self.held)
        self.held.clear()
        return unlogged
