"""Event streams: what a plain ``EventSource`` is promised, over nodes that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any
from urllib.parse import parse_qsl

import pytest

from gateway.core import http
from gateway.node import streams
from gateway.settings import Settings
from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.integration.test_delivery import confirmed
from tests.support.client import connected
from tests.support.event_stream import address, ask, event_stream, say
from tests.support.nodes import Node
from tests.support.requests import answer_to, handshake, line
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"
OTHER = "run-results/s1"
TOKEN = make_token("u")


async def test_a_stream_begins_like_a_websocket_and_goes_on_live(
    node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.publish(CHANNEL, "missed")
    async with event_stream(node.url, make_token("u"), CHANNEL) as stream:
        assert stream.answer.fields["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.answer.fields["cache-control"] == "no-store, no-transform"
        assert stream.answer.fields["x-accel-buffering"] == "no"
        assert 2_000 <= stream.retry <= 5_000
        assert await stream.expect(type="subscribed", channel=CHANNEL)
        first = await stream.expect(type="notifications", data="missed")
        assert stream.last_id == str(first["id"])
        live = await publisher.publish(CHANNEL, {"text": "a\nb"})
        assert await stream.expect(data={"text": "a\nb"}, id=live.id)
        assert stream.last_id == str(live.id)


async def test_who_comes_back_goes_on_behind_the_last_event_on_another_node(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    here, there = await start_node(), await start_node()
    async with event_stream(here.url, make_token("u"), CHANNEL) as stream:
        await stream.expect(type="subscribed")
        for number in range(3):
            await publisher.publish(CHANNEL, number)
        assert await stream.data(3) == [0, 1, 2]
        last = int(stream.last_id)
        assert await confirmed(publisher, prefix, "u", CHANNEL) < last
    await publisher.publish(CHANNEL, 3)
    async with event_stream(there.url, make_token("u"), CHANNEL, last_id=str(last)) as stream:
        await stream.expect(type="subscribed", recovered=True)
        assert await stream.data(1) == [3]

        async def proven() -> bool:
            return await confirmed(publisher, prefix, "u", CHANNEL) == last

        await until(proven)
    # Whoever comes without a position gets what nobody has shown to have.
    async with connected(here.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        assert await client.data(1) == [3]
        await client.sync()


async def test_a_position_in_another_channel_loses_nothing(
    node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.publish(CHANNEL, "missed")
    foreign = await publisher.publish(OTHER, "of another channel")
    last = str(foreign.id)
    async with event_stream(node.url, make_token("u"), CHANNEL, last_id=last) as stream:
        await stream.expect(type="subscribed", recovered=False)
        assert await stream.data(1) == ["missed"]


async def test_several_channels_share_one_position(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    here, there = await start_node(), await start_node()
    names = (CHANNEL, OTHER)
    async with event_stream(here.url, make_token("u", [OTHER]), *names) as stream:
        for _ in names:
            await stream.expect(type="subscribed")
        for name in (*names, "last"):
            await publisher.publish(names[-1] if name == "last" else name, name)
            assert await stream.data(1) == [name]
            # Where the client stands is told behind the messages.
            await stream.skip()
        position = stream.last_id
    assert len(position) <= 1024
    for name in names:
        await publisher.publish(name, f"later in {name}")
    fields = {"last_id": position}
    async with event_stream(there.url, make_token("u", [OTHER]), *names, **fields) as stream:
        heard = [await stream.receive() for _ in range(4)]
        assert sorted(each["data"] for each in heard if "data" in each) == sorted(
            f"later in {name}" for name in names
        )
        assert all(each["recovered"] for each in heard if each["type"] == "subscribed")


async def test_a_client_that_floods_is_told_to_stay_away(start_node: StartNode) -> None:
    node = await start_node(
        client_message_burst=50, client_messages_per_second=1, confirm_interval_seconds=60
    )
    token = make_token("u")
    async with event_stream(node.url, token, CHANNEL) as stream:
        await stream.expect(type="subscribed")
        await say(node.url, stream.name, [{"type": "heartbeat"}] * 100, token)
        while (await stream.receive())["type"] != "error":
            pass
        await stream.ended()
        assert stream.retry >= 86_400_000


async def test_behind_the_end_of_a_flood_no_message_of_its_array_is_looked_at(
    start_node: StartNode,
) -> None:
    node = await start_node(
        client_message_burst=50, client_messages_per_second=1, confirm_interval_seconds=60
    )
    async with event_stream(node.url, make_token("u")) as stream:
        assert (await say(node.url, stream.name, [1] * 256, make_token("u"))).status == 202
        assert (await stream.receive())["code"] == "invalid_message"
        while (await stream.receive())["code"] != "flood":
            pass
        await stream.ended()
    assert 1 < node.gateway.stats.client_messages < 10


async def test_a_stream_with_messages_that_nobody_has_confirmed_is_ended_to_be_taken_up_again(
    node: Node,
    publisher: AsyncPublisher,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "PROOF_SECONDS", 0.2)
    async with event_stream(node.url, make_token("u"), CHANNEL) as stream:
        await stream.expect(type="subscribed")
        published = await publisher.publish(CHANNEL, 1)
        await stream.data(1)
        await stream.ended()
        assert stream.retry <= 100
    position = stream.last_id
    async with event_stream(node.url, make_token("u"), CHANNEL, last_id=position) as stream:
        assert stream.retry >= 2_000
        await stream.expect(type="subscribed", recovered=True)

        async def proven() -> bool:
            return await confirmed(publisher, prefix, "u", CHANNEL) == published.id

        await until(proven)
        # Nothing is left to be shown.
        await asyncio.sleep(0.6)
        await publisher.publish(CHANNEL, 2)
        assert await stream.data(1) == [2]


async def test_a_stream_whose_last_messages_were_taken_out_is_not_ended_again_and_again(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with event_stream(node.url, make_token("u"), CHANNEL) as stream:
        await stream.expect(type="subscribed")
        published = [await publisher.publish(CHANNEL, number) for number in range(2)]
        await stream.data(2)
        for each in published:
            await publisher.delete(CHANNEL, each.id)
        seen = stream.last_id
    async with event_stream(node.url, make_token("u"), CHANNEL, last_id=seen) as stream:
        await stream.expect(type="subscribed")
        unseen = await publisher.publish(CHANNEL, "unseen")
        await stream.data(1)
        await publisher.delete(CHANNEL, unseen.id)
        missed = await publisher.publish(CHANNEL, "missed")
    await publisher.delete(CHANNEL, missed.id)
    monkeypatch.setattr(streams, "PROOF_SECONDS", 0.2)
    async with event_stream(node.url, make_token("u"), CHANNEL, last_id=seen) as stream:
        await stream.expect(type="subscribed")
        await stream.ended()
        assert stream.last_id == str(missed.id)
    async with event_stream(node.url, make_token("u"), CHANNEL, last_id=stream.last_id) as stream:
        await stream.expect(type="subscribed", recovered=True)
        await asyncio.sleep(0.6)
        await publisher.publish(CHANNEL, "live")
        assert await stream.data(1) == ["live"]


async def test_streams_are_looked_through_in_several_turns(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_node = node.gateway.entrance.streams
    looked: list[str] = []
    monkeypatch.setattr(streams, "_SHARES", 2)
    monkeypatch.setattr(streams, "_is_unproven", lambda each: looked.append(each.id))
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(event_stream(node.url, make_token("u")))
        monkeypatch.setattr(of_node, "_unseen", iter(()))
        monkeypatch.setattr(of_node, "_look_at", 0.0)
        looked.clear()
        of_node.tick()
        assert len(looked) == 2
        of_node.tick()
        assert len(set(looked)) == 4
        of_node.tick()
        assert len(looked) == 4  # until it is time again


async def test_a_user_has_five_connections_however_they_are_made(node: Node) -> None:
    token = make_token("u")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(connected(node.url, token))
        for _ in range(2):
            await stack.enter_async_context(event_stream(node.url, token))
        answer = await ask(node.url, address("/sse", token))
        assert answer.status == 429
        assert answer.json["error"]["code"] == "connection_limit"
        assert answer.fields["retry-after"]
    async with event_stream(node.url, token):
        pass


async def test_who_is_not_let_in_is_told_in_http(start_node: StartNode) -> None:
    node = await start_node(allowed_origins="https://app.example.org")
    answer = await ask(node.url, address("/sse", None))
    assert (answer.status, answer.json["error"]["code"]) == (401, "token_missing")
    assert answer.fields["www-authenticate"] == "Bearer"
    answer = await ask(
        node.url, address("/sse", make_token("u", exp=1)), Origin="https://app.example.org"
    )
    assert (answer.status, answer.json["error"]["code"]) == (401, "token_expired")
    assert answer.fields["access-control-allow-origin"] == "https://app.example.org"
    answer = await ask(node.url, address("/sse", make_token("u")), Origin="https://evil.example")
    assert (answer.status, answer.json["error"]["code"]) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.fields
    answer = await ask(node.url, address("/sse", make_token("u"), ["no-channel"]))
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_channel")
    answer = await ask(
        node.url, address("/sse", make_token("u"), [f"news/{n}" for n in range(300)])
    )
    assert (answer.status, answer.json["error"]["code"]) == (400, "too_many_subscriptions")
    answer = await ask(node.url, "/sse?" + "&".join(["xchannel="] * 300))
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad_request")
    for method, target, allowed in (
        ("DELETE", "/sse", "GET, OPTIONS"),
        ("HEAD", "/sse", "GET, OPTIONS"),
        ("POST", "/poll", "GET, OPTIONS"),
        ("GET", "/sse/" + 40 * "0", "POST, DELETE, OPTIONS"),
    ):
        answer = await ask(node.url, target, method)
        assert (answer.status, answer.fields["allow"]) == (405, allowed)
        assert bool(answer.body) == (method != "HEAD")


async def test_pages_can_read_why_strangers_are_refused(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start_node(failed_authentications_per_minute=1, unauthenticated_per_address=1)
    page = {"Origin": "https://app.example.org"}
    for path in ("/sse", "/poll", "/poll"):
        answer = await ask(node.url, address(path, "x"), **page)
        assert answer.fields["access-control-allow-origin"] == page["Origin"], answer
    assert (answer.status, answer.json["error"]["code"]) == (429, "too_many_failures")
    monkeypatch.setattr(node.gateway.entrance.handshakes, "open", lambda *_: None)
    waiting = asyncio.create_task(ask(node.url, address("/sse", TOKEN), **page))
    await until(lambda: any(each.asked for each in node.new_connections))
    async with line(node.url):
        answer = await waiting
    assert (answer.status, answer.json["error"]["code"]) == (429, "too_many_connections")
    assert answer.fields["access-control-allow-origin"] == page["Origin"]


async def test_a_query_is_decoded_once_and_one_of_too_many_parameters_never(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has shown no token yet costs little."""
    decoded: list[str] = []

    def decode(query: str, **how: bool) -> list[tuple[str, str]]:
        decoded.append(query)
        return parse_qsl(query, **how)

    monkeypatch.setattr(http, "parse_qsl", decode)
    url, most = node.url, Settings.model_fields["max_subscriptions"].default + 20
    for path in ("/sse", "/poll"):
        assert (await ask(url, address(path, "x", ["news/1"]))).status == 401
    odd = "&".join(f"odd{n}=%26" for n in range(most - 1))
    assert (await answer_to(url, handshake(f"{TOKEN}&{odd}"))).status == 101
    assert len(decoded) == 3
    many = "&".join(["a=%41"] * (most + 1))
    for method, path in (("GET", "/sse"), ("GET", "/poll"), ("DELETE", f"/poll/{40 * '0'}")):
        answer = await ask(url, f"{path}?{many}", method, Origin="https://app.example.org")
        assert (answer.status, answer.json["error"]["code"]) == (400, "bad_request")
        assert answer.fields["access-control-allow-origin"]
    for path in ("/ws", "/client.js"):
        told = await answer_to(url, handshake(f"{TOKEN}&{many}", path=path))
        assert (told.status, told.code) == (400, "bad_request")
    assert len(decoded) == 3


async def test_a_page_of_an_allowed_origin_may_ask_before(start_node: StartNode) -> None:
    node = await start_node(allowed_origins="https://app.example.org")
    answer = await ask(node.url, "/sse", "OPTIONS", Origin="https://app.example.org")
    assert answer.status == 204
    assert answer.fields["access-control-allow-origin"] == "https://app.example.org"
    assert answer.fields["access-control-allow-credentials"] == "true"
    assert "Last-Event-ID" in answer.fields["access-control-allow-headers"]
    assert answer.fields["access-control-allow-methods"] == "GET"
    answer = await ask(node.url, f"/sse/{40 * '0'}", "OPTIONS", Origin="https://app.example.org")
    assert answer.fields["access-control-allow-methods"] == "POST, DELETE"
    assert (await ask(node.url, "/sse", "OPTIONS", Origin="https://evil.example")).status == 403


async def test_a_cookie_counts_only_for_the_pages_own_site(start_node: StartNode) -> None:
    node = await start_node(allowed_origins="https://app.example.org", jwt_cookie="t")
    fields = {"Cookie": f"t={make_token('u')}"}
    async with event_stream(node.url, None, Sec_Fetch_Site="same-origin", **fields):
        pass
    for more in ({}, {"Sec_Fetch_Site": "same-site"}, {"Origin": "https://app.example.org"}):
        assert (await ask(node.url, "/sse", **fields, **more)).status == 401


async def test_a_node_that_leaves_ends_its_streams_and_says_when_to_come_back(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    here, there = await start_node(), await start_node()
    async with event_stream(here.url, make_token("u"), CHANNEL) as stream:
        await stream.expect(type="subscribed")
        await publisher.publish(CHANNEL, 1)
        await stream.data(1)
        stopping = asyncio.create_task(here.gateway.stop())
        await stream.ended()
        assert 200 <= stream.retry <= 5_000
        position = stream.last_id
    await stopping
    await publisher.publish(CHANNEL, 2)
    async with event_stream(there.url, make_token("u"), CHANNEL, last_id=position) as stream:
        await stream.expect(type="subscribed", recovered=True)
        assert await stream.data(1) == [2]


async def test_a_quiet_stream_gets_comments_and_one_that_takes_none_is_closed(
    start_node: StartNode,
) -> None:
    node = await start_node(ping_interval_seconds=0.3, pong_timeout_seconds=0.3)
    async with event_stream(node.url, make_token("u")) as stream:
        await stream.next_comment()
        await stream.next_comment()
    await until(lambda: not node.gateway.hub.connections)


async def test_a_reader_that_is_slow_is_left_out_and_gets_all_from_the_log(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(high_water_bytes=50_000)
    async with event_stream(node.url, make_token("u"), CHANNEL) as stream:
        await stream.expect(type="subscribed")
        stream.reader._limit = 10_000  # type: ignore[attr-defined]
        count = 200
        for number in range(count):
            await publisher.publish(CHANNEL, [number, "x" * 50_000])
        await until(lambda: node.gateway.stats.slow_consumers)
        stream.reader._limit = 2**20  # type: ignore[attr-defined]
        heard = [(await stream.receive())["data"][0] for _ in range(count)]
        assert heard == list(range(count))


async def test_what_a_publisher_writes_cannot_become_a_field_of_an_event(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with event_stream(node.url, make_token("u", [OTHER]), OTHER) as stream:
        await stream.expect(type="subscribed")
        await until(lambda: node.gateway.hub.channels[OTHER].members)
        node.gateway.hub.receive(OTHER, b'5000:0:n:{\r\n"a":\n1,\r"id": 2}')
        assert await stream.expect(data={"a": 1, "id": 2}, id=5000)
        assert stream.last_id == "5000"


async def test_over_tls_a_stream_is_whole_to_its_end(
    start_node: StartNode, own_tls: dict[str, Any], trust: ssl.SSLContext, publisher: AsyncPublisher
) -> None:
    node = await start_node(**own_tls)
    async with event_stream(node.url, make_token("u"), CHANNEL, trust=trust) as stream:
        await stream.expect(type="subscribed")
        await publisher.publish(CHANNEL, "x" * 500_000)
        assert await stream.data(1) == ["x" * 500_000]
        await publisher.disconnect("u", reason="bye")
        await stream.expect(type="error", code="disconnected", message="bye")
        await stream.ended()
    answer = await ask(node.url, address("/poll", make_token("u"), [CHANNEL]), trust=trust)
    assert [each["type"] for each in answer.json][:2] == ["connected", "subscribed"]


async def test_a_client_of_http_1_0_is_served_too(node: Node, publisher: AsyncPublisher) -> None:
    async with event_stream(node.url, make_token("u"), CHANNEL, version="1.0") as stream:
        await stream.expect(type="subscribed")
        assert "transfer-encoding" not in stream.answer.fields
        await publisher.publish(CHANNEL, 1)
        assert await stream.data(1) == [1]


async def test_who_takes_nothing_for_long_is_given_up(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(high_water_bytes=50_000, stall_seconds=0.5)
    async with event_stream(node.url, make_token("u"), CHANNEL) as stream:
        await stream.expect(type="subscribed")
        stream.writer.transport.pause_reading()  # type: ignore[attr-defined]

        async def given_up() -> bool:
            await publisher.publish(CHANNEL, "x" * 500_000)
            return node.gateway.stats.connections_closed["1013"] == 1

        await until(given_up)
    await until(lambda: not node.gateway.hub.connections)
    assert not node.gateway.entrance.streams._streams
