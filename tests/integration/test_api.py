"""The HTTP API from outside: what is published, given, taken and read by it, with the least rights in Redis."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from gateway.api import presence
from publisher import AsyncPublisher, Outgoing
from tests.support.api import KEY, Api
from tests.support.client import connected
from tests.support.nodes import Node
from tests.support.redis_users import denied
from tests.support.tokens import make_token
from tests.support.topology import keys, looking_at
from tests.support.waiting import until

CHANNEL = "notifications/u"


async def test_a_message_is_published_and_delivered(api: Api, api_node: Node) -> None:
    async with connected(api_node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        answer = await api.ask("POST", "/v1/publish", body={"channel": CHANNEL, "data": {"a": "ü"}})
        assert await client.data(1) == [{"a": "ü"}]
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    told = answer.json
    assert told == {
        "id": told["id"],
        "channel": CHANNEL,
        "duplicate": False,
        "timestamp": told["id"] // 1000,
    }


async def test_an_idempotency_key_publishes_once(api: Api, publisher: AsyncPublisher) -> None:
    body, headers = {"channel": CHANNEL, "data": 1}, {"Idempotency-Key": "order 7 is paid"}
    first = (await api.ask("POST", "/v1/publish", body=body, headers=headers)).json
    again = (await api.ask("POST", "/v1/publish", body=body, headers=headers)).json
    assert again == {**first, "duplicate": True}
    # And the library knows it under the same key.
    assert (await publisher.publish(CHANNEL, 1, idempotency_key="order 7 is paid")).duplicate
    assert len(await publisher.history(CHANNEL)) == 1


async def test_each_line_has_its_answer_in_order(api: Api, publisher: AsyncPublisher) -> None:
    answer = await api.lines(
        [
            {"channel": CHANNEL, "data": 1, "idempotency_key": "k"},
            "{no JSON\n",
            "\n",
            {"channel": "no-such-namespace/x", "data": 1},
            {"channel": CHANNEL, "data": 2, "ttll": 5},
            {"channel": CHANNEL, "data": 1, "idempotency_key": "k"},
            {"channel": CHANNEL, "data": "x" * (2 * 1024 * 1024 + 10)},
            {"channel": CHANNEL, "data": "x" * (1024 * 1024)},
            json.dumps({"channel": CHANNEL, "data": 3}),  # without a line's end
        ]
    )
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    told = answer.lines
    assert [each.get("code", each.get("duplicate")) for each in told] == [
        *(False, "invalid_request", "unknown_namespace", "invalid_request", True),
        *("body_too_large", "message_too_large", False),
    ]
    assert told[2]["maybe_sent"] is False
    assert [each.data for each in await publisher.history(CHANNEL)] == [1, 3]


async def test_more_lines_than_allowed_are_told_after_those_that_are_published(api: Api) -> None:
    lines = ['{"channel":"run-results/many","data":0}\n' * 10_003]
    told = (await api.lines(lines)).lines
    assert len(told) == 10_001
    assert (told[-1]["status"], told[-1]["code"]) == (413, "body_too_large")
    assert told[9_999]["duplicate"] is False


async def test_a_broadcast_has_an_answer_for_each_channel(
    api: Api, publisher: AsyncPublisher
) -> None:
    body = {"users": ["a", "b", "a/b"], "data": {"x": 1}}
    headers = {"Idempotency-Key": "k"}
    first = (await api.ask("POST", "/v1/broadcast", body=body, headers=headers)).json["results"]
    again = (await api.ask("POST", "/v1/broadcast", body=body, headers=headers)).json["results"]
    assert [each["channel"] for each in first] == [f"notifications/{u}" for u in body["users"]]
    assert [each["duplicate"] for each in first + again] == [False] * 3 + [True] * 3
    mixed = {"channels": [CHANNEL, "nope/x"], "data": 2}
    told = (await api.ask("POST", "/v1/broadcast", body=mixed)).json["results"]
    assert [each.get("code") for each in told] == [None, "unknown_namespace"]
    large = {"users": [f"u{n}" for n in range(100)], "data": "x" * 1_000_000}
    assert (await api.ask("POST", "/v1/broadcast", body=large)).status == 413
    # So many objects would hold up the event loop.
    crowded = {"users": ["a"], "data": [{}] * 360_000}
    assert (await api.ask("POST", "/v1/broadcast", body=crowded)).status == 413
    for wrong in (
        {"data": 1},
        {"data": 1, "users": ["a"], "channels": [CHANNEL]},
        {"users": ["a"]},
    ):
        assert (await api.ask("POST", "/v1/broadcast", body=wrong)).status == 400


async def test_grants_are_given_and_taken(api: Api, api_node: Node) -> None:
    channel = "run-results/s-1"
    async with connected(api_node.url, make_token("u")) as client:
        granted = await api.ask(
            "PUT", "/v1/grants", body={"channel": channel, "user": "u", "ttl": 9}
        )
        assert (granted.status, granted.text) == (204, "")
        await client.subscribe(channel)
        path = f"/v1/grants?channel={quote(channel)}&user=u"
        assert (await api.ask("DELETE", path)).json == {"revoked": True}
        await client.expect(type="unsubscribed", reason="revoked")
        assert (await api.ask("DELETE", path)).json == {"revoked": False}
        everybody = {"channel": "run-results/all", "everybody": True, "ttl": None}
        assert (await api.ask("PUT", "/v1/grants", body=everybody)).status == 204
        await client.subscribe("run-results/all")
    wrong = await api.ask("PUT", "/v1/grants", body={"channel": CHANNEL, "user": "v"})
    assert (wrong.status, wrong.json["code"]) == (409, "grant_without_effect")
    both = {"channel": channel, "everybody": True, "user": "u"}
    assert (await api.ask("PUT", "/v1/grants", body=both)).status == 400
    assert (await api.ask("PUT", "/v1/grants", body={"channel": channel})).status == 400


async def test_history_is_read_in_pages_and_ids_with_slashes_are_taken_both_ways(
    api: Api, publisher: AsyncPublisher
) -> None:
    channel = "notifications/a/b c%2F张"
    sent = await publisher.publish_many(Outgoing(channel, n) for n in range(25))
    for path in ("a%2Fb%20c%252F%E5%BC%A0", "a/b%20c%252F%E5%BC%A0"):
        told = (await api.ask("GET", f"/v1/history/notifications/{path}?limit=20")).json
        assert [each["data"] for each in told["messages"]] == list(range(20))
        assert told["more"] is True
    rest = (
        await api.ask("GET", f"/v1/history/notifications/{path}?after={told['messages'][-1]['id']}")
    ).json
    assert [each["data"] for each in rest["messages"]] == list(range(20, 25))
    assert rest["more"] is False
    assert rest["messages"][-1]["id"] == sent[-1].id
    assert rest["messages"][-1]["channel"] == channel


async def test_a_history_of_large_messages_ends_before_it_is_too_much(
    api: Api, publisher: AsyncPublisher
) -> None:
    await publisher.publish_many((CHANNEL, "x" * 1_000_000) for _ in range(20))
    for path in ("", "?limit=1000"):
        answer = await api.ask("GET", f"/v1/history/notifications/u{path}")
        assert answer.json["more"] is True
        assert len(answer.json["messages"]) == 8
        assert len(answer.text) < 8.1 * 1024 * 1024


async def test_blank_lines_are_left_out_and_are_lines_all_the_same(
    api: Api, publisher: AsyncPublisher
) -> None:
    one = json.dumps({"channel": CHANNEL, "data": 1})
    told = await api.lines(["\n", one + "\n", " \n"])
    assert (told.status, told.text.count("\n")) == (200, 1)
    refused = await api.lines(["\n" * 1_000_000, one + "\n"])
    assert (refused.status, refused.json["code"]) == (413, "body_too_large")
    assert len(await publisher.history(CHANNEL)) == 1


async def test_what_is_nested_as_deeply_as_may_be_published_is_read_again(api: Api) -> None:
    deep: list[object] = []
    for _ in range(252):
        deep = [deep]
    body = {"channel": CHANNEL, "data": deep}
    assert (await api.ask("POST", "/v1/publish", body=body)).status == 200
    told = (await api.ask("GET", "/v1/history/notifications/u")).json
    assert [each["data"] for each in told["messages"]] == [deep]
    for _ in range(60):
        deep = [deep]
    for path, whom in (("publish", {"channel": CHANNEL}), ("broadcast", {"users": ["u"]})):
        refused = await api.ask("POST", f"/v1/{path}", body={**whom, "data": deep})
        assert (refused.status, refused.json["code"]) == (400, "invalid_data")


async def test_who_is_in_a_channel_is_read_where_that_is_noted(api: Api, api_node: Node) -> None:
    assert (await api.ask("GET", "/v1/channels/rooms/a%2Fb")).json == {
        "users": [],
        "count": 0,
        "more": False,
    }
    async with connected(api_node.url, make_token("u")) as client:
        await client.subscribe("rooms/a/b")

        async def is_there() -> bool:
            told = (await api.ask("GET", "/v1/channels/rooms/a/b")).json
            return bool(told == {"users": ["u"], "count": 1, "more": False})

        await until(is_there)
    refused = await api.ask("GET", "/v1/channels/notifications/u")
    assert refused.status == 400
    assert "has no presence" in refused.json["detail"]


async def test_who_is_in_a_channel_and_who_has_a_message_come_in_parts(
    api: Api, publisher: AsyncPublisher, prefix: str
) -> None:
    names, users = keys(prefix), sorted(f"u{number}/ü" for number in range(1_500))
    later = 4_000_000_000_000
    await publisher._client.zadd(
        names.presence("rooms/many"),
        {f"n{node}/{user}": later for user in users for node in (1, 2)},
    )
    await publisher._client.zadd(
        names.confirmed("rooms/many"), {user: 5 + index // 600 for index, user in enumerate(users)}
    )
    told = (await api.ask("GET", "/v1/channels/rooms/many")).json
    assert told == {"users": users[:1_000], "count": 1_500, "more": True}
    rest = f"?after={quote(users[999], safe='')}"
    told = (await api.ask("GET", f"/v1/channels/rooms/many{rest}")).json
    assert told == {"users": users[1_000:], "count": 1_500, "more": False}
    found: list[str] = []
    query = "message=5&limit=500"
    while True:
        told = (await api.ask("GET", f"/v1/receipts/rooms/many?{query}")).json
        found += [each["user"] for each in told["receipts"]]
        if not told["more"]:
            break
        last = told["receipts"][-1]
        query = f"message={last['up_to']}&after={quote(last['user'], safe='')}&limit=500"
    assert found == users
    for path in ("channels/rooms/many?", "receipts/rooms/many?message=5&"):
        for wrong in ("limit=0", "limit=1001", "after="):
            refused = await api.ask("GET", f"/v1/{path}{wrong}")
            assert (refused.status, refused.json["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("kept", [True, False])
async def test_pages_of_a_channel_are_of_one_reading(
    api: Api,
    publisher: AsyncPublisher,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    kept: bool,
) -> None:
    """Unless there are too many users in it to be kept."""
    monkeypatch.setattr(presence, "_KEPT_SECONDS_A_USER", 1.0)
    monkeypatch.setattr(presence, "_MOST_KEPT_USERS", 50 if kept else 49)
    read, readings = AsyncPublisher.presence, 0

    async def counted(self: AsyncPublisher, channel: str) -> list[str]:
        nonlocal readings
        readings += 1
        return await read(self, channel)

    monkeypatch.setattr(AsyncPublisher, "presence", counted)
    users = sorted(f"u{number}" for number in range(50))
    members = {f"n/{user}": 4_000_000_000_000 for user in users}
    await publisher._client.zadd(keys(prefix).presence("rooms/many"), members)
    found: list[str] = []
    query = "limit=5"
    while True:
        told = (await api.ask("GET", f"/v1/channels/rooms/many?{query}")).json
        found += told["users"]
        if not told["more"]:
            break
        query = f"limit=5&after={found[-1]}"
    assert found == users
    assert readings == (1 if kept else 10)
    # Others are read besides; what cannot be read is tried again.
    assert (await api.ask("GET", "/v1/channels/rooms/none")).json["count"] == 0
    for _ in range(2):
        assert (await api.ask("GET", "/v1/channels/notifications/u")).status == 400
    assert readings == (4 if kept else 13)


async def test_nodes_and_their_sums_are_read(api: Api) -> None:
    async def told() -> bool:
        return bool((await api.ask("GET", "/v1/stats")).json["ready"])

    await until(told)
    (node,) = (await api.ask("GET", "/v1/nodes")).json["nodes"]
    assert node["report"]["version"]
    stats = (await api.ask("GET", "/v1/stats")).json
    assert (stats["nodes"], stats["silent"], stats["draining"]) == (1, 0, 0)
    assert stats["connections_limit"] == node["report"]["connections_limit"]


async def test_a_message_is_scheduled_collapsed_deleted_and_confirmed(
    api: Api, api_node: Node, publisher: AsyncPublisher
) -> None:
    later = {"channel": CHANNEL, "data": 1, "at": time.time() + 600}
    scheduled = (await api.ask("POST", "/v1/publish", body=later)).json
    assert scheduled["at"] == pytest.approx(later["at"])
    path = f"/v1/scheduled/{quote(scheduled['scheduled'], safe='')}"
    assert (await api.ask("DELETE", path)).json == {"cancelled": True}
    assert (await api.ask("DELETE", path)).json == {"cancelled": False}
    body = {"channel": CHANNEL, "ttl": 60, "collapse_key": "unread"}
    await api.ask("POST", "/v1/publish", body={**body, "data": 1})
    told = (await api.lines([{**body, "data": 2}])).lines[0]
    assert [each.data for each in await publisher.history(CHANNEL)] == [2]
    path = f"/v1/messages/notifications/u?message={told['id']}"
    assert (await api.ask("DELETE", path)).json == {"deleted": True}
    assert await publisher.history(CHANNEL) == []
    async with connected(api_node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        confirmed = {"channel": CHANNEL, "data": 3, "wait_confirmed": 20}
        told = (await api.ask("POST", "/v1/publish", body=confirmed)).json
        assert told["confirmed"] == ["u"]
    path = f"/v1/receipts/notifications/u?message={told['id']}"
    assert (await api.ask("GET", path)).json == {
        "receipts": [{"user": "u", "up_to": told["id"]}],
        "more": False,
    }
    both = {**confirmed, "at": time.time() + 600}
    assert (await api.ask("POST", "/v1/publish", body=both)).status == 400


async def test_a_user_is_forgotten(api: Api, api_node: Node, publisher: AsyncPublisher) -> None:
    user, channel = "a/b", "run-results/s"
    await publisher.grant(channel, user)
    await publisher.publish(f"notifications/{user}", 1)
    for path in ("/v1/users/a%2Fb", "/v1/users/a/b"):
        async with connected(api_node.url, make_token(user)) as client:
            forgotten = await api.ask("DELETE", path)
            assert (forgotten.status, forgotten.text) == (204, "")
            await client.expect(code="disconnected")
    assert not await publisher.revoke(channel, user)
    assert await publisher.history(f"notifications/{user}") == []


async def test_every_endpoint_needs_no_right_but_those_that_are_printed(
    api: Api, redis_url: str, prefix: str
) -> None:
    """What one of these calls lacks would be answered as rejected; what a try of rights lacks, too."""
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/v1/publish", {"channel": CHANNEL, "data": 1}),
        ("POST", "/v1/publish", {"channel": CHANNEL, "data": 1, "at": time.time() + 600}),
        ("POST", "/v1/publish", {"channel": CHANNEL, "data": 1, "wait_confirmed": 0.1}),
        ("POST", "/v1/broadcast", {"users": ["u"], "data": 1}),
        ("DELETE", f"/v1/scheduled/{'0' * 32}", None),
        ("DELETE", "/v1/messages/notifications/u?message=1", None),
        ("GET", "/v1/receipts/notifications/u?message=1", None),
        ("PUT", "/v1/grants", {"channel": "run-results/s", "user": "u"}),
        ("PUT", "/v1/grants", {"channel": "run-results/s", "user": "u", "ttl": None}),
        ("DELETE", "/v1/grants?channel=run-results%2Fs&user=u", None),
        ("POST", "/v1/disconnect", {"user": "u"}),
        ("POST", "/v1/revoke-token", {"jti": "j", "until": time.time() + 60}),
        ("POST", "/v1/revoke-token", {"user": "u", "before": time.time()}),
        ("GET", "/v1/history/notifications/u", None),
        ("GET", "/v1/channels/rooms/r", None),
        ("GET", "/v1/connections/u", None),
        ("GET", "/v1/users/u", None),
        ("GET", "/v1/channels?start=r", None),
        ("GET", "/v1/subscriptions/rooms/r", None),
        ("GET", "/v1/nodes", None),
        ("GET", "/v1/stats", None),
        ("DELETE", "/v1/users/u", None),
    ]
    for method, path, body in calls:
        answer = await api.ask(method, path, body=body)
        assert answer.status in {200, 204}, (path, answer.text)
    (line,) = (await api.lines([{"channel": CHANNEL, "data": 1}])).lines
    assert line["id"]
    headers = {"Authorization": f"Bearer {KEY}"}
    async with api.session.get(f"{api.url}/v1/watch?user=u", headers=headers) as watched:
        assert watched.status == 200
    document = (await api.ask("GET", "/v1/openapi.json", None)).json["paths"]
    served = {(method.upper(), path) for path, each in document.items() for method in each}
    tried = {(method, path.split("/")[2].partition("?")[0]) for method, path, _ in calls}
    assert {(method, path.split("/")[2]) for method, path in served} == {
        *tried,
        ("POST", "publish-many"),
        ("GET", "watch"),  # an answer without an end
    }
    with looking_at(redis_url) as admin:
        refused = await asyncio.to_thread(denied, admin, f"api-{prefix}")
    # That of the redis package, which does no harm.
    assert refused <= {"client|setinfo"}
