"""The fan-out, on a real event loop."""

from __future__ import annotations

import json

import pytest

from gateway.core import closing, frames, protocol
from gateway.core.frames import Encoding
from gateway.node.connection import Subscription
from tests.unit.fakes import (
    NEWS,
    Node,
    RecordingSocket,
    logged,
    make_connection,
    payload,
    turn,
    unlogged,
)
from tests.unit.wire import PING, TEXT, frames_in, messages_in


def ids(socket: RecordingSocket) -> list[int]:
    return [message["id"] for message in messages_in(socket.received)]


@pytest.fixture
def node() -> Node:
    return Node()


async def test_a_message_reaches_everybody_who_listens_and_nobody_else(node: Node) -> None:
    sockets = []
    for number in range(3):
        client, socket = make_connection(id=f"c{number}")
        node.listen(client)
        sockets.append(socket)
    stranger, silence = make_connection(id="c9")
    node.listen(stranger, "news/other")
    node.hub.receive(NEWS.name, payload(5_000, 0, b'{"a":1}'))
    await turn()
    assert [messages_in(socket.received) for socket in sockets] == [
        [{"type": "news", "channel": NEWS.name, "data": {"a": 1}, "timestamp": 5, "id": 5_000}]
    ] * 3
    assert silence.writes == []
    assert node.stats.messages_received == 1
    assert node.stats.messages_delivered == 3


async def test_messages_come_in_order_and_a_repeated_one_is_dropped(node: Node) -> None:
    client, socket = make_connection()
    node.listen(client)
    for id_, prev in ((1, 0), (2, 1), (2, 1), (1, 0), (4, 2)):
        node.hub.receive(NEWS.name, payload(id_, prev))
    await turn()
    node.hub.receive(NEWS.name, payload(4, 2))
    node.hub.receive(NEWS.name, payload(5, 4))
    await turn()
    assert ids(socket) == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("received", "then"),
    [
        pytest.param([(1, 0)], (7, 3), id="one is missing"),
        pytest.param([], (7, 3), id="the first is missing"),
        # Redis has lost its data, and a publisher was quicker than the check of all channels.
        pytest.param([(1, 0)], (7, 0), id="the chain begins anew"),
    ],
)
async def test_what_is_missing_is_mended_before_the_message_behind_it_goes_out(
    node: Node, received: list[tuple[int, int]], then: tuple[int, int]
) -> None:
    client, socket = make_connection()
    node.listen(client)
    for id_, prev in received:
        node.hub.receive(NEWS.name, payload(id_, prev))
    assert node.gaps == []
    node.hub.receive(NEWS.name, payload(*then))
    await turn()
    assert node.gaps == [NEWS.name]
    assert ids(socket) == [id_ for id_, _ in received]


async def test_messages_without_a_log_have_no_id_and_are_never_taken_for_repeated(
    node: Node,
) -> None:
    client, socket = make_connection()
    node.listen(client)
    node.hub.receive(NEWS.name, payload(9_000))
    for _ in range(2):
        node.hub.receive(NEWS.name, payload(7_000, None))
    await turn()
    assert [message.get("id") for message in messages_in(socket.received)] == [9_000, None, None]


async def test_messages_without_a_log_are_not_asked_about(node: Node) -> None:
    client, socket = make_connection()
    node.listen(client)
    node.hub.receive(NEWS.name, payload(7_000, None))
    await turn()
    assert [frame.opcode for frame in frames_in(socket.received)] == [TEXT]


async def test_the_question_comes_after_the_messages_it_asks_about(node: Node) -> None:
    client, socket = make_connection(user="ann")
    node.listen(client)
    for id_ in (1, 2):
        node.hub.receive(NEWS.name, payload(id_, id_ - 1))
    await turn()
    received = frames_in(socket.received)
    assert [frame.opcode for frame in received] == [TEXT, TEXT, PING]
    node.confirmation.pong(client, received[-1].payload)
    assert node.positions.advanced == [(NEWS.name, "ann", 2)]


@pytest.mark.parametrize("broken", [b"", b"1", b"1:2:3", b"x:0:n:1", b"1:y:n:1", b"::n:1"])
async def test_what_is_no_message_is_counted_and_hurts_nobody(
    node: Node, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client, socket = make_connection()
    node.listen(client)
    node.hub.receive(NEWS.name, payload(1))
    node.hub.receive(NEWS.name, broken)
    node.hub.receive(NEWS.name, payload(2, 1))
    await turn()
    assert ids(socket) == [1, 2]
    assert node.stats.messages_invalid == 1
    assert "message_invalid" in caplog.text


async def test_a_command_among_the_messages_of_a_channel_is_handed_on(node: Node) -> None:
    client, _ = make_connection()
    node.listen(client)
    node.hub.receive(NEWS.name, b'{"type":"nothing"}')
    assert node.commands == [b'{"type":"nothing"}']
    assert node.stats.messages_invalid == 0


async def test_a_channel_nobody_opened_is_ignored(node: Node) -> None:
    node.hub.receive("news/unknown", payload(1))
    await turn()
    assert node.stats.messages_received == 0
    assert "news/unknown" not in node.hub.channels


async def test_what_is_sent_to_one_client_goes_out_at_the_end_of_the_turn_in_its_order(
    node: Node,
) -> None:
    client, socket = make_connection()
    for text in (b'{"n":1}', b'{"n":2}'):
        node.hub.send(client, frames.text(text))
    assert socket.writes == []
    await turn()
    assert len(socket.writes) == 1
    assert [message["n"] for message in messages_in(socket.received)] == [1, 2]


async def test_an_answer_precedes_the_messages_that_come_after_it(node: Node) -> None:
    client, socket = make_connection()
    node.listen(client)
    node.hub.send(client, frames.text(protocol.subscribed(NEWS.name)))
    node.hub.receive(NEWS.name, payload(1))
    await turn()
    assert [m["type"] for m in messages_in(socket.received)] == ["subscribed", "news"]


async def test_sockets_are_served_as_they_asked_to_be(node: Node) -> None:
    batching, batches = make_connection(Encoding(0, True), id="c1")
    squeezing, squeezed = make_connection(Encoding(15, False), id="c2")
    node.listen(batching)
    node.listen(squeezing)
    body = json.dumps("x" * 3_000).encode()
    for id_ in (1, 2):
        node.hub.receive(NEWS.name, payload(id_, id_ - 1, body))
    await turn()
    kinds = [(frame.opcode, frame.compressed) for frame in frames_in(batches.received)]
    assert kinds == [(TEXT, False), (PING, False)]
    kinds = [(frame.opcode, frame.compressed) for frame in frames_in(squeezed.received)]
    assert kinds == [(TEXT, True), (TEXT, True), (PING, False)]
    assert ids(batches) == ids(squeezed) == [1, 2]


# -- joining and leaving --------------------------------------------------------------------------


async def test_who_goes_live_in_the_turn_of_a_message_gets_what_comes_after(node: Node) -> None:
    early, before = make_connection(id="c1")
    node.listen(early)
    node.hub.receive(NEWS.name, payload(1))
    late, after = make_connection(id="c2")
    node.listen(late)
    node.hub.receive(NEWS.name, payload(2, 1))
    await turn()
    assert ids(before) == [1, 2]
    assert ids(after) == [2]


async def test_what_was_read_ahead_of_the_channel_goes_to_all_and_is_dropped_when_it_comes(
    node: Node,
) -> None:
    live, heard = make_connection(id="c1")
    node.listen(live)
    node.hub.advance(node.open(), [logged(1), logged(2, 1)])
    late, socket = make_connection(id="c2")
    node.listen(late)
    for id_ in (1, 2, 3, 4):
        node.hub.receive(NEWS.name, payload(id_, id_ - 1))
    await turn()
    assert ids(heard) == [1, 2, 3, 4]
    assert ids(socket) == [3, 4]


async def test_a_question_never_asks_about_a_message_that_is_sent_after_it(node: Node) -> None:
    client, socket = make_connection(user="ann")
    node.listen(client)
    node.hub.receive(NEWS.name, payload(1))
    node.listen(make_connection(id="c2")[0])  # what came is laid out, and asked about
    node.hub.receive(NEWS.name, payload(2, 1))
    await turn()
    received = 0
    for frame in frames_in(socket.received):
        if frame.opcode == TEXT:
            received = json.loads(frame.payload)["id"]
        else:
            node.confirmation.pong(client, frame.payload)
            assert node.positions.advanced[-1] == (NEWS.name, "ann", received)


async def test_who_reads_the_log_has_live_messages_buffered(node: Node) -> None:
    channel = node.open()
    buffer = channel.begin_buffering()
    mark = buffer.end
    node.hub.receive(NEWS.name, payload(1))
    node.hub.receive(NEWS.name, payload(5, 4))
    node.hub.receive(NEWS.name, payload(6, None))
    assert buffer.since(mark) == [logged(1), logged(5, 4), unlogged(6)]
    channel.end_buffering(buffer)
    assert channel.buffer is None


async def test_leaving_sends_what_had_come_before_and_nothing_after(node: Node) -> None:
    client, socket = make_connection()
    subscription = node.listen(client)
    node.hub.receive(NEWS.name, payload(1))
    node.hub.leave(node.open(), subscription)
    node.hub.receive(NEWS.name, payload(2, 1))
    await turn()
    assert ids(socket) == [1]
    assert subscription.position == 1
    assert not node.open().members


async def test_leaving_twice_is_no_error(node: Node) -> None:
    client, _ = make_connection()
    subscription = node.listen(client)
    node.hub.leave(node.open(), subscription)
    node.hub.leave(node.open(), subscription)


async def test_a_forgotten_channel_hears_nothing_more_and_may_be_opened_again(node: Node) -> None:
    node.hub.receive(node.open().name, payload(5))
    node.hub.forget(NEWS.name)
    node.hub.receive(NEWS.name, payload(6, 5))
    assert node.stats.messages_received == 1
    assert node.open().position == 0
    await turn()


async def test_a_question_of_its_own_goes_to_all_members(node: Node) -> None:
    sockets = []
    for number, encoding in enumerate([Encoding(0, False), Encoding(15, True)]):
        client, socket = make_connection(encoding, id=f"c{number}")
        node.listen(client)
        sockets.append(socket)
    node.hub.ask_all(NEWS.name, frames.ping(b"c1"))
    node.hub.ask_all("news/gone", frames.ping(b"c2"))
    await turn()
    assert [socket.received for socket in sockets] == [frames.ping(b"c1")] * 2


# -- ending ---------------------------------------------------------------------------------------


async def test_what_is_sent_to_all_comes_behind_the_messages_that_were_there_before(
    node: Node,
) -> None:
    """A question in front of a message that it asks about would confirm what may never arrive."""
    client, socket = make_connection()
    node.listen(client)
    node.hub.receive(NEWS.name, payload(1, 0))
    node.hub.ask_all(NEWS.name, frames.ping(b"c1:1"))
    await turn()
    received = frames_in(socket.received)
    assert received[0].opcode == TEXT
    assert received[-1].payload == b"c1:1"


async def test_closing_sends_all_that_is_due_then_the_error_then_closes(node: Node) -> None:
    client, socket = make_connection()
    node.listen(client)
    node.hub.receive(NEWS.name, payload(1))
    node.hub.close(client, closing.FLOOD)
    sent = messages_in(socket.received)
    assert [each.get("code", each["type"]) for each in sent] == ["news", "flood"]
    assert socket.closing == closing.FLOOD
    assert client.closed
    assert node.stats.connections_closed == {"1008": 1}
    await turn()
    assert len(socket.writes) == 1


async def test_a_connection_is_closed_once_and_for_the_first_reason(node: Node) -> None:
    client, socket = make_connection()
    node.hub.close(client, closing.DRAINING)
    node.hub.close(client, closing.FLOOD)
    assert socket.closing == closing.DRAINING
    assert node.stats.connections_closed == {"1001": 1}


async def test_one_clients_end_does_not_hold_back_the_others_messages(node: Node) -> None:
    client, socket = make_connection(id="c1")
    node.listen(client)
    leaving, _ = make_connection(id="c2")
    node.hub.receive(NEWS.name, payload(1))
    node.hub.close(leaving, closing.DRAINING)
    node.hub.receive(NEWS.name, payload(2, 1))
    await turn()
    assert ids(socket) == [1, 2]


# -- what only a later version can read, and what was taken out on purpose ------------------------


async def test_a_message_with_an_unknown_extension_stops_the_channel_in_front_of_it(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    client, socket = make_connection()
    subscription = node.listen(client)
    node.hub.receive(NEWS.name, payload(1))
    for _ in range(2):
        node.hub.receive(NEWS.name, b"2:1:n+z9:1")
    node.hub.receive(NEWS.name, payload(3, 2))
    await turn()
    assert ids(socket) == [1]
    assert client.sent_upto(NEWS.name) == 1
    assert subscription.live is None
    assert node.gaps == []
    assert node.stats.messages_unknown == 2
    [record] = [each for each in caplog.records if "extension_unknown" in each.message]
    assert record.levelname == "ERROR"
    assert "z9" in record.message


async def test_an_unknown_extension_behind_a_gap_is_looked_for_in_the_log(node: Node) -> None:
    node.listen(make_connection()[0])
    node.hub.receive(NEWS.name, b"5:4:n+z:1")
    assert node.gaps == [NEWS.name]


async def test_a_message_without_a_log_that_nobody_can_read_is_dropped_alone(node: Node) -> None:
    client, socket = make_connection()
    node.listen(client)
    node.hub.receive(NEWS.name, b"7::n+z:1")
    node.hub.receive(NEWS.name, payload(1))
    await turn()
    assert ids(socket) == [1]


async def test_what_was_taken_out_moves_the_channel_on_and_is_asked_about_and_not_sent() -> None:
    node = Node(interval=0)
    client, socket = make_connection(user="ann")
    node.listen(client)
    node.hub.receive(NEWS.name, payload(1))
    node.hub.receive(NEWS.name, payload(2, 1, b""))
    node.hub.receive(NEWS.name, payload(3, 2))
    await turn()
    assert node.gaps == []
    assert ids(socket) == [1, 3]
    for frame in frames_in(socket.received):
        if frame.opcode == PING:
            node.confirmation.pong(client, frame.payload)
    assert [upto for _, _, upto in node.positions.advanced] == [1, 2, 3]


async def test_where_no_log_is_kept_a_logged_message_has_no_gap_before_it(node: Node) -> None:
    client, socket = make_connection()
    channel = node.hub.open(NEWS, keeps_log=False)
    node.hub.go_live(channel, Subscription(client, NEWS))
    for id_, prev in ((9, 5), (20, 14)):
        node.hub.receive(NEWS.name, payload(id_, prev))
    await turn()
    assert ids(socket) == [9, 20]
    assert node.gaps == []
