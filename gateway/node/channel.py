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
    reading the log, or following it (an ordered set). ``held`` came while a gap before it is being
    read from the log (``repair.py``); ``None`` when there is none.
    """

    __slots__ = (
        "held",
        "joining",
        "last",
        "members",
        "name",
        "namespace",
        "overflowed",
        "pending",
        "prefix",
    )

    def __init__(self, channel: Channel) -> None:
        self.name = channel.name
        self.namespace = channel.namespace
        self.prefix = protocol.data_prefix(channel)
        self.last = 0
        self.pending: list[Message] = []
        self.held: list[Message] | None = None
        self.overflowed = False
        self.members: dict[Encoding, set[Connection]] = {}
        self.joining: dict[Subscription, None] = {}
