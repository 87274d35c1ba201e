"""Round trips on a connection that the test plays."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from publisher.contract.calls import Call, Wait
from publisher.contract.scripts import GRANT, READ
from publisher.errors import Unavailable
from publisher.transport import blocking
from publisher.transport.flows import Flow, Scripts, T, round_trips

PING = Call(("PING",))


def run(flow: Flow[T], connection: Connection) -> T:
    """The flow over a connection that is played."""
    return blocking.run(flow, connection)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def as_the_library_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands stay readable."""
    monkeypatch.setattr(
        blocking, "pack_all", lambda commands: "".join(map(repr, commands)).encode()
    )


class Connection:
    """Answers with ``replies`` in turn; an exception among them is raised."""

    socket_timeout: float | None = 5.0
    contact = None

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.sent: list[Any] = []
        self.timeouts: list[float | None] = []
        self.disconnects = 0
        self.releases = 0
        self.scripts = Scripts()
        self.primary = self

    def send_packed_command(self, command: Any) -> None:
        (text,) = command
        self.sent.append(list(ast.literal_eval(text.decode().replace(")(", "),(") + ",")))

    def can_read(self, timeout: float) -> bool:
        self.timeouts.append(timeout)
        return True

    def read_response(self, disable_decoding: bool) -> Any:
        assert disable_decoding
        reply = self.replies.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def doubt(self) -> None:
        """There is one server only."""

    def take(self) -> Connection:
        return self

    def drop(self, connection: Connection) -> None:
        assert connection is self
        self.disconnects += 1

    def give_back(self, connection: Connection) -> None:
        assert connection is self
        self.releases += 1


@pytest.fixture
def play():
    """Exchange calls over a connection with these replies; gives it and the outcome back."""

    async def answered(
        calls: list[Call], *replies: Any, wait: Wait | None = None
    ) -> tuple[Connection, Any]:
        connection = Connection(*replies)
        try:
            return connection, run(round_trips(calls, wait), connection)
        except (Unavailable, KeyboardInterrupt) as error:
            return connection, error
        finally:
            # Only a connection that has answered everything is somebody else's next.
            assert connection.releases + connection.disconnects == len(connection.sent)

    return answered


async def test_an_error_stands_in_its_calls_place(play):
    wrong = ResponseError("WRONGTYPE")
    connection, replies = await play([PING, PING, PING], b"1", wrong, b"3")
    assert replies == [b"1", wrong, b"3"]
    assert connection.disconnects == 0


async def test_a_script_is_sent_whole_until_redis_knows_it_and_after_it_has_forgotten_it():
    script, unknown = Call.run(READ, ["k"], "u"), NoScriptError("x")
    connection = Connection(b"1", b"2", unknown, b"3", b"4")
    replies = [run(round_trips([script]), connection) for _ in range(4)]
    assert replies == [[b"1"], [b"2"], [b"3"], [b"4"]]
    whole, cached = [("EVAL", READ.text, "1", "k", "u")], [("EVALSHA", READ.sha, "1", "k", "u")]
    assert connection.sent == [whole, cached, cached, whole, cached]


async def test_behind_a_lost_connection_may_be_a_server_that_knows_no_script():
    script = Call.run(READ, ["k"], "u")
    connection = Connection(b"1", RedisConnectionError("broken"), b"2")
    run(round_trips([script]), connection)
    with pytest.raises(Unavailable):
        run(round_trips([script]), connection)
    run(round_trips([script]), connection)
    assert [each[0][0] for each in connection.sent] == ["EVAL", "EVALSHA", "EVAL"]


async def test_of_several_calls_the_first_brings_the_script(play):
    """What is sent once more would come behind the others, which Redis may have carried out."""
    first, second, other = (
        Call.run(script, [key]) for script, key in ((READ, "a"), (READ, "b"), (GRANT, "c"))
    )
    connection, replies = await play([first, PING, second, other], b"1", b"2", b"3", b"4")
    assert replies == [b"1", b"2", b"3", b"4"]
    assert connection.sent == [
        [
            ("EVAL", READ.text, "1", "a"),
            ("PING",),
            ("EVALSHA", READ.sha, "1", "b"),
            ("EVAL", GRANT.text, "1", "c"),
        ]
    ]


async def test_a_connection_that_breaks_is_not_used_again(play):
    connection, error = await play([PING], RedisConnectionError("broken"))
    assert (error.reason, error.maybe_sent) == ("broken", True)
    assert connection.disconnects == 1


async def test_an_interrupted_call_leaves_no_reply_for_the_next(play):
    connection, error = await play([PING], KeyboardInterrupt())
    assert isinstance(error, KeyboardInterrupt)
    assert connection.disconnects == 1


async def test_a_primary_that_has_become_a_replica_is_looked_for_anew(play):
    connection, replies = await play([PING], ReadOnlyError("You can't write"))
    assert isinstance(replies[0], ReadOnlyError)
    assert connection.disconnects == 1


@pytest.mark.parametrize("refusal", [BusyLoadingError("loading"), AuthenticationError("NOAUTH")])
async def test_what_redis_refuses_had_no_effect(play, refusal: Exception):
    _, error = await play([PING], refusal)
    assert not error.maybe_sent


async def test_of_several_calls_some_may_have_had_their_effect(play):
    _, error = await play([PING, PING], b"1", BusyLoadingError("loading"))
    assert error.maybe_sent


async def test_the_reason_does_not_repeat_a_commands_arguments():
    said = "unknown command 'AUTH', with args beginning with: 's3cr3t'"

    class Refusing(Connection):
        def take(self) -> Connection:
            raise ResponseError(said)

    with pytest.raises(Unavailable) as caught:
        run(round_trips([PING]), Refusing())
    assert caught.value.reason.startswith("unknown command 'AUTH'; the server forbids it")
    assert "s3cr3t" not in caught.value.reason
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert not caught.value.maybe_sent


async def test_replicas_are_waited_for_behind_the_calls(play):
    connection, replies = await play([PING, PING], b"1", b"2", 3, wait=Wait(2, 0.5))
    assert replies == [b"1", b"2", 3]
    assert connection.sent == [[("PING",), ("PING",), ("WAIT", 2, 500)]]


def test_the_shortest_wait_is_not_for_ever():
    assert Wait(1, 0.0001).command() == ("WAIT", 1, 1)


@pytest.mark.parametrize(("own", "patience"), [(5.0, [5.5]), (None, [])])
def test_the_socket_is_given_the_time_that_the_replicas_are(own, patience):
    connection = Connection(b"1", 1)
    connection.socket_timeout = own
    run(round_trips([PING], Wait(1, 0.5)), connection)
    assert connection.timeouts == patience


async def test_a_server_that_says_nothing_of_the_replicas_is_waited_for_no_longer(play):
    class Silent(Connection):
        def can_read(self, timeout: float) -> bool:
            return False

    with pytest.raises(Unavailable, match="no answer in time") as caught:
        run(round_trips([PING], Wait(1, 0.5)), Silent(b"1"))
    assert caught.value.maybe_sent


async def test_of_two_round_trips_the_replicas_of_the_second_count():
    script = Call.run(READ, ["k"], "u")
    connection = Connection(b"1", NoScriptError("x"), 0, b"2", 1)
    run(round_trips([script]), connection)
    assert run(round_trips([script], Wait(1, 1)), connection) == [b"2", 1]


async def test_an_error_in_place_of_the_number_stays(play):
    error = ResponseError("NOPERM")
    _, replies = await play([PING], b"1", error, wait=Wait(1, 1))
    assert replies == [b"1", error]


async def test_what_redis_refuses_had_no_effect_where_replicas_were_to_be_waited_for(play):
    _, error = await play([PING], BusyLoadingError("loading"), wait=Wait(1, 1))
    assert not error.maybe_sent
