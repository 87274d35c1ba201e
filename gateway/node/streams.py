"""Clients without a WebSocket: how they are reached by name, where they stand, and when they have to show that.

They cannot say anything over the line that they hear on. What they have to say comes in requests of its own, to any node, by
the name of their stream (``web/streams.py``); and they show what they have received by coming back with their position.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import orjson

from gateway.core import budget, closing, events, positions, protocol
from gateway.core.access import keeps_log
from gateway.core.closing import CloseCode, Closing
from gateway.core.events import WITH_IDS, WITHOUT_IDS
from gateway.core.positions import Position
from gateway.core.protocol import Ack, BadRequest, Subscribe
from gateway.core.timing import EXPIRY_STEP
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.ports import Answering, Clock, Polls, StreamRequest
from gateway.node.requests import Requests
from publisher.contract.channels import Channel, Namespace

PROOF_SECONDS: Final = 60.0
"""About so long after a message that is not known to have arrived an event stream is ended: its client comes back at once with
its position, and that shows it."""

_LOOKS: Final = 20
"""How often all streams are looked through in that time."""
_SHARES: Final = round(PROOF_SECONDS / _LOOKS / EXPIRY_STEP)
"""In so many sweeps they are: all at once, with their subscriptions, would hold up everybody."""

RESUME: Final = Closing(CloseCode.NORMAL, "resume")
"""The end of such a stream. Clients see nothing of it but when to come back."""

TAKEN: Final = 202
REVOKED: Final = 401
NOT_FOUND: Final = 404
REPLACED: Final = 409
TOO_MANY: Final = 413
UNREAD: Final = 429
FAILED: Final = 500
UNAVAILABLE: Final = 503
"""How requests for streams are answered, as in HTTP: what was said is taken, or nothing comes of it, since the token is revoked, the user has no such stream, the
client has polled once more, says too many messages at once or does not read their answers, the node has failed, Redis does not answer."""

NO_MESSAGES: Final = b"[]"
"""What a poll is answered with for which there is nothing."""

MOST_SAID: Final = 256
"""Messages that a client may say at once. They are served in one turn of the event loop."""

_TAG_LENGTH: Final = 8
_RANDOM_BYTES: Final = 16


def tag_of(node_id: str) -> str:
    """What the names of a node's streams begin with: the random part of its id, since clients need not learn its host's name."""
    return node_id[-_TAG_LENGTH:]


def tag_in(name: str) -> str | None:
    """The tag of the node whose stream has this name; ``None`` where it is no name."""
    is_name = len(name) == _TAG_LENGTH + 2 * _RANDOM_BYTES and set(name) <= set("0123456789abcdef")
    return name[:_TAG_LENGTH] if is_name else None


@dataclass(slots=True, eq=False)
class Stream:
    """One client. ``channels`` are those of its address, of which some are ``logged``, with the positions ``since`` which it asks
    for them.
    """

    name: str
    connection: Connection
    channels: Sequence[Channel]
    since: Mapping[str, Position]
    logged: Collection[str]
    encoder: positions.Encoder
    polls: Polls | None = None
    unproven_until: float | None = None


class Streams:
    """The event streams and polls of a node.

    Args:
        node_id: of this node.
        high_water: bytes that may wait for a client that does not read.
        random: a number from 0 to 1, so that streams that began together do not end together.
    """

    def __init__(
        self,
        hub: Hub,
        requests: Requests,
        confirmation: Confirmation,
        namespaces: Mapping[str, Namespace],
        node_id: str,
        high_water: int,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._hub = hub
        self._requests = requests
        self._confirmation = confirmation
        self._namespaces = namespaces
        self.tag = tag_of(node_id)
        self._high_water = high_water
        self._clock = clock
        self._random = random
        self._streams: dict[str, Stream] = {}
        self._look_at = clock()
        # Those of this look that are still to be looked at, and how many of them in a turn.
        self._unseen: Iterator[str] = iter(())
        self._share = 1
        self._told_of_leaving: list[Callable[[str], None]] = []

    # -- beginning and end --------------------------------------------------------------------

    def enter(
        self, connection: Connection, channels: Sequence[Channel], since: Sequence[Position]
    ) -> Stream:
        """Give a connection a name by which its client can be reached. What it asked for begins with :meth:`begin`."""
        name = self.tag + secrets.token_hex(_RANDOM_BYTES)
        names = [each.name for each in channels]
        stream = Stream(
            name,
            connection,
            channels,
            dict(zip(names, since, strict=True)),
            {each for each in names if keeps_log(each, self._namespaces)},
            positions.Encoder(names),
        )
        self._streams[name] = stream
        return stream

    def begin(self, stream: Stream) -> None:
        """Subscribe to the channels of its address."""
        for channel in stream.channels:
            request = Subscribe(channel, stream.since[channel.name])
            self._requests.request(stream.connection, request)

    def leave(self, stream: Stream) -> None:
        """It is gone."""
        if self._streams.pop(stream.name, None) is not None:
            for tell in self._told_of_leaving:
                tell(stream.name)

    def on_leaving(self, tell: Callable[[str], None]) -> None:
        """Let somebody be told the name of each stream that is gone, while its place is still held."""
        self._told_of_leaving.append(tell)

    # -- polls --------------------------------------------------------------------------------

    def settle(self, stream: Stream) -> None:
        """Write what is due to it."""
        self._hub.flush_to(stream.connection)

    def joins(self, stream: Stream) -> bool:
        """Whether a subscription of it has not begun yet."""
        return any(each.answers for each in stream.connection.subscriptions.values())

    def marks(self, stream: Stream) -> Mapping[str, int]:
        """The last ids that it was sent."""
        subscriptions = stream.connection.subscriptions.items()
        return {name: each.sent_upto for name, each in subscriptions if not each.answers}

    def prove(self, stream: Stream, marks: Mapping[str, int]) -> None:
        """Its client has what it was sent up to there."""
        for name, upto in marks.items():
            self._confirmation.confirm(stream.connection, name, upto)

    def charge(self, stream: Stream, octets: int) -> None:
        """Note that so many bytes are sent once more, as with what is read again from a log."""
        stream.connection.budget.owe(budget.REPEATED_MESSAGE + octets * budget.REPEATED_BYTE)

    def owes(self, stream: Stream) -> float:
        """In how many seconds it can have paid for what was sent once more."""
        return stream.connection.budget.settle(self._clock())

    # -- what clients say ---------------------------------------------------------------------

    def serve(self, request: StreamRequest, answer: Answering) -> bool:
        """Serve what has come for a stream of this node; ``False``, and no answer, where the user has no such stream here, or polls
        from where it does not stand.
        """
        stream = self.find(request.stream, request.user)
        if stream is None or (request.wait is not None and stream.polls is None):
            return False
        if request.leaves:
            self._hub.close(stream.connection, closing.NORMAL)
            answer(TAKEN, b"")
        elif request.wait is None or stream.polls is None:
            answer(self._hear(stream, request.messages), b"")
        elif self._requests.arrived(stream.connection, budget.MESSAGE):
            return stream.polls.poll(request.since, request.wait, answer)
        else:
            answer(200, NO_MESSAGES)
        return True

    def forget(self, request: StreamRequest, answer: Answering) -> None:
        """Whoever has polled, and waits for this answer, has gone."""
        stream = self.find(request.stream, request.user)
        if stream is not None and stream.polls is not None:
            stream.polls.forget(answer)

    def find(self, name: str, user: str) -> Stream | None:
        """The user's stream of that name."""
        stream = self._streams.get(name)
        found = stream is not None and stream.connection.user == user
        return stream if found and stream is not None and not stream.connection.closed else None

    def _hear(self, stream: Stream, said: bytes) -> int:
        """Take a message of the protocol, or an array of them, as from a WebSocket. Their answers come on the stream; returns the
        status of that of the request.
        """
        connection = stream.connection
        # A WebSocket is not read from meanwhile: each answer would come on top of what waits.
        if connection.socket.waiting > self._high_water and not _are_acks(said):
            return UNREAD
        messages = _array(said)
        if messages is None:
            self._requests.text(connection, said)
        elif len(messages) > MOST_SAID:
            return TOO_MANY
        else:
            for message in messages:
                if connection.closed:
                    break
                self._requests.member(connection, message)
        if (
            connection.socket.encoding is WITH_IDS
            and connection.subscriptions.keys() - stream.since
        ):
            # The ids of messages are no positions any more: those of the address's channel are told behind them.
            self._hub.change_encoding(connection, WITHOUT_IDS)
        return TAKEN

    # -- positions ----------------------------------------------------------------------------

    def position(self, stream: Stream) -> bytes:
        """Where it goes on in the channels of its address when it comes back; empty where that is nowhere."""
        return stream.encoder.encode([_position(stream, each) for each in stream.since])

    # -- proof of receipt ---------------------------------------------------------------------

    def tick(self) -> None:
        """End streams whose clients have to show what they have received; to be called several times a second."""
        now = self._clock()
        names = list(islice(self._unseen, self._share))
        if not names and now >= self._look_at:
            self._look_at = now + PROOF_SECONDS / _LOOKS
            self._share = math.ceil(len(self._streams) / _SHARES)
            self._unseen = iter(list(self._streams))
            names = list(islice(self._unseen, self._share))
        for stream in filter(None, map(self._streams.get, names)):
            if not _is_unproven(stream.connection):
                stream.unproven_until = None
            elif stream.unproven_until is None:
                stream.unproven_until = now + PROOF_SECONDS * (0.75 + self._random() / 2)
            elif now >= stream.unproven_until:
                self._end(stream)

    def _end(self, stream: Stream) -> None:
        """End a stream, behind its position: a message that was taken out has an id, and is no event that would bring it."""
        connection = stream.connection
        self._hub.flush_to(connection)
        if position := self.position(stream):
            self._hub.send(connection, events.position(position))
        self._hub.close(connection, RESUME)


def _array(said: bytes) -> list[object] | None:
    """The members of an array of messages; ``None`` where it is none."""
    try:
        found = orjson.loads(said)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, list) else None


def _are_acks(said: bytes) -> bool:
    """Whether all that is said are acks without a mistake: these alone are not answered."""
    messages = _array(said)
    try:
        if messages is None:
            return isinstance(protocol.parse(said), Ack)
        return all(isinstance(protocol.read(each), Ack) for each in messages)
    except BadRequest:
        return False


def _position(stream: Stream, name: str) -> Position:
    if name not in stream.logged:
        return None
    subscription = stream.connection.subscriptions.get(name)
    if subscription is None:
        return stream.connection.positions.get(name, stream.since[name])
    if subscription.answers:
        request = subscription.request
        return stream.since[name] if request is None else request.since
    return subscription.sent_upto


def _is_unproven(connection: Connection) -> bool:
    """Whether it was sent messages of which it is not known that they have arrived."""
    return connection.socket.encoding in (WITH_IDS, WITHOUT_IDS) and any(
        each.confirmed_upto < each.sent_upto
        for each in connection.subscriptions.values()
        if not each.answers
    )
