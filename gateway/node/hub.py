"""The fan-out: from a message on a live channel to bytes on every socket that listens to it.

All within one turn of the event loop: messages gather per channel as they arrive; at the end of the
turn each channel's are encoded once, laid into the outboxes, and every socket is written to once. When that
is more than a turn bears, the rest is written in the next ones, before anything more is read from Redis.
Nothing here waits for a socket or for Redis.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from gateway.core import frames
from gateway.core.closing import Closing
from gateway.node.confirmation import Confirmation
from gateway.node.connection import MAX_HELD, MAX_HELD_BYTES, Connection, LiveChannel, Subscription
from gateway.node.stats import Stats
from publisher.contract.channels import Channel
from publisher.contract.message import Message, decode

log = logging.getLogger(__name__)

WRITES_PER_TURN: Final = 1_000
BYTES_PER_TURN: Final = 8 * 1024 * 1024
"""What is handed to sockets in one turn of the event loop, some ten milliseconds' worth. A burst to more is
carried on in the next turns, so that pongs, handshakes and the probe are not kept waiting for all of it.
Nothing more is read from Redis meanwhile: it would be copied for each socket that still waits."""


class Hub:
    """The connections and live channels of a node.

    Args:
        call_soon: runs a callback at the end of this turn (``loop.call_soon``).
        compression_threshold: messages of more bytes are compressed for sockets that can.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        confirmation: Confirmation,
        stats: Stats,
        compression_threshold: int,
    ) -> None:
        self._call_soon = call_soon
        self._confirmation = confirmation
        self._stats = stats
        self._threshold = compression_threshold
        self.connections: dict[str, Connection] = {}
        self.channels: dict[str, LiveChannel] = {}
        self._changed: list[LiveChannel] = []
        self._outgoing: list[Connection] = []
        self._scheduled = False
        self.held_up = False
        self._throttle: Callable[[bool], None] = lambda _held_up: None
        self._repair: Callable[[LiveChannel], None] = lambda _channel: None
        self._fall_behind: Callable[[Connection], None] = lambda _connection: None

    # -- from Redis ---------------------------------------------------------------------------

    def receive(self, name: str, payload: bytes) -> None:
        """Take a message from a live channel. The hot path begins here."""
        channel = self.channels.get(name)
        if channel is None:
            return
        self._stats.messages_received += 1
        try:
            message = decode(payload)
        except ValueError:
            self._stats.messages_invalid += 1
            log.warning("message_invalid channel=%s bytes=%d", name, len(payload))
            return
        if message.logged:
            if channel.held is not None:
                self._hold_back(channel, message)
                return
            if message.id <= channel.last:
                return
            # The ordinary message, the next one of a channel where all are live, costs no call.
            if (
                message.prev != channel.last or not channel.last or channel.joining
            ) and channel.misses(message):
                self._stats.gaps += 1
                log.warning("gap channel=%s after=%d before=%d", name, channel.last, message.id)
                self._repair(channel)
                self._hold_back(channel, message)
                return
        self.accept(channel, message)

    def accept(self, channel: LiveChannel, message: Message) -> None:
        """Take the next message of a channel, for all who listen."""
        if message.logged:
            channel.last = message.id
        else:
            self._stats.messages_dropped += channel.apart
        for subscription in tuple(channel.joining):
            if subscription.offer(message):
                self.go_live(channel, subscription)
        if not channel.pending:
            self._changed.append(channel)
            self._schedule()
        channel.pending.append(message)

    def repair_with(self, repair: Callable[[LiveChannel], None]) -> None:
        """Set who is told of a channel with a gap."""
        self._repair = repair

    def throttle_with(self, throttle: Callable[[bool], None]) -> None:
        """Set who is told when more waits than a turn may write (``held_up``), and when no more does."""
        self._throttle = throttle

    def when_behind(self, fall_behind: Callable[[Connection], None]) -> None:
        """Set who is told of a connection with too much waiting for its client."""
        self._fall_behind = fall_behind

    @staticmethod
    def _hold_back(channel: LiveChannel, message: Message) -> None:
        assert channel.held is not None
        channel.held_bytes += len(message.body)
        if len(channel.held) < MAX_HELD and channel.held_bytes <= MAX_HELD_BYTES:
            channel.held.append(message)
        else:
            channel.overflowed = True  # it is in the log, which is read once more

    # -- to the sockets -----------------------------------------------------------------------

    def send(self, connection: Connection, data: bytes) -> None:
        """Lay whole frames into a connection's outbox, to be written at the end of this turn."""
        if not data:
            return
        if not connection.outbox:
            self._outgoing.append(connection)
            self._schedule()
        connection.outbox += data

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self.flush)

    def flush(self) -> None:
        """End the turn: encode what came in, and write to each socket once, to so many as a turn bears."""
        self._scheduled = False
        self._distribute_all()
        outgoing, self._outgoing = self._outgoing, []
        room, written = BYTES_PER_TURN, 0
        behind: list[Connection] = []
        for number, connection in enumerate(outgoing):
            if number == WRITES_PER_TURN or room < 0:
                self._outgoing += outgoing[number:]
                self._schedule()
                break
            data, connection.outbox = connection.outbox, b""
            if not data:  # flush_to was faster
                continue
            written += 1
            try:
                if not connection.write(data):
                    behind.append(connection)
            except Exception:
                # One broken socket must not cost the others their messages.
                log.exception("write_failed connection=%s", connection.id)
            room -= len(data)
        self._stats.socket_writes += written
        if bool(self._outgoing) != self.held_up:
            self.held_up = not self.held_up
            self._throttle(self.held_up)
        for connection in behind:
            self._fall_behind(connection)

    def flush_to(self, connection: Connection) -> None:
        """Write what is due to one connection now, whatever the others have to wait for."""
        self._distribute_all()
        data, connection.outbox = connection.outbox, b""
        if data:
            self._stats.socket_writes += 1
            try:
                if not connection.write(data):
                    self._fall_behind(connection)
            except Exception:
                log.exception("write_failed connection=%s", connection.id)

    def _distribute_all(self) -> None:
        changed, self._changed = self._changed, []
        for channel in changed:
            try:
                self._distribute(channel)
            except Exception:
                # One broken channel must not silence the others.
                log.exception("distribute_failed channel=%s", channel.name)

    def _distribute(self, channel: LiveChannel) -> None:
        """Lay a channel's pending messages into its members' outboxes."""
        pending, channel.pending = channel.pending, []
        if not pending or not channel.members:
            return
        encoded = frames.encode(channel.prefix, pending, channel.members, self._threshold)
        # Ids rise within a channel.
        upto = next((message.id for message in reversed(pending) if message.logged), 0)
        question = self._confirmation.sent(channel.name, upto) if upto else b""
        for encoding, members in channel.members.items():
            self._lay(members, encoded[encoding] + question)
            self._stats.messages_delivered += len(members) * len(pending)

    def _lay(self, members: Iterable[Connection], data: bytes) -> None:
        """Add to outboxes; what was the same bytes for many stays so, however much it is."""
        before = after = b""
        for connection in members:
            if not connection.outbox:
                connection.outbox = data
                self._outgoing.append(connection)
                continue
            if connection.outbox is not before:
                before = connection.outbox
                after = before + data
            connection.outbox = after

    def send_all(self, name: str, data: bytes) -> None:
        """Send whole frames to all members of a channel."""
        channel = self.channels.get(name)
        if channel is not None:
            for members in channel.members.values():
                self._lay(members, data)
            self._schedule()

    # -- joining and leaving ------------------------------------------------------------------

    def open(self, channel: Channel) -> LiveChannel:
        """The live channel of that name; a new one hears nothing until its interest is taken."""
        live = self.channels.get(channel.name)
        if live is None:
            live = self.channels[channel.name] = LiveChannel(channel)
        return live

    def forget(self, name: str) -> None:
        """Drop a channel that nobody listens to any more."""
        self.channels.pop(name, None)
        self._confirmation.forget(name)

    def hold(self, channel: LiveChannel, subscription: Subscription) -> None:
        """Keep live messages for a subscription that begins to read a page of the log."""
        self.leave(channel, subscription)
        subscription.read()
        channel.joining[subscription] = None

    def set_apart(self, channel: LiveChannel, subscription: Subscription) -> None:
        """Keep nothing for a subscription until it reads on; what is not logged is dropped."""
        self.leave(channel, subscription)
        self._stats.messages_dropped += subscription.stop_reading()
        subscription.apart = True
        channel.apart += 1

    def follow(self, channel: LiveChannel, subscription: Subscription) -> None:
        """Let a subscription that has read the whole log hear what is newer than that."""
        subscription.stop_reading()
        alone = len(channel.joining) == 1
        # Who has read everything is behind what has come only if Redis has lost that.
        if not channel.members and (alone or subscription.position < channel.last):
            # Nobody waits for what comes before this: it need not be waited for again.
            channel.last = subscription.position
        if channel.last == subscription.position:
            self.go_live(channel, subscription)

    def go_live(self, channel: LiveChannel, subscription: Subscription) -> None:
        """Let a subscription hear live messages from the next one on."""
        # What gathered in this turn was held for it already.
        self._distribute(channel)
        channel.take_out(subscription)
        channel.enter(subscription)

    def leave(self, channel: LiveChannel, subscription: Subscription) -> None:
        """Take a subscription out, wherever it stands; one that was live is asked what it has received."""
        if subscription.live is not None:
            self._distribute(channel)
            self.send(subscription.connection, self._confirmation.unasked(channel.name))
        channel.take_out(subscription)

    # -- ending -------------------------------------------------------------------------------

    def close(self, connection: Connection, closing: Closing, error: bytes | None = None) -> None:
        """End a connection: what is due to it, an ``error`` message if there is one, a close frame.

        What it answers to the questions before the close frame still counts.
        """
        if connection.closed:
            return
        connection.closed = True
        self._distribute_all()
        for subscription in connection.subscriptions.values():
            if subscription.live is not None:
                self.leave(subscription.live, subscription)
        if error is not None:
            self.send(connection, frames.text(error))
        self.flush_to(connection)
        self._stats.connections_closed[str(int(closing.code))] += 1
        connection.socket.close(closing)
