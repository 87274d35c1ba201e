"""How users and channels stand with two nodes, and what happens to them, as the HTTP API tells it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest_asyncio

from gateway.api import admission
from gateway.api import keys as api_keys
from gateway.node import inquiries, inspection
from gateway.node import watching as node_watching
from publisher import AsyncPublisher
from tests.support.api import KEY, KEYS, READER, Api, api_at, keys_in
from tests.support.client import connected
from tests.support.event_stream import event_stream
from tests.support.nodes import Node, running_node
from tests.support.tokens import make_token
from tests.support.topology import keys
from tests.support.waiting import until

USER = "ann/o'b <i>"
CHANNEL = f"notifications/{USER}"
ROOM = "run-results/room"


@pytest_asyncio.fixture
async def other(redis_url: str, prefix: str) -> AsyncIterator[Node]:
    """A node beside the one that is asked; it has no API."""
    async with running_node(redis_url, prefix, confirm_interval_seconds=0.2) as node:
        yield node


@contextlib.asynccontextmanager
async def watching(api: Api, query: str, key: str = KEY) -> AsyncIterator[list[dict[str, Any]]]:
    """What ``/v1/watch`` tells, as it comes."""
    told: list[dict[str, Any]] = []
    headers = {"Authorization": f"Bearer {key}"}
    async with api.session.get(f"{api.url}/v1/watch?{query}", headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson")

        async def read() -> None:
            async for line in answer.content:
                if line.strip():
                    told.append(json.loads(line))

        reading = asyncio.create_task(read())
        try:
            await until(lambda: bool(told))
            yield told
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading


async def test_a_user_is_told_with_connections_on_all_nodes_and_positions(
    api: Api, api_node: Node, other: Node, publisher: AsyncPublisher
) -> None:
    path = f"/v1/users/{quote(USER, safe='')}"
    assert (await api.ask("GET", path)).json == {"connections": [], "missing": []}
    token = make_token(USER, [ROOM])
    async with connected(api_node.url, token) as here, connected(other.url, token) as there:
        await here.subscribe(CHANNEL)
        await there.subscribe(CHANNEL)
        await there.subscribe(ROOM)
        sent = (await publisher.publish(CHANNEL, 1)).id
        await here.data(1)
        await there.data(1)

        async def confirmed() -> bool:
            told = (await api.ask("GET", path)).json
            return [
                subscription["confirmed_up_to"]
                for each in told["connections"]
                for subscription in each["subscriptions"]
                if subscription["channel"] == CHANNEL
            ] == [sent, sent]

        await until(confirmed)
        told = (await api.ask("GET", path)).json
        assert told["missing"] == []
        nodes = {each["connection"].rpartition("/")[0] for each in told["connections"]}
        assert nodes == {api_node.gateway.node_id, other.gateway.node_id}
        # A key that counts in one namespace reads nothing of another.
        less = (await api.ask("GET", path, READER)).json["connections"]
        assert [s["channel"] for each in less for s in each["subscriptions"]] == [ROOM]


async def test_channels_and_their_subscriptions_are_summed_over_all_nodes(
    api: Api, api_node: Node, other: Node
) -> None:
    async with connected(api_node.url, make_token("a", [ROOM])) as here:
        await here.subscribe(ROOM)
        await here.subscribe("notifications/a")
        async with connected(other.url, make_token("b", [ROOM])) as there:
            await there.subscribe(ROOM)
            told = (await api.ask("GET", "/v1/channels")).json
            assert told == {
                "channels": [
                    {"channel": ROOM, "subscriptions": 2, "nodes": 2},
                    {"channel": "notifications/a", "subscriptions": 1, "nodes": 1},
                ],
                "missing": [],
            }
            begun = (await api.ask("GET", "/v1/channels?start=notif")).json["channels"]
            assert [each["channel"] for each in begun] == ["notifications/a"]
            one = (await api.ask("GET", f"/v1/subscriptions/{ROOM}")).json
            assert (one["count"], one["missing"], len(one["nodes"])) == (2, [], 2)
            assert sorted((each["user"], each["state"]) for each in one["subscriptions"]) == [
                ("a", "live"),
                ("b", "live"),
            ]


async def test_a_message_is_followed_until_all_devices_have_confirmed_it(
    api: Api, api_node: Node, other: Node, publisher: AsyncPublisher
) -> None:
    token = make_token(USER)
    missed = (await publisher.publish(CHANNEL, 0)).id
    async with watching(api, f"channel={quote(CHANNEL)}") as told:
        async with connected(api_node.url, token) as here, connected(other.url, token) as there:
            await here.subscribe(CHANNEL, since=missed - 1)
            await there.subscribe(CHANNEL)
            sent = (await publisher.publish(CHANNEL, 1)).id
            await here.data(2)
            await there.data(1)
            devices = {
                f"{each.gateway.node_id}/{connection}"
                for each in (api_node, other)
                for connection in each.gateway.hub.connections
            }

            def confirmed() -> bool:
                found = [e for e in told if e["kind"] == "confirmed" and e["up_to"] == sent]
                return {each["connection"] for each in found} == devices

            await until(confirmed)
            written = [each for each in told if each["kind"] == "written"]
            assert {each["message"] for each in written} == {sent}
            assert {each["node"] for each in written} == {
                api_node.gateway.node_id,
                other.gateway.node_id,
            }
            for each in written:
                assert sent - 50_000 < each["received"] <= each["at"] < sent + 2_000_000
            replays = [each for each in told if each["kind"] == "replayed"]
            assert any(each["connection"].startswith(api_node.gateway.node_id) for each in replays)
            for each in replays:
                assert (each["first"], each["last"], each["messages"]) == (missed, missed, 1)
            assert [each["user"] for each in told if each["kind"] == "subscribed"] == [USER] * 2
    # Nobody looks any more, and the nodes know it.
    for node in (api_node, other):
        await until(lambda node=node: not node.gateway.hub.event_log.watching.active)


async def test_a_device_that_comes_later_confirms_nothing_that_it_was_not_sent(
    api: Api, api_node: Node, other: Node, publisher: AsyncPublisher
) -> None:
    token = make_token(USER)
    path = f"/v1/subscriptions/{quote(CHANNEL, safe='/')}"

    async def standing() -> list[int]:
        told = (await api.ask("GET", path)).json["subscriptions"]
        return [each["confirmed_up_to"] for each in told]

    async with watching(api, f"channel={quote(CHANNEL)}") as told:

        def confirmed() -> list[tuple[int, int]]:
            return [(e["after"], e["up_to"]) for e in told if e["kind"] == "confirmed"]

        async with connected(api_node.url, token) as first:
            await first.subscribe(CHANNEL)
            first_sent = (await publisher.publish(CHANNEL, 1)).id
            await first.data(1)
            await until(lambda: bool(confirmed()))
        async with connected(other.url, token) as later:
            await later.subscribe(CHANNEL)
            await until(standing)
            assert await standing() == [first_sent]
            sent = (await publisher.publish(CHANNEL, 2)).id
            await later.data(1)
            await until(lambda: len(confirmed()) > 1)
        assert confirmed() == [(0, first_sent), (first_sent, sent)]


async def test_a_stream_that_comes_back_does_not_say_where_it_was_before(
    api: Api, api_node: Node, publisher: AsyncPublisher
) -> None:
    """What it proves by that was sent on a connection that is over."""
    token = make_token(USER)
    async with watching(api, f"channel={quote(CHANNEL)}") as told:
        async with event_stream(api_node.url, token, CHANNEL) as stream:
            await stream.expect(type="subscribed")
            sent = (await publisher.publish(CHANNEL, 1)).id
            assert await stream.data(1) == [1]
        async with event_stream(api_node.url, token, CHANNEL, last_id=str(sent)):
            await until(lambda: "confirmed" in [each["kind"] for each in told])
        [confirmed] = [each for each in told if each["kind"] == "confirmed"]
        assert (confirmed.get("after"), confirmed["up_to"]) == (None, sent)


async def test_what_is_lost_is_confirmed_by_nobody(
    api: Api, api_node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    ids = [(await publisher.publish(CHANNEL, number)).id for number in range(3)]
    log = keys(prefix).log(CHANNEL)
    assert await publisher._client.zremrangebyscore(log, ids[1], ids[1]) == 1
    async with watching(api, f"channel={quote(CHANNEL)}") as told:
        async with connected(api_node.url, make_token(USER)) as client:
            await client.subscribe(CHANNEL, since=ids[0])
            assert await client.data(1) == [2]
            await until(lambda: "confirmed" in [each["kind"] for each in told])
        [confirmed] = [each for each in told if each["kind"] == "confirmed"]
        assert (confirmed["after"], confirmed["up_to"]) == (ids[1], ids[2])


async def test_a_user_is_watched_in_all_channels_and_a_key_hears_its_namespaces(
    api: Api, other: Node
) -> None:
    query = f"user={quote(USER)}"
    async with watching(api, query) as told, watching(api, query, READER) as less:
        async with connected(other.url, make_token(USER, [ROOM])) as client:
            await client.subscribe(CHANNEL)
            await client.subscribe(ROOM)
        async with connected(other.url, make_token("somebody else", [ROOM])) as client:
            await client.subscribe(ROOM)
        await until(lambda: "disconnected" in [each["kind"] for each in told])
        await until(lambda: "disconnected" in [each["kind"] for each in less])
        kinds = [(each["kind"], each.get("channel")) for each in told[1:]]
        assert [each for each in kinds if each[0] != "confirmed"] == [
            ("connected", None),
            ("subscribed", CHANNEL),
            ("subscribed", ROOM),
            ("disconnected", None),
        ]
        assert {each.get("channel") for each in less} == {None, ROOM}


async def test_who_may_watch(api: Api) -> None:
    assert (await api.ask("GET", "/v1/watch", KEY)).status == 400
    for wrong in ("/v1/watch?channel=nonsense", "/v1/subscriptions/r%0c/r"):
        assert (await api.ask("GET", wrong)).status == 400, wrong
    both = await api.ask("GET", f"/v1/watch?channel={quote(ROOM)}&user=a")
    assert (both.status, both.json["code"]) == (400, "invalid_request")
    foreign = await api.ask("GET", f"/v1/watch?channel={quote(CHANNEL)}", READER)
    assert (foreign.status, foreign.json["code"]) == (403, "namespace_forbidden")


async def test_a_key_may_watch_as_often_as_it_leaves_free(
    redis_url: str, prefix: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(admission, "MOST_WATCHES", 4)
    keys = f"@{keys_in(tmp_path)}"
    query = f"channel={quote(ROOM)}"
    async with (
        running_node(redis_url, prefix, api_port=0, api_keys=keys) as node,
        api_at(node.api_url) as api,
    ):
        async with watching(api, query), watching(api, query):
            one_more = await api.ask("GET", f"/v1/watch?{query}")
            assert (one_more.status, one_more.json["code"]) == (503, "busy")
            assert one_more.headers["Retry-After"]
            async with watching(api, query, READER):
                pass
            # What is sent over a dead line is not waited for as long as the kernel would (tcp(7)).
            transports = [
                each.transport for each in node.gateway.api.pages._runner.server.connections
            ]
            sockets = [each.get_extra_info("socket") for each in transports if each is not None]
            option = getattr(socket, "TCP_USER_TIMEOUT", None)
            limits = [option and each.getsockopt(socket.IPPROTO_TCP, option) for each in sockets]
            assert limits.count(option and 20_000) >= 2
        # Whoever has gone leaves the place to others.
        async with watching(api, query), watching(api, query):
            pass


async def test_a_watch_ends_with_its_key(
    redis_url: str, prefix: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(api_keys, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(inquiries, "RENEW_SECONDS", 0.1)
    file = keys_in(tmp_path)
    query = f"channel={quote(ROOM)}"
    async with (
        running_node(redis_url, prefix, api_port=0, api_keys=f"@{file}") as node,
        api_at(node.api_url) as api,
    ):
        for changed in ({}, {"reader": {**KEYS["reader"], "namespaces": ["notifications"]}}):
            file.write_text(json.dumps(KEYS))
            await until(lambda: node.gateway.api._keys.find(READER) is not None)
            async with watching(api, query) as stays, watching(api, query, READER) as told:
                file.write_text(json.dumps({"backend": KEYS["backend"], **changed}))
                await until(lambda told=told: told[-1].get("code") == "key_unknown")
                assert (told[-1]["status"], len(told)) == (401, 2)
                async with connected(node.url, make_token("a", [ROOM])) as client:
                    await client.subscribe(ROOM)
                await until(lambda stays=stays: stays[-1]["kind"] == "subscribed")
                assert len(told) == 2


async def test_a_key_of_few_namespaces_sees_their_channels_beside_larger_ones(
    api: Api, api_node: Node, monkeypatch: Any
) -> None:
    monkeypatch.setattr(inspection, "MOST_CHANNELS", 1)
    monkeypatch.setattr(inspection, "MOST_SUBSCRIPTIONS", 1)
    async with (
        connected(api_node.url, make_token("a", [ROOM])) as one,
        connected(api_node.url, make_token("a")) as other,
    ):
        for client in (one, other):
            await client.subscribe("notifications/a")
        await one.subscribe(ROOM)
        told = (await api.ask("GET", "/v1/channels", READER)).json["channels"]
        assert told == [{"channel": ROOM, "subscriptions": 1, "nodes": 1}]
        told = (await api.ask("GET", "/v1/users/a", READER)).json["connections"]
        found = [(each["count"], [s["channel"] for s in each["subscriptions"]]) for each in told]
        assert sorted(found) == [(0, []), (1, [ROOM])]


async def test_a_node_that_takes_part_in_as_many_watches_as_it_may_says_so(
    api: Api, other: Node, monkeypatch: Any
) -> None:
    monkeypatch.setattr(node_watching, "MOST_WATCHES", 0)
    async with watching(api, f"channel={quote(ROOM)}") as told:
        nodes = {other.gateway.node_id}
        await until(lambda: nodes <= {e.get("node") for e in told if e["kind"] == "not_watched"})


async def test_a_watch_ends_where_nothing_is_taken_for_as_long_as_nodes_keep_it(
    api: Api, api_node: Node, monkeypatch: Any
) -> None:
    monkeypatch.setattr(inquiries, "WATCH_SECONDS", 0.2)
    monkeypatch.setattr(inquiries, "RENEW_SECONDS", 0.1)
    asked = api_node.gateway.access.inquiries
    async with contextlib.aclosing(asked.watch("channel", ROOM, None)) as parts:
        for _ in range(3):
            assert await anext(parts) == ([], 0)
        await asyncio.sleep(0.25)  # a line that takes nothing for so long
        assert [each async for each in parts] == []
    assert asked._viewers == {}


async def test_a_node_that_hangs_is_told_as_missing(
    api: Api, api_node: Node, other: Node, monkeypatch: Any
) -> None:
    monkeypatch.setattr(inquiries, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(other.gateway.access.inquiries, "hear", lambda _command: None)
    monkeypatch.setattr(other.gateway.access.control, "_inspect", lambda _command: None)
    told = (await api.ask("GET", "/v1/channels")).json
    assert told == {"channels": [], "missing": [other.gateway.node_id]}


async def test_a_node_that_drains_ends_a_watch(redis_url: str, prefix: str, tmp_path: Path) -> None:
    keys = f"@{keys_in(tmp_path)}"
    async with running_node(redis_url, prefix, api_port=0, api_keys=keys) as node:
        async with api_at(node.api_url) as api:
            headers = {"Authorization": f"Bearer {KEY}"}
            path = f"{api.url}/v1/watch?channel={quote(ROOM)}"
            async with api.session.get(path, headers=headers) as answer:
                assert json.loads(await answer.content.readline()) == {"kind": "watching"}
                begun = asyncio.get_running_loop().time()
                await node.gateway.stop()
                assert (await answer.content.read()).strip() == b""
                assert asyncio.get_running_loop().time() - begun < 0.9
