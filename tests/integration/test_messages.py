"""What clients say and what they are answered, in the documented shapes."""

from __future__ import annotations

import contextlib
import json
import time
import zlib

import aiohttp
import pytest

from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support.client import connected, opened
from tests.support.nodes import Node
from tests.support.raw import CLOSE, TEXT, client_frame, raw_client
from tests.support.tokens import make_token
from tests.support.waiting import until


async def test_subscribe_unsubscribe_and_heartbeat_answer_in_their_shapes(node: Node) -> None:
    async with connected(node.url, make_token("user-456")) as client:
        channel = "notifications/user-456"
        await client.send({"type": "subscribe", "channel": channel})
        told = {"type": "subscribed", "channel": channel, "position": 0}
        assert await client.receive() == told
        await client.send({"type": "unsubscribe", "channel": channel})
        assert await client.receive() == {"type": "unsubscribed", "channel": channel}
        await client.send({"type": "heartbeat"})
        answer = await client.receive()
        assert set(answer) == {"type", "timestamp"}
        assert abs(answer["timestamp"] - time.time() * 1000) < 5_000


async def test_a_notification_has_the_documented_shape_and_an_id(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("user-456")) as client:
        await client.subscribe("notifications/user-456")
        published = await publisher.notify(
            "user-456",
            title="新的访问请求",
            message="家长张先生申请查看您的学习数据",
            action="approve_request",
            request_id="req-789",
        )
        assert await client.receive() == {
            "type": "notifications",
            "channel": "notifications/user-456",
            "data": {
                "title": "新的访问请求",
                "message": "家长张先生申请查看您的学习数据",
                "action": "approve_request",
                "requestId": "req-789",
            },
            "timestamp": published.id // 1000,
            "id": published.id,
        }


async def test_a_run_result_has_the_documented_shape_and_an_id(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("student")) as client:
        await publisher.grant("run-results/session-123", "student")
        await client.subscribe("run-results/session-123")
        published = await publisher.run_result(
            "session-123", stdout="Hello, World!", stderr="", exit_code=0, duration=150
        )
        assert await client.receive() == {
            "type": "run-results",
            "channel": "run-results/session-123",
            "data": {"stdout": "Hello, World!", "stderr": "", "exitCode": 0, "duration": 150},
            "timestamp": published.id // 1000,
            "id": published.id,
        }


MISTAKES = {
    "not JSON": ("hello", "invalid_message"),
    "not an object": ("[1]", "invalid_message"),
    "no type": ("{}", "invalid_message"),
    "a type that is no string": ('{"type":1}', "invalid_message"),
    "no channel": ('{"type":"subscribe"}', "invalid_message"),
    "a channel that is no string": ('{"type":"subscribe","channel":7}', "invalid_message"),
    "a since that is no id": (
        '{"type":"subscribe","channel":"notifications/u","since":"x"}',
        "invalid_message",
    ),
    "an unknown type": ('{"type":"shout"}', "unknown_type"),
    "a bad channel name": ('{"type":"subscribe","channel":"a/b\\t"}', "invalid_channel"),
    "too large": (
        '{"type":"subscribe","channel":"notifications/u","x":"' + "x" * 20_000 + '"}',
        "message_too_large",
    ),
}


@pytest.mark.parametrize(("text", "code"), MISTAKES.values(), ids=MISTAKES)
async def test_a_mistake_is_told_and_the_connection_lives_on(
    node: Node, text: str, code: str
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.send(text)
        error = await client.expect(type="error", code=code)
        if code == "invalid_channel":
            assert error["channel"] == "a/b\t"
        if code == "message_too_large":
            assert "not looked into" in error["detail"]
            assert "channel" not in error
        if code == "invalid_message":
            assert error["message"] == "Invalid message format"
        await client.sync()


async def test_binary_is_told_and_the_connection_lives_on(node: Node) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.socket.send_bytes(b"\x00")
        await client.expect(type="error", code="binary_unsupported")
        await client.sync()


async def test_too_many_subscriptions_are_told(start_node: StartNode) -> None:
    node = await start_node(max_subscriptions=2)
    async with connected(node.url, make_token("u", ["run-results/*"])) as client:
        await client.subscribe("run-results/1")
        await client.subscribe("run-results/2")
        await client.send({"type": "subscribe", "channel": "run-results/3"})
        await client.expect(type="error", code="too_many_subscriptions", channel="run-results/3")
        await client.send({"type": "unsubscribe", "channel": "run-results/1"})
        await client.expect(type="unsubscribed")
        await client.subscribe("run-results/3")


FULL = "run-results/full"


async def test_a_channel_has_so_many_members_on_a_node_and_who_comes_later_is_told_so(
    start_node: StartNode,
) -> None:
    node = await start_node(max_channel_members=2)
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected(node.url, make_token(f"u{number}", [FULL])))
            for number in range(3)
        ]
        for client in clients[:2]:
            await client.subscribe(FULL)
        await clients[2].send({"type": "subscribe", "channel": FULL})
        await clients[2].expect(type="error", code="channel_full", channel=FULL)
        assert node.gateway.stats.client_errors == {"channel_full": 1}
        # Neither a second subscribe nor one from the beginning counts twice.
        await clients[0].subscribe(FULL)
        await clients[0].subscribe(FULL, since=0)
        await clients[1].send({"type": "unsubscribe", "channel": FULL})
        await clients[1].expect(type="unsubscribed")
        await clients[2].subscribe(FULL)
        # Another node may have room, and other channels have theirs.
        other = await start_node(max_channel_members=2)
        async with connected(other.url, make_token("v", [FULL])) as client:
            await client.subscribe(FULL)


async def test_all_that_a_node_may_hold_may_be_in_one_channel(start_node: StartNode) -> None:
    for limit, most in ((30_000, 30_000), (7, 7)):
        node = await start_node(max_connections=limit)
        assert node.gateway.access.subscriptions._most_members == most


async def test_as_many_at_once_do_not_slip_past_the_limit_of_a_channel(
    start_node: StartNode,
) -> None:
    node = await start_node(max_channel_members=3)
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected(node.url, make_token(f"u{number}", [FULL])))
            for number in range(10)
        ]
        for client in clients:
            await client.send({"type": "subscribe", "channel": FULL})
        told = [(await client.receive())["type"] for client in clients]
        assert sorted(told) == ["error"] * 7 + ["subscribed"] * 3


async def test_who_may_not_hear_a_channel_is_not_told_that_it_is_full(
    start_node: StartNode,
) -> None:
    node = await start_node(max_channel_members=1)
    async with (
        connected(node.url, make_token("u", [FULL])) as member,
        connected(node.url, make_token("v")) as stranger,
    ):
        await member.subscribe(FULL)
        await stranger.send({"type": "subscribe", "channel": FULL})
        await stranger.expect(type="error", code="forbidden", channel=FULL)


async def test_subscribing_twice_is_answered_twice_and_delivers_once(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        for _ in range(3):
            await client.send({"type": "subscribe", "channel": "notifications/u"})
        for _ in range(3):
            await client.expect(type="subscribed")
        await client.subscribe("notifications/u")
        await publisher.publish("notifications/u", 1)
        assert await client.data(1) == [1]
        await client.sync()


async def test_unsubscribing_from_what_was_never_subscribed_is_answered(node: Node) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.send({"type": "unsubscribe", "channel": "notifications/u"})
        await client.expect(type="unsubscribed", channel="notifications/u")


async def test_nothing_comes_after_unsubscribed(node: Node, publisher: AsyncPublisher) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("notifications/u")
        await client.send({"type": "unsubscribe", "channel": "notifications/u"})
        await client.expect(type="unsubscribed")
        await publisher.publish("notifications/u", 1)
        await client.sync()


# Pongs that are asked for seldom need no room of their own.
FEW = {
    "client_message_burst": 50,
    "client_messages_per_second": 1,
    "confirm_interval_seconds": 60,
}


async def test_a_flood_ends_the_connection(start_node: StartNode) -> None:
    node = await start_node(**FEW)
    async with connected(node.url, make_token("u")) as client:
        for _ in range(200):
            await client.send({"type": "heartbeat"})
        for _ in range(50):
            await client.expect(type="heartbeat")
        await client.expect(type="error", code="flood")
        assert await client.expect_close() == (1008, "flood")


async def test_a_flood_of_mistakes_ends_the_connection_sooner(start_node: StartNode) -> None:
    node = await start_node(**FEW)
    async with connected(node.url, make_token("u")) as client:
        for _ in range(5):
            await client.send("nonsense")
        await client.expect(type="error", code="invalid_message")
        await client.expect(type="error", code="invalid_message")
        await client.expect(type="error", code="flood")
        assert await client.expect_close() == (1008, "flood")


BROKEN = {
    "an unknown opcode": (b"\x83\x80\0\0\0\0", 1002),
    "text that is not UTF-8": (b"\x81\x81\0\0\0\0\xff", 1007),
    "a control frame in fragments": (b"\x09\x80\0\0\0\0", 1002),
    "far too much": (b"\x81\xff\0\0\0\0\x10\0\0\0\0\0\0\0", 1009),
}


@pytest.mark.parametrize(("frame", "code"), BROKEN.values(), ids=BROKEN)
async def test_a_frame_that_breaks_the_protocol_ends_the_connection(
    node: Node, frame: bytes, code: int
) -> None:
    async with opened(node.url, make_token("u")) as client:
        await client.expect(type="connected")
        connection = client.socket._conn
        assert connection is not None and connection.transport is not None
        connection.transport.write(frame)
        assert (await client.expect_close())[0] == code
    await until(lambda: not node.gateway.hub.connections)


async def test_a_clients_own_ping_is_answered(node: Node) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{node.url}?token={make_token('u')}", autoping=False) as socket,
    ):
        await socket.receive_json()
        await socket.ping(b"are you there")
        answer = await socket.receive()
        assert (answer.type, answer.data) == (aiohttp.WSMsgType.PONG, b"are you there")


async def test_large_messages_are_compressed_and_small_ones_are_not(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with raw_client(node.url, make_token("u"), "permessage-deflate") as client:
        assert "permessage-deflate; server_no_context_takeover" in client.headers
        client.send(TEXT, b'{"type":"subscribe","channel":"notifications/u"}')
        await client.next(TEXT)
        assert b"subscribed" in (await client.next(TEXT)).payload
        # One after the other: no message may rest on what an earlier one left behind.
        for text, compressed in (("x" * 10_000, True), ("small", False), ("x" * 10_000, True)):
            await publisher.publish("notifications/u", text)
            frame = await client.next(TEXT)
            assert frame.compressed is compressed
            payload = frame.payload
            if compressed:
                assert len(payload) < 200
                payload = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
            assert json.loads(payload)["data"] == text


async def test_a_client_that_offers_no_compression_gets_none(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("notifications/u")
        await publisher.publish("notifications/u", "x" * 10_000)
        assert await client.data(1) == ["x" * 10_000]


async def test_batch_clients_get_arrays_and_others_single_messages(
    node: Node, publisher: AsyncPublisher
) -> None:
    token = make_token("u")
    async with (
        connected(node.url, token, query="&batch=true") as batching,
        connected(node.url, token) as plain,
    ):
        await publisher.publish_many([("notifications/u", number) for number in range(50)])
        await batching.send({"type": "subscribe", "channel": "notifications/u"})
        assert (await batching.receive())["type"] == "subscribed"
        batch = await batching.receive()
        assert [message["data"] for message in batch] == list(range(50))
        await plain.subscribe("notifications/u", since=0)
        assert await plain.data(50) == list(range(50))
        await publisher.publish("notifications/u", "single")
        assert (await batching.receive())["data"] == "single"


CLOSE_FRAME = (0x3E8).to_bytes(2)

LAST_WORDS = {
    "a heartbeat": ({"type": "heartbeat"}, {"type": "heartbeat"}),
    "an unsubscribe": (
        {"type": "unsubscribe", "channel": "notifications/u"},
        {"type": "unsubscribed", "channel": "notifications/u"},
    ),
    "a mistake": (
        {"type": "subscribe", "channel": "none"},
        {"type": "error", "code": "invalid_channel", "channel": "none"},
    ),
}


@pytest.mark.parametrize(("said", "answer"), LAST_WORDS.values(), ids=LAST_WORDS)
async def test_what_comes_with_the_close_frame_is_answered_before_the_close(
    node: Node, said: dict[str, str], answer: dict[str, str]
) -> None:
    async with raw_client(node.url, make_token("u")) as client:
        assert await client.told() == "connected"
        client.writer.write(
            client_frame(TEXT, json.dumps(said).encode()) + client_frame(CLOSE, CLOSE_FRAME)
        )
        frame = await client.frame()
        assert frame.opcode == TEXT
        assert json.loads(frame.payload).items() >= answer.items()
        frame = await client.frame()
        assert (frame.opcode, frame.payload) == (CLOSE, CLOSE_FRAME)
    await until(lambda: not node.gateway.hub.connections)
    assert node.gateway.stats.connections_closed == {"1000": 1}
