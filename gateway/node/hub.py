"""The fan-out: from a message on a live channel to bytes for every socket that listens to it.

All within one turn of the event loop: messages gather per channel as they arrive; at the end of the read that brought them
(there is one in a turn for each connection to Redis) each channel's are encoded once and laid into the outboxes
(``outboxes.py``), and every socket is written to once. Nothing here waits for a socket or for Redis.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gateway.core import encodings
from gateway.core.closing import Closing
from gateway.core.encodings import Encoding
from gateway.core.log_limit import FirstTimes
from gateway.core.reader import Verdict
from gateway.node import audit
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Channel, Connection, Subscription
from gateway.node.events import EventLog
from gateway.node.opener import Opener
from gateway.node.outboxes import Outboxes
from gateway.node.stats import Stats
from publisher.contract import channels
from publisher.contract.message import NOT_LOGGED, Message, decode
from publisher.contract.sealing import is_sealed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Events:
    """What the hub reports, for others to act on.

    ``gap``: live messages of a channel are missing. ``behind``: more waits for a client than may wait.
    ``congested``: more waits to be written than a turn of the event loop bears, or does no longer. ``command``: something
    for all nodes that came with the messages of a channel. ``sealed``: the next message of a channel cannot be opened here.
    """

    gap: Callable[[Channel], object]
    behind: Callable[[Connection], object]
    congested: Callable[[bool], object]
    command: Callable[[bytes], object]
    sealed: Callable[[Channel], object]


class Hub:
    """The connections and live channels of a node.

    Args:
        call_soon: as in :class:`Outboxes`.
        compression_threshold: messages of more bytes are compressed for sockets that can.
        opener: opens encrypted messages, and knows whose time is over; without one there are no keys.
        event_log: what backends are told of; without one nothing.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        confirmation: Confirmation,
        stats: Stats,
        events: Events,
        compression_threshold: int,
        opener: Opener | None = None,
        event_log: EventLog | None = None,
    ) -> None:
        self._confirmation = confirmation
        self.stats = stats
        self._events = events
        self._compressing = compression_threshold, stats.compression
        self._opener = opener or Opener(None, stats, {}, lambda: 0.0)
        self.event_log = event_log or EventLog((), "", lambda: 0.0, stats)
        self._watching = self.event_log.watching
        self.connections: dict[str, Connection] = {}
        self.channels: dict[str, Channel] = {}
        # Where what comes is looked up: in ``channels``, or nowhere while nothing is delivered.
        self._heard = self.channels
        self.released = asyncio.Event()
        self.released.set()
        self._changed: list[Channel] = []
        self.outboxes = Outboxes(
            call_soon, self._distribute_all, stats, events.behind, events.congested
        )
        # As they are, and not by way of methods: a call more for each frame would be to be paid for.
        self.send, self.flush_to = self.outboxes.send, self.outboxes.flush_to
        self._unknown_extensions: FirstTimes[bytes] = FirstTimes()

    # -- from Redis ---------------------------------------------------------------------------

    def receive(self, name: str, payload: bytes) -> None:
        """Take a message from a live channel. The hot path begins here."""
        channel = self._heard.get(name)
        if channel is None:
            return
        self.stats.messages_received += 1
        try:
            message = decode(payload)
        except ValueError:
            self._take_other(name, payload)
            return
        # The ordinary message, the next one, costs no call.
        if (
            (message.prev == channel.position or message.prev == NOT_LOGGED)  # noqa: PLR1714 - no tuple
            and message.body
            and not message.extension
        ) or self._is_next(channel, message):
            self._accept(channel, message)

    def _take_other(self, name: str, payload: bytes) -> None:
        """Take what is no message."""
        if payload.startswith(b"{"):
            self._events.command(payload)
            return
        self.stats.messages_invalid += 1
        log.warning("message_invalid channel=%s bytes=%d", name, len(payload))

    def _is_next(self, channel: Channel, message: Message) -> bool:
        """Whether a message that is not an ordinary one is to go out now."""
        if message.extension:
            if not self._opener.open(channel.name, message):
                self._stop(channel, message)
                return False
            if message.body and message.prev in (channel.position, NOT_LOGGED):
                return True
        if not channel.keeps_log:
            # A publisher that has not learnt of this yet. There is no log to compare it with.
            return not message.removed
        if message.logged:
            self._judge(channel, message)
        return False

    def _judge(self, channel: Channel, message: Message) -> None:
        verdict = channel.judge(message)
        if verdict is Verdict.NEXT:
            self.advance(channel, [message])
            return
        if channel.buffer is not None:
            channel.buffer.put(message)
        if verdict is Verdict.GAP and channel.members:
            self._events.gap(channel)

    def _accept(self, channel: Channel, message: Message) -> None:
        """Take the next message of a channel, for all who listen and all who read its log."""
        if message.prev != NOT_LOGGED:
            channel.position = message.id
        elif channel.away:
            self.stats.messages_dropped += channel.away
        if channel.buffer is not None:
            channel.buffer.put(message)
        if not channel.pending:
            self._changed.append(channel)
            self.outboxes.schedule()
        channel.pending.append(message)

    def advance(self, channel: Channel, messages: Iterable[Message]) -> None:
        """Take messages that follow each other in the log, wherever they were read."""
        for message in messages:
            if not message.removed:
                self._accept(channel, message)
                continue
            # What was taken out is not sent. That nothing is missing there is asked about all the same.
            self._distribute(channel)
            channel.position = message.id
            if channel.buffer is not None:
                channel.buffer.put(message)
            self.ask_all(channel.name, self._confirmation.sent(channel.name, message.id))

    # -- while it is not known whose access has ended ------------------------------------------

    @property
    def held(self) -> bool:
        """Whether nothing is delivered for now."""
        return not self.released.is_set()

    def hold(self) -> None:
        """Deliver nothing until :meth:`release`: what comes is dropped, and what is read from logs waits (``catchup.py``)."""
        self._heard = {}
        self.released.clear()

    def release(self) -> None:
        """Deliver again. What came meanwhile is missing, and in the log."""
        for channel in self.channels.values():
            if channel.buffer is not None:
                channel.buffer.forget()
        self._heard = self.channels
        self.released.set()

    # -- messages that this node cannot read --------------------------------------------------

    def _stop(self, channel: Channel, message: Message) -> None:
        """Let nobody hear what comes behind a live message that this version cannot read."""
        self.note_unknown(channel, message)
        if not message.logged or not channel.keeps_log:
            return  # it has no place that anything could be behind
        if channel.judge(message) is Verdict.NEXT:
            if is_sealed(message):
                self._events.sealed(channel)
            else:
                self.stop(channel)
            if channel.buffer is not None:
                channel.buffer.put(message)
        else:
            self._judge(channel, message)

    def stop(self, channel: Channel) -> None:
        """Let the live members of a channel stay where they are, until another node takes them on."""
        for subscription in channel.subscriptions():
            self.leave(channel, subscription)

    def note_unknown(self, channel: Channel, message: Message) -> None:
        """Count a message that this version cannot read; log each extension once."""
        if is_sealed(message):
            return  # who could not open it has told
        self.stats.messages_unknown += 1
        if self._unknown_extensions.admit(message.extension):
            log.error(
                "extension_unknown channel=%s id=%d extension=%s advice=%r",
                channel.name,
                message.id,
                message.extension.decode("ascii", "backslashreplace"),
                "a newer publisher has written this message; the channel stops before it on this node "
                "until the node is upgraded",
            )

    # -- to the sockets -----------------------------------------------------------------------

    def _distribute_all(self) -> None:
        changed, self._changed = self._changed, []
        if changed and changed[0].pending and changed[0].members:
            self.stats.timings.laid(changed[0].pending[0].id)
        for channel in changed:
            try:
                self._distribute(channel)
            except Exception:
                # One broken channel must not silence the others.
                log.exception("distribute_failed channel=%s", channel.name)

    def _distribute(self, channel: Channel) -> None:
        """Lay a channel's pending messages into its members' outboxes."""
        pending, channel.pending = channel.pending, []
        if not pending or not channel.members:
            return
        encoded = encodings.encode(channel.prefix, pending, channel.members, *self._compressing)
        # Ids rise within a channel.
        upto = next((message.id for message in reversed(pending) if message.logged), 0)
        question = b""
        if upto:
            count, oldest = len(pending), pending[0].id
            question = self._confirmation.sent(channel.name, upto, count, oldest)
        for encoding, members in channel.members.items():
            data = encoded[encoding]
            self.outboxes.lay(members, data + question if encoding.asks else data)
            self.stats.messages_delivered += len(members) * len(pending)
        if self._watching.active:
            receivers = sum(map(len, channel.members.values()))
            self._watching.distributed(channel.name, pending, receivers, self.outboxes)

    def tell(self, connection: Connection, *messages: bytes) -> None:
        """Send one connection messages of the protocol that are no data."""
        told = connection.socket.encoding.told
        self.send(connection, b"".join(map(told, messages)))

    def tell_all(self, name: str, *messages: bytes) -> None:
        """The same to all members of a channel, behind what has come live before."""
        self._send_all(name, lambda encoding: b"".join(map(encoding.told, messages)))

    def ping(self, connection: Connection, payload: bytes) -> None:
        """Ask one connection for a sign of life."""
        self.send(connection, connection.socket.encoding.ping(payload))

    def ask(self, connection: Connection, question: bytes) -> None:
        """Ask one connection what it has received, if it can be asked that."""
        if connection.socket.encoding.asks:
            self.send(connection, question)

    def ask_all(self, name: str, question: bytes) -> None:
        """The same of all members of a channel, behind what has come live before."""
        if question:
            # Before a message it asks about it would confirm what has not arrived.
            self._send_all(name, lambda encoding: question if encoding.asks else b"")

    def _send_all(self, name: str, data: Callable[[Encoding], bytes]) -> None:
        channel = self.channels.get(name)
        if channel is None:
            return
        self._distribute(channel)
        for encoding, members in channel.members.items():
            if sent := data(encoding):
                self.outboxes.lay(members, sent)
        self.outboxes.schedule()

    def replay(self, channel: Channel, connection: Connection, messages: Sequence[Message]) -> None:
        """Send one connection what was read for it."""
        fresh = [message for message in messages if not message.removed]
        if fresh:
            encoding = connection.socket.encoding
            data = encodings.encode(channel.prefix, fresh, [encoding], *self._compressing)[encoding]
            self.send(connection, data)
            self.stats.messages_replayed += len(fresh)
            if self._watching.active:
                self._watching.replayed(channel.name, connection, fresh)

    # -- joining and leaving ------------------------------------------------------------------

    def open(self, channel: channels.Channel, *, keeps_log: bool) -> Channel:
        """The live channel of that name; a new one hears nothing until its interest is taken."""
        live = self.channels.get(channel.name)
        if live is None:
            live = self.channels[channel.name] = Channel(channel, keeps_log=keeps_log)
        return live

    def forget(self, name: str) -> None:
        """Drop a channel that nobody listens to any more."""
        self.channels.pop(name, None)
        self._confirmation.forget(name)

    def go_live(self, channel: Channel, subscription: Subscription) -> None:
        """Let a subscription hear live messages from the next one on."""
        # What came in this turn was read for it already.
        self._distribute(channel)
        channel.take_out(subscription)
        channel.enter(subscription)

    def set_away(self, channel: Channel, subscription: Subscription) -> None:
        """Keep nothing for a subscription until it reads on; what is not logged is dropped."""
        self.leave(channel, subscription)
        subscription.away = True
        channel.away += 1

    def leave(self, channel: Channel, subscription: Subscription) -> None:
        """Take a subscription out, wherever it stands; one that was live is asked what it has received."""
        if subscription.live is not None:
            self._distribute(channel)
            self.ask(subscription.connection, self._confirmation.unasked(channel.name))
        channel.take_out(subscription)

    def change_encoding(self, connection: Connection, encoding: Encoding) -> None:
        """Send a connection its messages in another way from now on."""
        self._distribute_all()
        live = [(each, each.live) for each in connection.subscriptions.values() if each.live]
        for subscription, channel in live:
            channel.take_out(subscription)
        connection.socket.encoding = encoding
        for subscription, channel in live:
            channel.enter(subscription)

    # -- ending -------------------------------------------------------------------------------

    def close(self, connection: Connection, closing: Closing, *, actor: str | None = None) -> None:
        """End a connection: what is due to it, the ``error`` message if there is one, the close frame.

        What it answers to the questions before the close frame still counts. ``actor``: on whose behalf.
        """
        if connection.closed:
            return
        connection.closed = True
        audit.ended(connection, int(closing.code), closing.reason, actor)
        self._distribute_all()
        for subscription in connection.subscriptions.values():
            if subscription.live is not None:
                self.leave(subscription.live, subscription)
        if closing.error is not None:
            self.tell(connection, closing.error)
        self.outboxes.flush_to(connection)
        self.stats.connections_closed[str(int(closing.code))] += 1
        connection.socket.close(closing)
