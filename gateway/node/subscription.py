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

    A subscription first *reads* the log while live messages are held for it. Then it *follows*: what
    it has read may be ahead of what has come live, so it drops repeated messages until a newer one
    comes, and goes live. ``position`` is the last id it was given before it went live; from then on
    ``live`` is the channel it shares its place with.
    """

    __slots__ = (
        "_held_bytes",
        "answers",
        "channel",
        "connection",
        "doubtful",
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
        self.held: list[Message] = []
        self._held_bytes = 0
        self.reading = True
        self.overflowed = False
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
            return not message.logged or message.id > self.position
        self._held_bytes += len(message.body)
        if len(self.held) < MAX_HELD and self._held_bytes <= MAX_HELD_BYTES:
            self.held.append(message)
        else:
            self.overflowed = True
        return False

    def read_again(self) -> None:
        """Begin another read of the log: what was held is in it."""
        self.held.clear()
        self._held_bytes = 0
        self.overflowed = False
