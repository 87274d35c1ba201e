"""What comes from Redis: a payload that nobody of ours wrote is left out, and harms nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import orjson
from hypothesis import strategies as st

from gateway.core.access import Identity
from gateway.core.budget import Budget
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Connection, Subscription
from gateway.node.control import Control
from gateway.node.hub import Events, Hub
from gateway.node.opener import Opener
from gateway.node.revocations import Revocations
from gateway.node.stats import Stats
from publisher.contract import control
from publisher.contract.calls import parse_log
from publisher.contract.channels import DEFAULT_NAMESPACES, Namespace, parse_channel
from publisher.contract.control import (
    CheckPlaces,
    Disconnect,
    GrantRevoked,
    PlacesChecked,
    TokenRevoked,
    TokensRevoked,
)
from publisher.contract.grants import EVERYBODY
from publisher.contract.message import Message, decode
from publisher.contract.revocations import digest_of
from publisher.contract.sealing import KeyRing
from publisher.errors import InvalidNamespace
from publisher.preflight import _namespaces as announced
from tests.unit.fakes import FakeClock, FakeRevokedTokens, RecordingPositions, RecordingSocket
from tests.unit.wire import frames_in, messages_in

_CHANNEL: Final = parse_channel("run-results/a")
_ID: Final = 1_640_995_200_000_000
_MOST_ENTRIES: Final = 50

_RING: Final = KeyRing({"k1": bytes(32)})
_OPENED: Final = b'{"sealed":true}'
# One without a line's end: an input has an entry in each line.
_SEALED: Final = next(
    sealed for _ in range(100) if b"\n" not in (sealed := _RING.seal(_CHANNEL.name, _OPENED))
)
_ENTRY: Final = b"%d:%d:n6+%b:%b" % (_ID + 3, _ID + 2, _RING.extension.encode(), _SEALED)

_COMMANDS: Final = (
    GrantRevoked(_CHANNEL.name, "user-123"),
    GrantRevoked(_CHANNEL.name, EVERYBODY),
    CheckPlaces("user-123", ("node-1", "node-2")),
    CheckPlaces("user-123", ("node-1",), ("node-1/c1",), "node-2"),
    PlacesChecked("user-123", "node-1"),
    Disconnect("user-123", _ID, "bye"),
    Disconnect("user-123", _ID, "", "here/c1", "an operator"),
    TokenRevoked(digest_of("j1")),
    TokensRevoked("user-123", 1640995200.5, "an operator"),
)


class Payloads:
    """Messages of a channel and pages of its log, commands to all nodes, and rules of namespaces."""

    name = "payloads"
    corpus = (
        b'%d:0:n1:{"a":1}' % _ID,
        b'%d:%d:n2:"text"' % (_ID + 1, _ID),
        b"%d:%d:n3:" % (_ID + 2, _ID + 1),
        b"%d:%d:n4+z9.x:body" % (_ID + 3, _ID + 2),
        b"%d::n5:[1,2]" % _ID,
        _ENTRY,
        b"%d:0:n1:1\n" % _ID + _ENTRY,
        b"%d::n7+%b:%b" % (_ID, _RING.extension.encode(), _SEALED),
        b"%d:0:n1:1\n%d:%d:n2:2\n%d:%d:n3+x:3" % (_ID, _ID + 1, _ID, _ID + 2, _ID + 1),
        *map(control.encode, _COMMANDS),
        *(orjson.dumps(each.to_dict()) for each in DEFAULT_NAMESPACES.values()),
        b'{"owner":"anyone","retention":null,"later":{}}',
    )
    words = (
        *(
            b":",
            b"+",
            b"\n",
            b"%d" % _ID,
            b"9007199254740992",
            b"-1",
            b"0",
            b"1_0",
            b" 1 ",
            b"\xff",
        ),
        *(b'"type":', b'"grant_revoked"', b'"reconcile_places"', b'"nodes":[', b'"user":"*"'),
        *(b'"owner":', b'"user"', b'"retention":', b'"max_messages":', b"1000000001", b"true"),
    )
    structured = st.builds(
        "{}:{}:{}:{}".format,
        st.integers(0, 2**54) | st.just(""),
        st.integers(-2, 2**54) | st.just(""),
        st.text("abc+:1.", max_size=8),
        st.text(max_size=20),
    ).map(str.encode)

    def __init__(self) -> None:
        self._clock = FakeClock()
        self._turn: list[Callable[[], None]] = []
        self._commands: list[bytes] = []
        stats = Stats()
        self._confirmation = Confirmation(
            RecordingPositions(), DEFAULT_NAMESPACES, self._clock, 1.0, stats.timings
        )
        nothing = lambda _: None  # noqa: E731
        events = Events(nothing, nothing, nothing, self._commands.append, nothing)
        self._hub = Hub(
            self._turn.append,
            self._confirmation,
            stats,
            events,
            1_024,
            Opener(_RING, Stats(), DEFAULT_NAMESPACES, self._clock),
        )
        self._revocations = Revocations(
            self._hub, FakeRevokedTokens(), "here", lambda *_who: None, self._clock, lambda: 0.0
        )
        self._control = Control(
            _Recheck(),  # type: ignore[arg-type]
            nothing,
            nothing,
            self._revocations,
            nothing,
            nothing,
            nothing,
        )

    def take(self, data: bytes, dice: random.Random) -> None:
        """Let it read an input."""
        # What is remembered of commands is forgotten again.
        self._clock.now += 0.1
        self._command(data)
        _read_command(data)
        entries = data.split(b"\n", _MOST_ENTRIES)
        page = parse_log([b"%d" % dice.choice((-1, 0, _ID)), b"%d" % (_ID + 9), *entries])
        assert len(page.messages) + page.unreadable == len(entries)
        _read_rules(data)
        announced([b"run-results", data])
        self._receive(entries, dice)

    def _command(self, data: bytes) -> None:
        """As a command to all nodes, for a connection that it may be about."""
        socket = RecordingSocket()
        identity = Identity("user-123", token_id="j1", issued_at=1_640_995_200.0)
        connection = Connection("c1", identity, socket, Budget(1e9, 1e9, 100, 0.0))
        self._revocations.watch(connection)
        self._control.receive(data)
        self._revocations.forget(connection)
        if socket.closing is not None:
            assert socket.closing.code == 1008
            (told,) = messages_in(socket.received)
            assert told["code"] == socket.closing.reason

    def _receive(self, entries: list[bytes], dice: random.Random) -> None:
        """As live messages, for one client that listens."""
        socket = RecordingSocket()
        connection = Connection("c1", Identity("u"), socket, Budget(1e9, 1e9, 100, 0.0))
        channel = self._hub.open(_CHANNEL, keeps_log=dice.random() < 0.8)
        channel.position = dice.choice((0, _ID, _ID + 1))
        connection.subscriptions[_CHANNEL.name] = subscription = Subscription(connection, _CHANNEL)
        self._hub.go_live(channel, subscription)
        for entry in entries:
            self._hub.receive(_CHANNEL.name, entry)
        for each in self._turn:
            each()
        self._turn.clear()
        frames_in(socket.received)
        bodies = [message.body for message in map(_message, entries) if message is not None]
        sent = socket.received
        if b'"data":' + _OPENED in sent:
            assert {_SEALED, _OPENED} & {*bodies}, "a body was opened that was changed"
            bodies.append(_OPENED)
        assert not sent or any(body in sent for body in bodies), "something else was sent"
        self._hub.forget(_CHANNEL.name)
        for command in self._commands:
            self._control.receive(command)
        self._commands.clear()


def _message(entry: bytes) -> Message | None:
    try:
        message = decode(entry)
    except ValueError:
        return None
    assert isinstance(message.id, int)
    assert isinstance(message.prev, int)
    return message


def _read_command(data: bytes) -> None:
    try:
        command = control.decode(data)
    except ValueError:
        return
    if command is not None:
        assert control.decode(control.encode(command)) == command


def _read_rules(data: bytes) -> None:
    try:
        rules = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    if isinstance(rules, dict):
        try:
            read = Namespace.from_dict("run-results", rules)
        except InvalidNamespace:
            return
        assert Namespace.from_dict("run-results", read.to_dict()) == read


class _Recheck:
    def revoked(self, channel: str, user: object) -> None:
        assert isinstance(channel, str)
        assert user is EVERYBODY or isinstance(user, str)
