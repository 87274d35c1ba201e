"""What clients say: whatever it is, it is carried out or answered, and every answer has the form of one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final

from hypothesis import strategies as st

from gateway.core import protocol
from gateway.core.access import Identity
from gateway.core.budget import Budget
from gateway.core.protocol import ErrorCode, Refused, Subscribe
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Connection
from gateway.node.heartbeats import Heartbeats
from gateway.node.hub import Events, Hub
from gateway.node.ports import Clocks
from gateway.node.requests import Requests
from gateway.node.revocations import Revocations
from gateway.node.stats import Stats
from gateway.node.tokens import Tokens, TokenTimes
from publisher.contract.channels import DEFAULT_NAMESPACES, Channel, parse_channel
from publisher.contract.message import MAX_ID
from tests.support.tokens import make_token, verifier
from tests.unit.fakes import FakeClock, FakeRevokedTokens, RecordingPositions, RecordingSocket
from tests.unit.wire import frames_in, messages_in

_MAX_BYTES: Final = 16_384
_CONTROL_BYTES: Final = 125
_USER: Final = "user-123"
_PONG: Final = 0xA
_CODES: Final = frozenset(ErrorCode)

_MESSAGES: Final[list[Any]] = [
    {"type": "subscribe", "channel": "notifications/user-123"},
    {"type": "subscribe", "channel": "run-results/a", "since": 1640995200000000},
    {"type": "subscribe", "channel": "run-results/张三|+@/'", "since": 0},
    {"type": "subscribe", "channel": "run-results/" + "ü" * 122, "since": None},
    {"type": "unsubscribe", "channel": "run-results/a"},
    {"type": "heartbeat"},
    {"type": "heartbeat", "more": [1, 2.5, None, True, {"a": {}}]},
    {"type": "ack", "channel": "notifications/user-123", "id": MAX_ID},
    {"type": "refresh", "token": make_token(_USER, ["run-results/*"])},
    {"type": "refresh", "token": make_token("other")},
    {"type": "refresh", "token": make_token(_USER, exp=1)},
    {"type": ["subscribe"], "channel": {"a": 1}},
    [],
    "text",
]

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


class Messages:
    """A node's answers to one client after the other; what an answer says of Redis is left out."""

    name = "messages"
    corpus = tuple(json.dumps(each, ensure_ascii=False).encode() for each in _MESSAGES)
    words = (
        *(
            json.dumps(each).encode()
            for each in ("subscribe", "refresh", "ack", "channel", "since")
        ),
        *(b'"type"', b'"id"', b'"token"', b"null", b"{}", b"[]", b'""', b"1e308", b"-0", b"1.0"),
        *(b"\\ud800", b"\\u0000", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"run-results/", b"/", b"/*"),
        *(b"9007199254740992", b"[" * 200, b'{"a":' * 200, b"NaN", b"//"),
    )
    structured = st.dictionaries(
        st.sampled_from(["type", "channel", "since", "id", "token", "x"]),
        st.sampled_from(
            ["subscribe", "unsubscribe", "heartbeat", "ack", "refresh", "presence", "a/b"]
        )
        | _values,
    ).map(lambda message: json.dumps(message).encode("utf-8", "surrogatepass"))

    def __init__(self) -> None:
        clock = FakeClock()
        self._turn: list[Callable[[], None]] = []
        stats = Stats()
        confirmation = Confirmation(
            RecordingPositions(), DEFAULT_NAMESPACES, clock, 1.0, stats.timings
        )
        nothing = lambda _: None  # noqa: E731
        self._hub = Hub(self._turn.append, confirmation, stats, Events(*[nothing] * 5), 1)
        self._requests = Requests(
            self._hub,
            _Subscriptions(self._hub),  # type: ignore[arg-type]
            Tokens(
                self._hub,
                verifier(),
                _Recheck(),  # type: ignore[arg-type]
                Revocations(
                    self._hub, FakeRevokedTokens(), "here", lambda *_who: None, clock, lambda: 0.0
                ),
                _Tasks(),  # type: ignore[arg-type]
                TokenTimes(5, 60),
                clock,
                clock,
            ),
            Heartbeats(self._hub, clock, random.Random(1).random, 30.0, 30.0),
            confirmation,
            _not_there,
            Clocks(clock, clock),
            _MAX_BYTES,
        )

    def take(self, data: bytes, dice: random.Random) -> None:
        """Let it read an input."""
        socket = RecordingSocket()
        connection = Connection("c1", Identity(_USER), socket, Budget(1e9, 1e9, 100, 0.0))
        control = data[:_CONTROL_BYTES]
        self._requests.ping(connection, control)
        self._requests.pong(connection, control)
        self._requests.binary(connection, data)
        if _is_text(data):
            self._requests.text(connection, data, dice.random())
        for each in self._turn:
            each()
        self._turn.clear()
        assert socket.closing is None
        assert connection.user == _USER
        (pong,) = [frame for frame in frames_in(socket.received) if frame.opcode == _PONG]
        assert pong.payload == control
        answers = messages_in(socket.received)
        assert answers[0]["code"] == "binary_unsupported"
        for answer in answers:
            assert answer["type"] in {"heartbeat", "subscribed", "unsubscribed", "error"}
            assert answer["type"] != "error" or answer["code"] in _CODES


def _is_text(data: bytes) -> bool:
    """As ``Inbox`` sees to it, whatever comes."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _not_there(_connection: Connection, channel: Channel) -> None:
    raise protocol.not_subscribed(channel.name)


class _Subscriptions:
    """Answers at once, and refuses what begins with a vowel."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def subscribe(self, connection: Connection, request: Subscribe) -> None:
        channel = request.channel
        assert parse_channel(channel.name) == channel
        assert request.since is None or 0 <= request.since <= MAX_ID
        if channel.id[0] in "aeiou":
            raise Refused(ErrorCode.FORBIDDEN, "Not allowed", channel=channel.name)
        self._answer(connection, protocol.subscribed(channel.name))

    def unsubscribe(self, connection: Connection, channel: Channel) -> None:
        assert parse_channel(channel.name) == channel
        self._answer(connection, protocol.unsubscribed(channel.name))

    def _answer(self, connection: Connection, message: bytes) -> None:
        self._hub.tell(connection, message)


class _Tasks:
    def spawn(self, work: Coroutine[Any, Any, None], _name: str) -> None:
        work.close()  # there is no event loop; what Redis says of a token is not what is tried here


class _Recheck:
    def refreshed(self, connection: Connection) -> None:
        assert connection.user == _USER
