"""A channel that this node listens to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core import protocol
from gateway.core.frames import Encoding
from publisher.channels import Channel
from publisher.message import Message

if TYPE_CHECKING:
    from gateway.node.connection import Connection
    from gateway.node.subscription import Subscription


class LiveChannel:
    """What comes live in a channel, and who is to hear it.

    ``last`` is the id of the newest logged message that came. ``pending`` came in this turn of the
    event loop. ``members`` receive live messages, grouped by how they want them; ``joining`` are still
    reading the log, or following it (an ordered set).
    """

    __slots__ = ("joining", "last", "members", "name", "pending", "prefix")

    def __init__(self, channel: Channel) -> None:
        self.name = channel.name
        self.prefix = protocol.data_prefix(channel)
        self.last = 0
        self.pending: list[Message] = []
        self.members: dict[Encoding, set[Connection]] = {}
        self.joining: dict[Subscription, None] = {}
