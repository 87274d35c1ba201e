"""A connection between its request and the socket that takes it over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from gateway.node.requests import Requests
from gateway.web.new_connection import NewConnection
from gateway.web.outgoing import CLOSE_TIMEOUT_SECONDS
from gateway.web.socket import ClientSocket
from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support.client_frames import PING, RSV1, client_frame, squeezed
from tests.support.nodes import Node
from tests.support.raw import CLOSE, PONG, TEXT, handshake_request, raw_client
from tests.support.tokens import make_token
from tests.support.waiting import PATIENCE, until

HEARTBEAT = b'{"type":"heartbeat"}'


# -- what comes before the answer -------------------------------------------------------------


@pytest.mark.parametrize(
    "early",
    [
        client_frame(TEXT, HEARTBEAT),
        client_frame(TEXT, HEARTBEAT) + client_frame(PING, b"1") + client_frame(PONG, b"2"),
        client_frame(TEXT, HEARTBEAT[:9], fin=False) + client_frame(0, HEARTBEAT[9:]),
    ],
    ids=["a short frame", "several frames", "a message in fragments"],
)
async def test_what_comes_with_the_request_is_served_after_the_greeting(
    node: Node, early: bytes
) -> None:
    async with raw_client(node.url, make_token("u"), early=early) as client:
        assert [await client.told(), await client.told()] == ["connected", "heartbeat"]
        client.send(TEXT, HEARTBEAT)
        assert await client.told() == "heartbeat"


async def test_the_answer_and_the_greeting_leave_in_one_write(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = ClientSocket.write

    def note(client: ClientSocket, data: bytes) -> bool:
        written.append(data)
        return write(client, data)

    monkeypatch.setattr(ClientSocket, "write", note)
    async with raw_client(node.url, make_token("u")) as client:
        assert await client.told() == "connected"
        [first] = written
        assert first.startswith(b"HTTP/1.1 101 ")
        client.send(TEXT, HEARTBEAT)
        assert await client.told() == "heartbeat"


async def test_half_a_frame_that_comes_with_the_request_goes_on_after_it(node: Node) -> None:
    frame = client_frame(TEXT, HEARTBEAT)
    async with raw_client(node.url, make_token("u"), early=frame[:10]) as client:
        assert await client.told() == "connected"
        client.writer.write(frame[10:])
        assert await client.told() == "heartbeat"


async def test_a_close_that_comes_with_the_request_is_answered_and_leaves_nothing(
    node: Node, publisher: AsyncPublisher
) -> None:
    early = client_frame(CLOSE, b"\x03\xe8")
    async with raw_client(node.url, make_token("u"), early=early) as client:
        farewell = await client.next(CLOSE)
        assert farewell.payload[:2] == b"\x03\xe8"
        assert await client.reader.read() == b""
    await until(lambda: not node.gateway.hub.connections)
    await until_free(publisher)


class Held:
    """Handshakes that wait for their place until they are let go."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self._acquire = node.gateway.redis.places.acquire
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.connections: list[NewConnection] = []
        known = NewConnection.known

        def note(connection: NewConnection) -> None:
            self.connections.append(connection)
            known(connection)

        monkeypatch.setattr(NewConnection, "known", note)
        monkeypatch.setattr(node.gateway.redis.places, "acquire", self.acquire)

    async def acquire(self, *how: Any) -> Any:
        self.asked.set()
        await self.go.wait()
        return await self._acquire(*how)


@pytest.mark.parametrize("count", [25, 250], ids=["200 KB", "2 MB"])
async def test_what_comes_before_the_answer_is_served_however_much_it_is(
    node: Node, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    held = Held(node, monkeypatch)
    early = client_frame(TEXT, HEARTBEAT + b" " * 8_000) * count

    async def talk() -> None:
        async with raw_client(node.url, make_token("u"), early=early) as client:
            answers = [await client.told() for _ in range(1 + count)]
            assert answers == ["connected"] + ["heartbeat"] * count
            client.send(TEXT, HEARTBEAT)
            assert await client.told() == "heartbeat"

    talking = asyncio.create_task(talk())
    await held.asked.wait()
    [connection] = held.connections
    # Of much, the rest stays with the system: who is not let in yet takes no more of the node's memory.
    assert len(connection._received) < 2**20
    held.go.set()
    await talking


async def test_who_leaves_before_the_answer_leaves_nothing(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(node, monkeypatch)
    parts = urlsplit(node.url)
    _reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(handshake_request(node.url, make_token("u")))
    await held.asked.wait()
    writer.transport.abort()
    held.go.set()
    await until(lambda: not node.gateway.entrance.handshakes._admission._present)
    await until(lambda: not node.gateway.hub.connections)
    await until_free(publisher)
    stats = node.gateway.stats
    assert stats.connections_opened == sum(stats.connections_closed.values())


async def test_who_leaves_with_the_answer_leaves_nothing(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over = NewConnection.hand_over

    def lose(connection: NewConnection, protocol: asyncio.Protocol) -> bytes:
        connection.drop()  # as the system tells it, just now
        return hand_over(connection, protocol)

    monkeypatch.setattr(NewConnection, "hand_over", lose)
    parts = urlsplit(node.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(handshake_request(node.url, make_token("u")))
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()
    await until(lambda: not node.gateway.entrance.handshakes._admission._present)
    assert not node.gateway.hub.connections
    stats = node.gateway.stats
    assert stats.connections_opened == sum(stats.connections_closed.values())
    await until_free(publisher)


async def until_free(publisher: AsyncPublisher) -> None:
    async def free() -> bool:
        return await publisher.connections("u") == []

    await until(free)


# -- what ends a conversation -----------------------------------------------------------------

BROKEN = {
    "reserved bits": (client_frame(TEXT, HEARTBEAT, reserved=0x20), 1002),
    "half a close code": (client_frame(CLOSE, b"\x03"), 1002),
    "a close code that nobody may send": (client_frame(CLOSE, (1004).to_bytes(2)), 1002),
    "a continuation of nothing": (client_frame(0, b"x"), 1002),
    "text that is not UTF-8": (client_frame(TEXT, b"\xff"), 1007),
    "a close reason that is not UTF-8": (client_frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "what does not inflate": (client_frame(TEXT, b"\0\0", reserved=RSV1), 1007),
    "what inflates to far too much": (
        client_frame(TEXT, squeezed(b" " * 1_000_000), reserved=RSV1),
        1009,
    ),
}


@pytest.mark.parametrize("early", [True, False], ids=["with the request", "later"])
@pytest.mark.parametrize(("frame", "code"), BROKEN.values(), ids=BROKEN)
async def test_a_client_that_breaks_the_protocol_is_told_so_and_nothing_more(
    node: Node,
    publisher: AsyncPublisher,
    caplog: pytest.LogCaptureFixture,
    frame: bytes,
    code: int,
    *,
    early: bool,
) -> None:
    said = frame + client_frame(TEXT, HEARTBEAT)
    async with raw_client(
        node.url, make_token("u"), "permessage-deflate", early=said if early else b""
    ) as client:
        if not early:
            assert await client.told() == "connected"
            client.writer.write(said)
        farewell = await client.next(CLOSE)
        assert int.from_bytes(farewell.payload[:2]) == code
        assert await client.reader.read() == b""
    assert node.gateway.stats.connections_closed == {str(code): 1}
    await until_free(publisher)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


NEVER_SENT = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65_535]
ANYBODYS = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]


@pytest.mark.parametrize(
    ("codes", "answer"), [(NEVER_SENT, 1002), (ANYBODYS, 1000)], ids=["never sent", "anybody's"]
)
async def test_a_close_code_is_answered_as_the_rfc_has_it(
    node: Node, publisher: AsyncPublisher, codes: list[int], answer: int
) -> None:
    """RFC 6455 §7.4.1 and §7.4.2."""
    for code in codes:
        for payload in (code.to_bytes(2), code.to_bytes(2) + b"why"):
            for before in (b"", client_frame(PONG), client_frame(TEXT, b'{"a', fin=False)):
                async with raw_client(node.url, make_token("u")) as client:
                    client.writer.write(before + client_frame(CLOSE, payload))
                    told = await client.next(CLOSE)
                    assert (code, told.payload[:2]) == (code, answer.to_bytes(2))
                    assert await client.reader.read() == b""
        await until_free(publisher)


ENDS = {
    "by the client": client_frame(CLOSE, b"\x03\xe8"),
    "by a mistake of the client's": client_frame(CLOSE, b"\x03"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_what_a_client_still_sends_after_the_end_draws_no_reset(
    node: Node, end: bytes
) -> None:
    """It might lose the close frame to it (RFC 6455 §7.1.1). The connection ends when the client ends it."""
    async with raw_client(node.url, make_token("u")) as client:
        client.writer.write(end)
        await client.next(CLOSE)
        assert await client.reader.read() == b""
        sock = client.writer.get_extra_info("socket")
        late = client_frame(PONG, b"h")
        for _ in range(10):
            client.writer.write(late)
            await asyncio.sleep(0.01)
            assert not client.writer.is_closing()
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert node.gateway.stats.connections_closed.total() == 1


async def test_a_client_that_never_ends_its_side_is_left_soon(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.web.outgoing.LINGER_SECONDS", 0.1)
    async with raw_client(node.url, make_token("u")) as client:
        client.writer.write(client_frame(CLOSE, b"\x03\xe8"))
        await client.next(CLOSE)

        async def reset() -> bool:
            client.writer.write(client_frame(PONG, b"h"))
            return client.writer.is_closing()

        await until(reset)


FLOOD = b"\x81\x80\0\0\0\0" * 2_000  # empty messages
SMALL = {"client_message_burst": 50, "client_messages_per_second": 1}


@pytest.fixture
def slow_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends because its time is up."""
    monkeypatch.setattr("gateway.web.outgoing.LINGER_SECONDS", 300.0)
    monkeypatch.setattr("gateway.web.outgoing.CLOSE_TIMEOUT_SECONDS", 600.0)


@pytest.mark.usefixtures("slow_ends")
async def test_a_client_that_floods_sees_the_end_right_behind_the_close_frame(
    start_node: StartNode,
) -> None:
    """Its answer is not read, so waiting for that would only keep its program from learning of the close."""
    node = await start_node(**SMALL)
    async with raw_client(node.url, make_token("u")) as client:
        assert await client.told() == "connected"
        [connection] = node.gateway.hub.connections.values()
        client.writer.write(FLOOD)
        assert (await client.next(CLOSE)).payload == b"\x03\xf0flood"
        async with asyncio.timeout(PATIENCE):
            assert await client.reader.read() == b""
    cast(Any, connection.socket)._transport.abort()


@pytest.mark.usefixtures("slow_ends")
async def test_nothing_is_written_behind_the_end(start_node: StartNode) -> None:
    node = await start_node(**SMALL)
    async with raw_client(node.url, make_token("u")) as client:
        assert await client.told() == "connected"
        [connection] = node.gateway.hub.connections.values()
        client.writer.write(FLOOD)
        await client.next(CLOSE)
        assert connection.socket.write(b"late")
        connection.socket.stop_reading()
        cast(Any, connection.socket).finish()
        async with asyncio.timeout(PATIENCE):
            assert await client.reader.read() == b""
    cast(Any, connection.socket)._transport.abort()


async def test_a_client_that_floods_and_stays_is_left_soon(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.web.outgoing.LINGER_SECONDS", 0.1)
    monkeypatch.setattr("gateway.web.outgoing.CLOSE_TIMEOUT_SECONDS", 600.0)
    node = await start_node(**SMALL)
    async with raw_client(node.url, make_token("u")) as client:
        client.writer.write(FLOOD)
        await client.next(CLOSE)
        await until(lambda: not node.gateway.hub.connections)


async def test_a_client_that_floods_and_reads_slowly_gets_all_up_to_the_close_frame(
    start_node: StartNode, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset would take it away: not all was read of the client, so it must have taken all before its connection ends."""
    monkeypatch.setattr("gateway.web.outgoing.LINGER_SECONDS", 0.05)
    monkeypatch.setattr("gateway.web.outgoing.CLOSE_TIMEOUT_SECONDS", 600.0)
    looks = []
    untaken = ClientSocket.untaken.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(
        ClientSocket, "untaken", property(lambda self: looks.append(0) or untaken(self))
    )
    node = await start_node(**SMALL)
    async with raw_client(node.url, make_token("u"), receive_buffer=4_096) as client:
        client.send(TEXT, b'{"type":"subscribe","channel":"notifications/u"}')
        while await client.told() != "subscribed":
            pass
        await publisher.publish_many([("notifications/u", "x" * 10_000)] * 60)
        [connection] = node.gateway.hub.connections.values()
        await until(lambda: connection.socket.waiting)
        client.writer.write(FLOOD * 10)
        await until(lambda: len(looks) > 3)
        assert (await client.next(CLOSE)).payload == b"\x03\xf0flood"
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                assert await client.reader.read() == b""


FAILING = {
    "a short frame": client_frame(TEXT, HEARTBEAT),
    "by the parser, compressed": client_frame(TEXT, squeezed(HEARTBEAT), reserved=RSV1),
    "by the parser, with others": client_frame(PONG) + client_frame(TEXT, HEARTBEAT) * 2,
}


@pytest.mark.parametrize("early", [True, False], ids=["with the request", "later"])
@pytest.mark.parametrize("said", FAILING.values(), ids=FAILING)
async def test_a_defect_in_serving_a_message_ends_that_connection_with_1011_and_is_logged(
    node: Node,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said: bytes,
    *,
    early: bool,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    token = make_token("u")
    async with raw_client(node.url, token) as other:
        assert await other.told() == "connected"
        monkeypatch.setattr(Requests, "_serve", broken)
        async with raw_client(
            node.url, token, "permessage-deflate", early=said if early else b""
        ) as client:
            assert await client.told() == "connected"
            if not early:
                client.writer.write(said)
            farewell = await client.frame()
            assert (farewell.opcode, int.from_bytes(farewell.payload[:2])) == (CLOSE, 1011)
            client.send(CLOSE, farewell.payload[:2])
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS / 2):
                assert await client.reader.read() == b""
        monkeypatch.undo()
        other.send(TEXT, HEARTBEAT)
        assert await other.told() == "heartbeat"
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage().startswith("message_failed connection=")
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError
    await until(lambda: not node.gateway.hub.connections)
