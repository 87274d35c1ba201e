"""What the fan-out may cost: guards that count."""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from gateway.core import closing, frames, protocol
from gateway.core.frames import PLAIN, Encoding
from gateway.node.outboxes import BYTES_PER_TURN, WRITES_PER_TURN
from publisher.contract.message import Message
from tests.unit.fakes import NEWS, Node, RecordingSocket, make_connection, payload, turn
from tests.unit.wire import messages_in

BURST = 300
CHANNELS = ["news/a", "news/b", "news/c"]
LARGE = json.dumps("x" * 2_000).encode()


def burst(node: Node, body: bytes = b"1") -> None:
    for id_ in range(1, BURST + 1):
        node.hub.receive(CHANNELS[id_ % len(CHANNELS)], payload(id_, max(0, id_ - 3), body))


def crowd(
    node: Node, size: int, *encodings: Encoding, channels: list[str] = CHANNELS
) -> list[RecordingSocket]:
    """Clients that listen to all channels, their encodings taking turns."""
    sockets = []
    for number in range(size):
        encoding = encodings[number % len(encodings)] if encodings else PLAIN
        client, socket = make_connection(encoding, id=f"c{number}")
        for channel in channels:
            node.listen(client, channel)
        sockets.append(socket)
    return sockets


@pytest.mark.parametrize("encoding", [PLAIN, Encoding(15, False), Encoding(0, True)])
async def test_a_burst_over_several_channels_is_one_write_to_a_socket(encoding: Encoding) -> None:
    node = Node()
    sockets = crowd(node, 20, encoding)
    burst(node)
    await turn()
    assert [len(socket.writes) for socket in sockets] == [1] * 20
    assert node.stats.socket_writes == 20
    received = Counter(message["id"] for message in messages_in(sockets[0].received))
    assert received == Counter(range(1, BURST + 1))


async def test_answers_messages_and_questions_of_a_turn_share_the_one_write() -> None:
    node = Node()
    client, socket = make_connection()
    node.listen(client)
    node.hub.send(client, frames.text(b'{"n":1}'))
    node.hub.receive(NEWS.name, payload(1))
    node.hub.ask_all(NEWS.name, frames.ping(b"c9"))
    node.hub.send(client, frames.text(b'{"n":2}'))
    await turn()
    assert len(socket.writes) == 1


async def test_nothing_is_written_when_nothing_is_due() -> None:
    node = Node()
    [quiet] = crowd(node, 1, channels=["news/quiet"])
    [busy] = crowd(node, 1, channels=["news/a"])
    for id_ in range(1, 4):
        node.hub.receive("news/a", payload(id_, id_ - 1))
        await turn()
    await turn()
    node.hub.outboxes.flush()
    assert quiet.writes == []
    assert len(busy.writes) == 3


async def test_a_turn_is_flushed_by_one_callback_however_much_it_brings() -> None:
    node = Node()
    scheduled: list[Callable[[], None]] = []
    node.hub.outboxes._call_soon = scheduled.append  # type: ignore[assignment]
    crowd(node, 5)
    burst(node)
    assert len(scheduled) == 1
    scheduled.pop()()
    assert scheduled == []


async def test_each_message_is_rendered_once_for_all_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rendered: Counter[int] = Counter()
    data = protocol.data

    def counting(prefix: bytes, message: Message) -> bytes:
        rendered[message.id] += 1
        return data(prefix, message)

    monkeypatch.setattr(protocol, "data", counting)
    node = Node()
    crowd(node, 40, PLAIN, Encoding(15, False), Encoding(15, True), Encoding(10, False))
    burst(node)
    await turn()
    assert rendered == Counter(range(1, BURST + 1))


@pytest.mark.parametrize(
    ("sockets", "body", "in_a_turn"),
    [(2_500, b"1", WRITES_PER_TURN), (40, b"1" * (BYTES_PER_TURN // 8), 8)],
)
async def test_a_turn_is_bounded_and_the_next_ones_do_the_rest(
    sockets: int, body: bytes, in_a_turn: int
) -> None:
    node = Node()
    crowded = crowd(node, sockets, channels=["news/a"])
    node.hub.receive("news/a", payload(1, 0, body))
    written = [0]
    while written[-1] < sockets:
        # What else is due, such as a handshake's next step, has its turn in between.
        await turn()
        written.append(node.stats.socket_writes)
    turns = [after - before for before, after in pairwise(written)]
    assert turns == [in_a_turn] * (sockets // in_a_turn) + [sockets % in_a_turn] * (
        sockets % in_a_turn > 0
    )
    assert all(len(socket.writes) == 1 for socket in crowded)


async def test_nothing_more_is_read_while_a_burst_waits_and_then_it_goes_on() -> None:
    node = Node()
    crowd(node, 2 * WRITES_PER_TURN + 1, channels=["news/a"])
    throttled = node.throttled
    node.hub.receive("news/a", payload(1))
    await turn()
    assert throttled == [True]
    await turn()
    assert throttled == [True]
    await turn()
    assert throttled == [True, False]
    assert node.stats.socket_writes == 2 * WRITES_PER_TURN + 1


async def test_what_comes_while_a_burst_is_written_shares_the_one_write_and_keeps_its_order() -> (
    None
):
    node = Node()
    crowded = crowd(node, WRITES_PER_TURN + 1, channels=["news/a"])
    node.hub.receive("news/a", payload(1))
    await turn()
    node.hub.receive("news/a", payload(2, 1))
    await turn()
    await turn()
    writes = Counter(len(socket.writes) for socket in crowded)
    assert writes == {2: WRITES_PER_TURN, 1: 1}
    assert all(
        [message["id"] for message in messages_in(socket.received)] == [1, 2] for socket in crowded
    )


async def test_who_is_closed_while_a_burst_is_written_gets_it_first() -> None:
    node = Node()
    crowd(node, WRITES_PER_TURN, channels=["news/a"])
    client, socket = make_connection(id="last")
    node.listen(client, "news/a")
    node.hub.receive("news/a", payload(1))
    node.hub.close(client, closing.DRAINING)
    assert [message["id"] for message in messages_in(socket.received)] == [1]
    await turn()
    await turn()
    assert len(socket.writes) == 1


async def test_a_message_nobody_listens_to_is_not_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    node.open()
    monkeypatch.setattr(protocol, "data", None)
    node.hub.receive(NEWS.name, payload(1))
    node.hub.outboxes.flush()


async def test_each_large_message_is_compressed_once_for_all_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compressed: Counter[tuple[bytes, int]] = Counter()
    deflated = frames.deflated

    def counting(text: bytes, window_bits: int) -> bytes:
        compressed[text, window_bits] += 1
        return deflated(text, window_bits)

    monkeypatch.setattr(frames, "deflated", counting)
    node = Node()
    crowd(node, 40, PLAIN, Encoding(15, False))
    burst(node, LARGE)
    await turn()
    assert len(compressed) == BURST
    assert set(compressed.values()) == {1}


async def test_a_message_costs_the_same_however_many_read_the_log() -> None:
    def calls(readers: int) -> int:
        node = Node()
        crowd(node, 1, channels=["news/a"])
        count = 0

        def counting(_frame: object, event: str, _argument: object) -> None:
            nonlocal count
            count += event == "call"

        for _ in range(readers):
            node.open("news/a").begin_buffering()
        # What is collected meanwhile may call something, too.
        gc.disable()
        sys.setprofile(counting)
        node.hub.receive("news/a", payload(1))  # the next one
        node.hub.receive("news/a", payload(7, 5))  # one behind a gap
        sys.setprofile(None)
        gc.enable()
        return count

    assert calls(1) == calls(500)


async def test_what_comes_to_what_waits_for_many_is_no_copy_for_each() -> None:
    node = Node()
    sockets = crowd(node, 60, PLAIN, Encoding(15, False), channels=["news/a"])
    node.hub.ask_all("news/a", frames.ping(b"c1"))
    node.hub.receive("news/a", payload(1, 0, LARGE))
    node.listen(make_connection(id="late")[0], "news/a")  # for it, what came is laid out at once
    node.hub.ask_all("news/a", frames.ping(b"c2"))
    await turn()
    assert [len(socket.writes) for socket in sockets] == [1] * 60
    assert len({id(socket.writes[0]) for socket in sockets}) == 2


async def test_sockets_that_agree_are_handed_the_same_bytes() -> None:
    node = Node()
    sockets = crowd(node, 60, PLAIN, Encoding(15, False), Encoding(0, True), channels=["news/a"])
    for id_ in (1, 2, 3):
        node.hub.receive("news/a", payload(id_, id_ - 1, LARGE))
    await turn()
    assert len({id(socket.writes[0]) for socket in sockets}) == 3


async def _allocated(sockets: int, body: bytes) -> int:
    """Bytes that a fan-out to so many sockets leaves allocated while all still hold their data."""
    node = Node()
    held = crowd(node, sockets, channels=["news/a"])
    node.hub.receive("news/a", payload(1, 0, body))
    await turn()  # whatever is made once is made now
    for socket in held:
        socket.writes[0] = b""
    gc.collect()
    node.hub.receive("news/a", payload(2, 1, body))
    tracemalloc.start()
    try:
        node.hub.outboxes.flush()
        allocated, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(socket.writes[1]) for socket in held) > sockets * len(body)
    return allocated


async def test_a_socket_more_costs_no_memory_for_its_messages() -> None:
    body = json.dumps("x" * 20_000).encode()
    few, many = await _allocated(10, body), await _allocated(310, body)
    # A place in the list of a recording socket is what remains; a copy would be 20,000.
    assert (many - few) / 300 < 200


async def test_a_delivery_makes_no_objects_for_a_socket() -> None:
    node = Node()
    held = crowd(node, 1_000, channels=["news/a"])
    for socket in held:
        socket.writes = [b""] * 8  # room for the next ones without growing
        del socket.writes[:]
    peak = []
    for id_ in (1, 2):
        node.hub.receive("news/a", payload(id_, id_ - 1))
        gc.collect()
        tracemalloc.start()
        node.hub.outboxes.flush()
        snapshot = tracemalloc.take_snapshot()
        tracemalloc.stop()
        in_hub = snapshot.filter_traces([tracemalloc.Filter(True, "*/gateway/*")])
        peak.append(sum(stat.count for stat in in_hub.statistics("filename")))
    assert peak[-1] < 50
