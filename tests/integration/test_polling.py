"""Polling, and what clients without a WebSocket say: the same promises, on whichever node a request comes."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import time
from typing import Any

import pytest

from gateway.backplane import place_checks, stream_calls
from gateway.node import life_checks
from gateway.web import polling
from gateway.web.admission import Room
from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.integration.test_delivery import confirmed
from tests.support.client import connected
from tests.support.event_stream import Answer, address, ask, event_stream, request, say
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"
OTHER = "run-results/s1"
TOKEN = make_token("u", [OTHER])


async def poll(
    url: str, *channels: str, wait: float = 5, token: str = TOKEN, **more: str
) -> list[Any]:
    """The messages of one poll."""
    target = address("/poll", token, channels, wait=str(wait), **more)
    answer = await ask(url, target)
    assert answer.status == 200, answer
    messages: list[Any] = answer.json
    return messages


def name_in(messages: list[Any]) -> str:
    """By which the next poll goes on."""
    assert messages[0]["type"] == "connected", messages
    return str(messages[0]["poll"])


def since_in(messages: list[Any]) -> str:
    """Where the client stands behind these messages."""
    assert messages[-1]["type"] == "heartbeat", messages
    return str(messages[-1]["since"])


def data_in(messages: list[Any]) -> list[Any]:
    return [each["data"] for each in messages if "data" in each]


async def test_the_first_poll_brings_what_was_missed_and_the_next_what_comes(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    missed = await publisher.publish(CHANNEL, "missed")
    first = await poll(node.url, CHANNEL)
    assert [each["type"] for each in first] == [
        "connected",
        "subscribed",
        "notifications",
        "heartbeat",
    ]
    assert since_in(first) == str(missed.id)
    waiting = asyncio.create_task(
        poll(node.url, CHANNEL, poll=name_in(first), since=since_in(first))
    )
    stream = node.gateway.entrance.streams._streams[name_in(first)]
    await until(lambda: stream.connection.socket.there)

    async def proven() -> bool:
        return await confirmed(publisher, prefix, "u", CHANNEL) == missed.id

    await until(proven)
    live = await publisher.publish(CHANNEL, "live")
    second = await waiting
    assert data_in(second) == ["live"]
    assert since_in(second) == str(live.id)
    assert await poll(node.url, CHANNEL, wait=0, poll=name_in(first), since=since_in(second)) == []


async def test_in_a_busy_channel_messages_share_an_answer_and_one_that_is_full_comes_at_once(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "APART_SECONDS", 30.0)
    stats = node.gateway.stats
    messages = await poll(node.url, CHANNEL)
    name = name_in(messages)

    async def publish(each: str) -> None:
        before = stats.messages_delivered
        await publisher.publish(CHANNEL, each)
        await until(lambda: stats.messages_delivered > before)

    async def next_poll(wait: float, *published: str) -> list[Any]:
        """The data of a poll during which this is published, one after the other has come."""
        nonlocal messages
        since = since_in(messages)
        asking = asyncio.create_task(poll(node.url, CHANNEL, wait=wait, poll=name, since=since))
        await until(lambda: stats.polls_under_way or asking.done())
        for each in published:
            await publish(each)
        messages = await asking or messages
        return data_in(messages)

    assert await next_poll(1, "a", "b") == ["a", "b"]
    await publish("c")
    assert await next_poll(0) == ["c"]
    assert await next_poll(20, "x" * 50_000, "y" * 50_000) == ["x" * 50_000, "y" * 50_000]


async def test_an_answer_that_was_lost_comes_again(node: Node, publisher: AsyncPublisher) -> None:
    first = await poll(node.url, CHANNEL)
    name, since = name_in(first), since_in(first)
    await publisher.publish(CHANNEL, 1)
    lost = await poll(node.url, CHANNEL, poll=name, since=since)
    assert data_in(lost) == [1]
    await publisher.publish(CHANNEL, 2)
    again = await poll(node.url, CHANNEL, poll=name, since=since)
    assert data_in(again) == [1]
    assert since_in(again) == since_in(lost)
    rest = await poll(node.url, CHANNEL, wait=1, poll=name, since=since_in(again))
    assert data_in(rest) == [2]


async def test_an_answer_that_was_lost_comes_again_also_for_channels_that_its_address_does_not_name(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    first = await poll(node.url)
    name = name_in(first)
    message = {"type": "subscribe", "channel": CHANNEL}
    assert (await say(node.url, name, message, TOKEN, "/poll")).status == 202
    since = since_in(await poll(node.url, poll=name, since=since_in(first)))
    for number in (1, 2):
        sent = await publisher.publish(CHANNEL, number)
        lost = await poll(node.url, poll=name, since=since)
        assert data_in(lost) == [number]
        again = await poll(node.url, poll=name, since=since)
        assert data_in(again) == [number]
        assert await confirmed(publisher, prefix, "u", CHANNEL) < sent.id
        since = since_in(again)
    assert await poll(node.url, wait=0, poll=name, since=since) == []


@pytest.mark.parametrize("there", [False, True], ids=["own", "other"])
async def test_a_request_that_comes_late_confirms_nothing(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str, *, there: bool
) -> None:
    nodes = [await start_node(), await start_node()]
    url = nodes[there].url
    first = await poll(nodes[0].url, CHANNEL)
    name, stands = name_in(first), [since_in(first)]
    sent = []
    for number in range(2):
        sent.append(await publisher.publish(CHANNEL, number))
        answer = await poll(url, CHANNEL, poll=name, since=stands[-1])
        assert data_in(answer) == [number]
        stands.append(since_in(answer))
    for late in (stands[0], "123456", ""):
        anew = await poll(url, CHANNEL, wait=0, poll=name, since=late)
        assert name_in(anew) != name
        assert 1 in data_in(anew)
    assert await confirmed(publisher, prefix, "u", CHANNEL) < sent[1].id
    again = await poll(url, CHANNEL, poll=name, since=stands[1])
    assert (data_in(again), since_in(again)) == ([1], stands[2])


async def test_a_position_in_a_field_counts_as_one_in_the_address(
    node: Node, publisher: AsyncPublisher
) -> None:
    missed = [await publisher.publish(CHANNEL, number) for number in range(2)]
    target = address("/poll", TOKEN, [CHANNEL])
    first = await ask(node.url, target, Last_Event_ID=str(missed[0].id))
    assert data_in(first.json) == [1]
    target = address("/poll", TOKEN, [CHANNEL], wait="0", poll=name_in(first.json))
    again = await ask(node.url, target, Last_Event_ID=str(missed[0].id))
    assert again.json[:-1] == first.json[:-1]
    assert (await ask(node.url, target, Last_Event_ID=since_in(first.json))).json == []


async def test_who_always_says_to_have_got_no_answer_makes_a_node_keep_no_more_than_one(
    node: Node, publisher: AsyncPublisher
) -> None:
    first = await poll(node.url, CHANNEL)
    name, since = name_in(first), since_in(first)
    for number in range(20):
        await publisher.publish(CHANNEL, "m" * 10_000)
        answer = await poll(node.url, CHANNEL, poll=name, since=since)
        assert len(data_in(answer)) == 1, number


async def test_an_answer_is_repeated_as_often_as_the_budget_bears(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(
        max_subscriptions=1, client_messages_per_second=100, client_message_burst=200
    )
    first = await poll(node.url, CHANNEL)
    name, since = name_in(first), since_in(first)
    for _ in range(8):
        await publisher.publish(CHANNEL, "m" * 100_000)
    lost = await poll(node.url, CHANNEL, poll=name, since=since, wait=0)
    answers = [await poll(node.url, CHANNEL, poll=name, since=since, wait=0) for _ in range(10)]
    assert answers[0][:-1] == lost[:-1]
    assert [] in answers
    waited = await poll(node.url, CHANNEL, poll=name, since=since, wait=20)
    assert waited[:-1] == lost[:-1]


@pytest.mark.parametrize("there", [False, True], ids=["own", "other"])
async def test_of_too_many_messages_at_once_none_is_looked_at(
    start_node: StartNode, *, there: bool
) -> None:
    nodes = [await start_node(), await start_node()]
    async with event_stream(nodes[0].url, TOKEN) as stream:
        answer = await say(nodes[there].url, stream.name, [1] * 257, TOKEN)
        assert (answer.status, answer.json["error"]["code"]) == (413, "too_many_messages")
        await say(nodes[there].url, stream.name, {"type": "heartbeat"}, TOKEN)
        await stream.expect(type="heartbeat")
    assert nodes[0].gateway.stats.client_messages == 1


@pytest.mark.parametrize("there", [False, True], ids=["own", "other"])
async def test_what_is_nested_too_deep_is_no_message(start_node: StartNode, *, there: bool) -> None:
    nodes = [await start_node(), await start_node()]
    first = await poll(nodes[0].url, CHANNEL)
    name = name_in(first)
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    assert (await say(nodes[there].url, name, deep, TOKEN, "/poll")).status == 202
    told = await poll(nodes[0].url, CHANNEL, poll=name, since=since_in(first))
    assert [each["code"] for each in told if each["type"] == "error"] == ["invalid_message"]


async def test_polls_go_on_over_another_node(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    here, there = await start_node(), await start_node()
    first = await poll(here.url, CHANNEL, OTHER)
    name, since = name_in(first), since_in(first)
    for number in range(6):
        node = (there, here)[number % 2]
        waiting = asyncio.create_task(poll(node.url, CHANNEL, OTHER, poll=name, since=since))
        await publisher.publish((CHANNEL, OTHER)[number % 2], number)
        messages = await waiting
        assert data_in(messages) == [number]
        since = since_in(messages)
    assert len(here.gateway.hub.connections) == 1
    assert (
        'gateway_connections_by_transport{transport="poll"} 1.0' in (await here.get("/metrics"))[1]
    )
    assert not there.gateway.hub.connections


async def test_polls_outlive_their_node(
    start_node: StartNode, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That nobody is there is known at once.
    monkeypatch.setattr(stream_calls, "_HEARD_SECONDS", 600.0)
    here, there = await start_node(), await start_node()
    first = await poll(here.url, CHANNEL, OTHER)
    await publisher.publish(OTHER, 1)
    second = await poll(here.url, CHANNEL, OTHER, poll=name_in(first), since=since_in(first))
    await here.gateway.stop()
    await publisher.publish(CHANNEL, 2)
    third = await poll(there.url, CHANNEL, OTHER, poll=name_in(first), since=since_in(second))
    assert name_in(third) != name_in(first)
    assert data_in(second) + data_in(third) == [1, 2]
    assert all(each["recovered"] for each in third if each["type"] == "subscribed")


async def test_a_poll_that_waits_for_a_node_that_is_gone_is_answered(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_calls, "_LOOK_SECONDS", 0.05)
    here, there = await start_node(), await start_node()
    first = await poll(here.url, CHANNEL)
    more = {"poll": name_in(first), "since": since_in(first)}
    # As after a crash: it says nothing any more.
    monkeypatch.setattr(here.gateway.entrance.stream_calls, "_send", lambda *_of: None)
    calls = there.gateway.entrance.stream_calls
    waiting = asyncio.create_task(poll(there.url, CHANNEL, wait=50, **more))
    await until(lambda: calls._asked)
    (asked,) = calls._asked.values()
    asked.heard.set_result(True)
    await here.gateway.stop()
    assert await waiting == []


async def test_a_node_that_is_slow_serves_no_poll_for_nobody_and_no_stream_of_it_is_said_to_be_gone(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_calls, "_HEARD_SECONDS", 0.1)
    here, there = await start_node(), await start_node()
    first = await poll(here.url, CHANNEL)
    name = name_in(first)
    # All that it answers comes too late.
    calls = here.gateway.entrance.stream_calls
    monkeypatch.setattr(calls, "_send", lambda *_of: None)
    anew = await poll(there.url, CHANNEL, wait=50, poll=name, since=since_in(first))
    assert name_in(anew) != name
    socket = here.gateway.entrance.streams._streams[name].connection.socket
    await until(lambda: not (socket.there or calls._waiting))
    heartbeat = {"type": "heartbeat"}
    target = address(f"/poll/{name}", TOKEN)
    answers = [
        await say(there.url, name, heartbeat, TOKEN, "/poll"),
        await ask(there.url, target, "DELETE"),
    ]
    assert [(each.status, each.json["error"]["code"]) for each in answers] == [
        (503, "redis_unavailable")
    ] * 2
    assert answers[0].fields["retry-after"]
    await here.gateway.stop()
    assert (await say(there.url, name, heartbeat, TOKEN, "/poll")).status == 404


async def test_a_poll_that_waits_for_a_node_that_has_crashed_holds_no_place(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_calls, "_LOOK_SECONDS", 0.05)
    here, there = await start_node(), await start_node()
    first = await poll(here.url, CHANNEL)
    stream = here.gateway.entrance.streams._streams[name_in(first)]
    line = await waiting_poll(there, CHANNEL, poll=name_in(first), since=since_in(first))
    assert stream.connection.socket.there
    # As after a crash: it says nothing any more.
    monkeypatch.setattr(there.gateway.entrance.stream_calls, "_send", lambda *_of: None)
    await there.gateway.stop()
    await until(lambda: not stream.connection.socket.there)
    assert not here.gateway.entrance.stream_calls._waiting
    line.close()


async def test_a_node_that_leaves_answers_the_polls_that_wait_there_for_another(
    start_node: StartNode,
) -> None:
    here, there = await start_node(), await start_node()
    first = await poll(here.url, CHANNEL)
    more = {"poll": name_in(first), "since": since_in(first)}
    waiting = asyncio.create_task(poll(there.url, CHANNEL, wait=20, **more))
    stream = here.gateway.entrance.streams._streams[name_in(first)]
    await until(lambda: stream.connection.socket.there)
    await until(lambda: there.gateway.entrance.client_port._streams._polls._waiting)
    await there.gateway.stop()
    assert await waiting == []
    assert await poll(here.url, CHANNEL, wait=0, **more) == []


async def test_a_poll_that_is_asked_twice_ends_the_older(node: Node) -> None:
    first = await poll(node.url, CHANNEL)
    more = {"poll": name_in(first), "since": since_in(first)}
    target = address("/poll", TOKEN, [CHANNEL], wait="20", **more)
    older = asyncio.create_task(ask(node.url, target))
    stream = node.gateway.entrance.streams._streams[name_in(first)]
    await until(lambda: stream.connection.socket.there)
    newer = asyncio.create_task(poll(node.url, CHANNEL, wait=0.5, **more))
    answer = await older
    assert (answer.status, answer.json["error"]["code"]) == (409, "poll_replaced")
    assert not newer.done()
    assert await newer == []


async def test_polls_hold_one_place_for_a_while(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "HOLD_SECONDS", 0.3)
    first = await poll(node.url, CHANNEL)
    assert len(node.gateway.hub.connections) == 1
    await poll(node.url, CHANNEL, wait=0.6, poll=name_in(first), since=since_in(first))
    assert len(node.gateway.hub.connections) == 1
    await until(lambda: not node.gateway.hub.connections)
    assert not node.gateway.entrance.streams._streams


async def test_what_a_lost_request_would_have_got_waits_for_the_next(
    node: Node, publisher: AsyncPublisher
) -> None:
    first = await poll(node.url, CHANNEL)
    more = {"poll": name_in(first), "since": since_in(first)}
    stream = node.gateway.entrance.streams._streams[name_in(first)]
    _, writer = await asyncio.open_connection(*node.url.removeprefix("ws://").split(":"))
    writer.write(
        f"GET {address('/poll', TOKEN, [CHANNEL], **more)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    )
    await until(lambda: stream.connection.socket.there)
    writer.close()
    await until(lambda: not stream.connection.socket.there)
    await publisher.publish(CHANNEL, 1)
    assert data_in(await poll(node.url, CHANNEL, **more)) == [1]


async def waiting_poll(node: Node, *channels: str, **more: str) -> asyncio.StreamWriter:
    """The connection of a poll that waits for its answer on this node."""
    waiting = node.gateway.entrance.client_port._streams._polls._waiting
    before = len(waiting)
    _, writer = await asyncio.open_connection(*node.url.removeprefix("ws://").split(":"))
    target = address("/poll", TOKEN, channels, **more)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await until(lambda: len(waiting) > before)
    return writer


async def load_page(node: Node) -> asyncio.StreamWriter:
    """Poll as a page does, until a request waits; returns its connection."""
    first = await poll(node.url)
    return await waiting_poll(node, poll=name_in(first), since=since_in(first))


async def test_pages_that_were_left_lock_nobody_out_and_pages_that_poll_keep_their_places(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "LEFT_SECONDS", 30.0)
    monkeypatch.setattr(life_checks, "SILENT_SECONDS", 0.2)
    # What is known of them is asked again.
    monkeypatch.setattr(life_checks, "_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(place_checks, "_AGAIN_SECONDS", 0.0)
    pages = [await load_page(node) for _ in range(5)]
    refused = await ask(node.url, address("/poll", TOKEN))
    assert (refused.status, refused.json["error"]["code"]) == (429, "connection_limit")
    assert len(node.gateway.hub.connections) == 5
    pages.pop().close()
    pages.append(await load_page(node))
    assert len(node.gateway.hub.connections) == 5
    assert (await ask(node.url, address("/poll", TOKEN))).status == 429
    for page in pages:
        page.close()


async def test_a_page_that_was_left_holds_its_place_for_a_moment_only(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "LEFT_SECONDS", 0.1)
    (await load_page(node)).close()
    await until(lambda: not node.gateway.hub.connections)


async def test_a_client_that_has_gone_is_not_waited_for_on_its_own_node_either(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    here, there = await start_node(), await start_node()
    first = await poll(here.url, CHANNEL)
    more = {"poll": name_in(first), "since": since_in(first)}
    socket = here.gateway.entrance.streams._streams[name_in(first)].connection.socket
    (await waiting_poll(there, CHANNEL, **more)).close()
    await until(lambda: socket.quiet > 0)
    published = await publisher.publish(CHANNEL, 1)
    await until(lambda: socket.untaken)
    assert data_in(await poll(there.url, CHANNEL, **more)) == [1]
    assert await confirmed(publisher, prefix, "u", CHANNEL) < published.id
    assert not here.gateway.entrance.stream_calls._waiting
    assert not there.gateway.entrance.stream_calls._asked


@pytest.mark.parametrize("elsewhere", [False, True], ids=["own", "other"])
async def test_a_user_has_so_many_polls_under_way_on_a_node(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch, *, elsewhere: bool
) -> None:
    nodes = [await start_node(), await start_node()]
    polled = nodes[elsewhere]
    under_way = polled.gateway.entrance.client_port._streams._polls._under_way
    monkeypatch.setattr(under_way, "_most", 2)
    pages = [await poll(nodes[0].url) for _ in range(3)]
    lines = [
        await waiting_poll(polled, poll=name_in(each), since=since_in(each)) for each in pages[:2]
    ]
    await until(lambda: polled.gateway.stats.polls_under_way == 2)
    assert "gateway_polls_under_way 2.0" in (await polled.get("/metrics"))[1]
    more = {"poll": name_in(pages[2]), "since": since_in(pages[2])}
    answer = await ask(polled.url, address("/poll", TOKEN, wait="0", **more))
    assert (answer.status, answer.json["error"]["code"]) == (429, "too_many_requests")
    assert answer.fields["retry-after"]
    for each in lines:
        each.close()
    await until(lambda: not polled.gateway.stats.polls_under_way)
    assert await poll(polled.url, wait=0, **more) == []


async def test_polls_of_other_nodes_clients_hold_room(start_node: StartNode) -> None:
    here, there = await start_node(), await start_node(max_connections=1)
    pages = [await poll(here.url) for _ in range(2)]
    first, second = ({"poll": name_in(each), "since": since_in(each)} for each in pages)
    line = await waiting_poll(there, **first)
    answers = [
        await ask(there.url, address("/poll", TOKEN, **second)),
        await ask(there.url, address("/sse", make_token("v"))),
    ]
    assert [each.json["error"]["code"] for each in answers] == ["node_full"] * 2
    line.close()
    await until(lambda: not there.gateway.stats.polls_under_way)
    assert await poll(there.url, wait=0, **second) == []


async def test_nobody_waits_for_who_leaves_before_the_first_answer(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.gateway.entrance.streams, "joins", lambda _stream: True)
    _, writer = await asyncio.open_connection(*node.url.removeprefix("ws://").split(":"))
    writer.write(f"GET {address('/poll', TOKEN, [CHANNEL])} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await until(lambda: node.gateway.hub.connections)
    writer.close()
    await until(lambda: not node.gateway.hub.connections)


async def test_a_long_answer_is_compressed(node: Node, publisher: AsyncPublisher) -> None:
    await publisher.publish(CHANNEL, "x" * 5_000)
    target = address("/poll", TOKEN, [CHANNEL], wait="5")
    answer = await ask(node.url, target, Accept_Encoding="gzip, br")
    assert answer.fields["content-encoding"] == "gzip"
    assert len(answer.body) < 1_000
    assert data_in(json.loads(gzip.decompress(answer.body))) == ["x" * 5_000]


async def test_who_polls_wrongly_is_told(node: Node) -> None:
    for wait in ("-1", "61", "nan", "x", "inf", "", " 5", "1_0", "+5", "1e1", "٣", "9" * 400):
        answer = await ask(node.url, address("/poll", TOKEN, [CHANNEL], wait=wait))
        assert (answer.status, answer.json["error"]["code"]) == (400, "bad_request")
    assert (await ask(node.url, address("/poll", None))).status == 401
    for path in ("/poll", "/sse"):
        answer = await ask(node.url, address(path, TOKEN, [""]))
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_channel")
    # What says nothing about where a client stands is no position, and what nobody knows says nothing.
    for since in ("x", "9" * 400, "p!."):
        messages = await poll(node.url, CHANNEL, wait=0, since=since, limit="-1")
        assert messages[1]["type"] == "subscribed", since


# -- what clients say -----------------------------------------------------------------------------


async def test_what_a_client_says_over_another_node_reaches_its_stream(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    here, there = await start_node(), await start_node()
    async with event_stream(here.url, TOKEN) as stream:
        for node, channel in ((here, CHANNEL), (there, OTHER)):
            message = {"type": "subscribe", "channel": channel}
            answer = await say(node.url, stream.name, message, TOKEN)
            assert (answer.status, answer.body) == (202, b"")
            await stream.expect(type="subscribed", channel=channel)
        published = await publisher.publish(CHANNEL, 1)
        assert await stream.data(1) == [1]
        ack = {"type": "ack", "channel": CHANNEL, "id": published.id}
        assert (
            await say(there.url, stream.name, [ack, {"type": "heartbeat"}], TOKEN)
        ).status == 202
        await stream.expect(type="heartbeat")

        async def proven() -> bool:
            return await confirmed(publisher, prefix, "u", CHANNEL) == published.id

        await until(proven)
        assert (await say(there.url, stream.name, {"type": "?"}, TOKEN)).status == 202
        await stream.expect(type="error", code="unknown_type")


async def test_another_channel_on_a_stream_of_one_does_not_take_its_place_in_the_position(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with event_stream(node.url, TOKEN, CHANNEL) as stream:
        await stream.expect(type="subscribed")
        first = await publisher.publish(CHANNEL, 1)
        assert await stream.data(1) == [1]
        assert stream.last_id == str(first.id)
        await say(node.url, stream.name, {"type": "subscribe", "channel": OTHER}, TOKEN)
        await stream.expect(type="subscribed", channel=OTHER)
        await publisher.publish(OTHER, 2)
        assert await stream.data(1) == [2]
        second = await publisher.publish(CHANNEL, 3)
        assert await stream.data(1) == [3]
        await stream.skip()
        assert stream.last_id == str(second.id)


async def test_nobody_speaks_for_a_stream_that_is_not_theirs(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = await start_node(), await start_node()
    message = {"type": "subscribe", "channel": CHANNEL}
    async with event_stream(here.url, TOKEN) as stream:
        answers: list[Answer] = []
        for node in (here, there):
            answers.append(await say(node.url, stream.name, message, make_token("other")))
            answers.append(await say(node.url, stream.name[:8] + "0" * 32, message, TOKEN))
        assert {each.status for each in answers} == {404}
        assert len({each.body for each in answers}) == 1
        assert (await say(here.url, stream.name, message, "no token")).status == 401
        await say(here.url, stream.name, {"type": "heartbeat"}, TOKEN)
        await stream.expect(type="heartbeat")
    # A node that is gone answers nobody, which is known at once.
    monkeypatch.setattr(stream_calls, "_HEARD_SECONDS", 600.0)
    assert (await say(here.url, "f" * 40, message, TOKEN)).status == 404
    assert (await say(here.url, "no-name", message, TOKEN)).status == 404


@pytest.mark.parametrize("there", [False, True], ids=["own", "other"])
async def test_a_token_that_is_revoked_says_nothing_though_the_stream_has_another(
    start_node: StartNode, publisher: AsyncPublisher, *, there: bool
) -> None:
    nodes = [await start_node(), await start_node()]
    node = nodes[there]
    own, good, stolen = (make_token("u", jti=each) for each in ("own", "good", "stolen"))
    first = await poll(nodes[0].url, CHANNEL, token=own)
    more = {"poll": name_in(first), "since": since_in(first)}
    await publisher.revoke_token("stolen", time.time() + 3600)
    answers = [
        await say(node.url, name_in(first), {"type": "heartbeat"}, stolen, "/poll"),
        await ask(node.url, address("/poll", stolen, [CHANNEL], **more)),
    ]
    for each in answers:
        assert (each.status, each.json["error"]["code"]) == (401, "token_revoked")
    assert (await say(node.url, name_in(first), {"type": "heartbeat"}, good, "/poll")).status == 202
    assert (await poll(node.url, CHANNEL, token=good, **more))[0]["type"] == "heartbeat"


@pytest.mark.parametrize("there", [False, True], ids=["own", "other"])
async def test_a_client_that_says_that_it_leaves_gives_its_place_back(
    start_node: StartNode, *, there: bool
) -> None:
    here, other = await start_node(), await start_node()
    url = (here, other)[there].url
    name = name_in(await poll(here.url, CHANNEL))
    async with event_stream(here.url, TOKEN) as stream:
        for target in (f"/poll/{name}", f"/sse/{stream.name}"):
            assert (await ask(url, address(target, make_token("v")), "DELETE")).status == 404
            assert (await ask(url, address(target, TOKEN), "DELETE", b"x")).status == 400
            assert (await ask(url, address(target, TOKEN), "DELETE")).status == 202
            assert (await ask(url, address(target, TOKEN), "DELETE")).status == 404
        await stream.ended()
    await until(lambda: not here.gateway.hub.connections)


@pytest.mark.parametrize("there", [False, True], ids=["own", "other"])
async def test_a_defect_is_answered_and_told(
    start_node: StartNode,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    there: bool,
) -> None:
    nodes = [await start_node(), await start_node()]

    def fail(*_of: object) -> None:
        raise AssertionError

    async with event_stream(nodes[0].url, TOKEN) as stream:
        monkeypatch.setattr(nodes[0].gateway.entrance.streams, "_hear", fail)
        answer = await say(nodes[there].url, stream.name, {"type": "heartbeat"}, TOKEN)
    assert (answer.status, answer.json["error"]["code"]) == (500, "internal_error")
    assert "stream_request_failed" in caplog.text


@pytest.mark.parametrize("kind", ["sse", "poll"])
async def test_of_a_client_that_does_not_read_the_answers_only_acks_are_heard(
    start_node: StartNode, kind: str
) -> None:
    generous = {"client_messages_per_second": 100_000, "client_message_burst": 100_000}
    here, there = [await start_node(high_water_bytes=50_000, **generous) for _ in range(2)]
    loop = asyncio.get_running_loop()
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        line.setblocking(False)
        host, port = here.url.removeprefix("ws://").split(":")
        await loop.sock_connect(line, (host, int(port)))
        target = address(f"/{kind}", TOKEN, wait="0")
        await loop.sock_sendall(line, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        told = b""
        while not (found := re.search(r'"(?:stream|poll)":"(\w+)".*\}', told.decode())):
            told += await loop.sock_recv(line, 4_096)
        name = found[1]
        stream = here.gateway.entrance.streams._streams[name].connection.socket
        answers, in_network = [], 0
        while not answers or (answers[-1].status == 202 and len(answers) < 150):
            in_network = max(in_network, stream.untaken - stream.waiting)
            answers.append(await say(there.url, name, [0] * 256, TOKEN, f"/{kind}"))
        assert (answers[-1].status, answers[-1].json["error"]["code"]) == (429, "answers_unread")
        assert answers[-1].fields["retry-after"]
        # It was heard until so much waited, and what it was answered then is all that comes on top.
        assert len(answers) > 1
        assert 50_000 < stream.waiting < 150_000
        # As of a WebSocket, what the system has taken does not count.
        assert in_network > 50_000 or kind == "poll"
        ack: dict[str, object] = {"type": "ack", "channel": CHANNEL, "id": 0}
        for unanswered in (ack, [ack, ack]):
            assert (await say(there.url, name, unanswered, TOKEN, f"/{kind}")).status == 202
        for answered in ({"type": "ack"}, [ack, {"type": "heartbeat"}], 0):
            assert (await say(there.url, name, answered, TOKEN, f"/{kind}")).status == 429
        since = since_in(json.loads(told.partition(b"\r\n\r\n")[2])) if kind == "poll" else ""
        while stream.untaken:
            if kind == "sse":
                await loop.sock_recv(line, 65_536)
            else:
                since = since_in(await poll(here.url, wait=0, poll=name, since=since))
        assert (await say(there.url, name, [0], TOKEN, f"/{kind}")).status == 202


async def test_what_is_said_has_to_be_json_of_a_bounded_length(node: Node) -> None:
    async with event_stream(node.url, TOKEN) as stream:
        target = f"/sse/{stream.name}?token={TOKEN}"
        answers = [
            await ask(node.url, target, "POST", b"{}", Content_Type="text/plain"),
            await ask(node.url, target, "POST", Content_Type="application/json"),
            await ask(
                node.url, target, "POST", Content_Type="application/json", Content_Length="9999999"
            ),
            await ask(
                node.url,
                target,
                "POST",
                Content_Type="application/json",
                Transfer_Encoding="chunked",
            ),
        ]
        assert [each.status for each in answers] == [415, 411, 413, 411]
        await ask(node.url, target, "POST", b"no json", Content_Type="application/json")
        await stream.expect(type="error", code="invalid_message")


async def test_who_waits_to_be_asked_for_a_body_is_asked(node: Node) -> None:
    async with event_stream(node.url, TOKEN) as stream:
        reader, writer = await asyncio.open_connection(*node.url.removeprefix("ws://").split(":"))
        body = b'{"type": "heartbeat"}'
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head = f"POST {address(f'/sse/{stream.name}', TOKEN)} HTTP/1.1\r\nHost: x\r\n{fields}"
        writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 202 ")
        await stream.expect(type="heartbeat")
        writer.close()


async def test_a_flood_of_requests_is_refused(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = node.gateway.entrance.client_port._streams._quota._quota
    monkeypatch.setattr(quota, "_most", 3)
    async with event_stream(node.url, TOKEN) as stream:
        answers = [
            (await say(node.url, stream.name, {"type": "heartbeat"}, TOKEN)).status
            for _ in range(4)
        ]
    assert answers == [202, 202, 202, 429]


async def post_without_its_end(
    node: Node, name: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Say something to a stream, but for the last byte."""
    reader, writer = await asyncio.open_connection(*node.url.removeprefix("ws://").split(":"))
    fields = "Host: x\r\nContent-Type: application/json\r\nContent-Length: 21\r\n"
    head = f"POST {address(f'/sse/{name}', TOKEN)} HTTP/1.1\r\n{fields}\r\n"
    writer.write(f'{head}{{"type": "heartbeat"'.encode())
    return reader, writer


async def test_a_body_that_does_not_come_holds_no_place_and_ends(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.web.one_request._BODY_SECONDS", 0.2)
    under_way = node.gateway.entrance.client_port._streams._posts._under_way
    async with event_stream(node.url, TOKEN) as stream:
        reader, writer = await post_without_its_end(node, stream.name)
        await until(lambda: under_way._of_user)
        assert await reader.read() == b""
        writer.close()
        await until(lambda: not under_way._of_user)


async def test_what_is_said_counts_as_known_and_holds_room_but_for_the_first_to_a_stream_that_is_here(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start_node(max_connections=2)
    requests = node.gateway.entrance.client_port._streams
    under_way = requests._posts._under_way
    async with event_stream(node.url, TOKEN) as stream:
        reader, writer = await post_without_its_end(node, stream.name)
        await until(lambda: under_way._of_user["u"] == 1)
        assert not node.gateway.stats.connections_unauthenticated
        _, second = await post_without_its_end(node, stream.name)
        await until(lambda: under_way._of_user["u"] == 2)
        full = await say(node.url, stream.name, {"type": "heartbeat"}, TOKEN)
        assert (full.status, full.json["error"]["code"]) == (503, "node_full")
        monkeypatch.setattr(under_way, "_most", 2)
        assert (await say(node.url, stream.name, {"type": "heartbeat"}, TOKEN)).status == 429
        writer.write(b"}")
        assert (await reader.readline()).startswith(b"HTTP/1.1 202 ")
        for each in (writer, second):
            each.close()
        await until(lambda: not under_way._of_user)
        assert (await say(node.url, stream.name, {"type": "heartbeat"}, TOKEN)).status == 202


async def test_polls_of_a_client_that_is_here_hold_room_but_for_one(start_node: StartNode) -> None:
    node = await start_node(max_connections=2)
    first = await poll(node.url)
    more = {"poll": name_in(first), "since": since_in(first)}
    lines = [await waiting_poll(node, **more) for _ in range(2)]
    await until(lambda: node.gateway.stats.polls_under_way == 2)
    answer = await ask(node.url, address("/poll", TOKEN, **more))
    assert (answer.status, answer.json["error"]["code"]) == (503, "node_full")
    for each in lines:
        each.close()
    await until(lambda: not node.gateway.stats.polls_under_way)
    assert await poll(node.url, wait=0, **more) == []


@pytest.mark.parametrize("anew", [False, True], ids=["first", "begun anew"])
async def test_an_answer_that_is_not_taken_holds_room_also_when_its_place_is_given_back(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch, *, anew: bool
) -> None:
    node = await start_node(max_connections=1)
    entrance = node.gateway.entrance
    under_way = entrance.client_port._streams._polls._under_way
    unknown = {"poll": f"{entrance.streams.tag}{'0' * 32}"} if anew else {}
    other = address("/sse", make_token("v"))
    # It reads all, and does not close its side behind it.
    reader, line, _ = await request(node.url, address("/poll", TOKEN, wait="0", **unknown))
    name = name_in(json.loads(await reader.read()))
    assert node.gateway.stats.polls_under_way == 1
    assert (await ask(node.url, address(f"/poll/{name}", TOKEN), "DELETE")).status == 202
    await until(lambda: not node.gateway.hub.connections)
    assert (await ask(node.url, other)).json["error"]["code"] == "node_full"
    monkeypatch.setattr(under_way._admission, "_room", Room(2, 5))
    monkeypatch.setattr(under_way, "_most", 1)
    assert (await ask(node.url, address("/poll", TOKEN, wait="0", **unknown))).status == 429
    line.close()
    await until(lambda: not (under_way._of_user or under_way._admission._present))
    assert not (under_way._covered or node.gateway.stats.polls_under_way)
    await poll(node.url, wait=0, **unknown)


async def test_a_revoked_user_hears_it_and_comes_in_no_more(
    node: Node, publisher: AsyncPublisher
) -> None:
    first = await poll(node.url, CHANNEL)
    await publisher.disconnect("u", reason="bye")
    await until(lambda: not node.gateway.hub.connections)
    again = await poll(node.url, CHANNEL, poll=name_in(first), since=since_in(first))
    assert name_in(again) != name_in(first)
    async with connected(node.url, TOKEN):
        assert len(node.gateway.hub.connections) == 2
