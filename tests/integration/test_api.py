"""The HTTP API from outside: what is published, given, taken and read by it, and what it refuses."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from publisher import AsyncPublisher, Outgoing
from tests.support.api import KEY, READER, SLOW, Api, api_at, keys_in
from tests.support.client import connected
from tests.support.nodes import Node, running_node
from tests.support.requests import line
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"


@pytest.fixture
async def node(redis_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Node]:
    # Its Redis user needs what a backend's does, besides.
    keys = SecretStr(f"@{keys_in(tmp_path)}")
    rooms = {"rooms": {"owner": "anyone", "presence": True}}
    async with running_node(redis_url, prefix, api_port=0, api_keys=keys, namespaces=rooms) as node:
        yield node


@pytest.fixture
async def api(node: Node) -> AsyncIterator[Api]:
    async with api_at(node.api_url) as api:
        yield api


async def test_a_message_is_published_and_delivered(api: Api, node: Node) -> None:
    async with connected(node.url, make_token("u")) as client:
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
    for wrong in (
        {"data": 1},
        {"data": 1, "users": ["a"], "channels": [CHANNEL]},
        {"users": ["a"]},
    ):
        assert (await api.ask("POST", "/v1/broadcast", body=wrong)).status == 400


async def test_grants_are_given_and_taken(api: Api, node: Node) -> None:
    channel = "run-results/s-1"
    async with connected(node.url, make_token("u")) as client:
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
    told = (await api.ask("GET", "/v1/history/notifications/u")).json
    assert told["more"] is True
    assert 8 <= len(told["messages"]) < 20


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


async def test_who_is_in_a_channel_is_read_where_that_is_noted(api: Api, node: Node) -> None:
    assert (await api.ask("GET", "/v1/channels/rooms/a%2Fb")).json == {"users": [], "count": 0}
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("rooms/a/b")

        async def is_there() -> bool:
            told = (await api.ask("GET", "/v1/channels/rooms/a/b")).json
            return bool(told == {"users": ["u"], "count": 1})

        await until(is_there)
    refused = await api.ask("GET", "/v1/channels/notifications/u")
    assert refused.status == 400
    assert "has no presence" in refused.json["detail"]


async def test_nodes_and_their_sums_are_read(api: Api) -> None:
    async def told() -> bool:
        return bool((await api.ask("GET", "/v1/stats")).json["ready"])

    await until(told)
    (node,) = (await api.ask("GET", "/v1/nodes")).json["nodes"]
    assert node["report"]["version"]
    stats = (await api.ask("GET", "/v1/stats")).json
    assert (stats["nodes"], stats["silent"], stats["draining"]) == (1, 0, 0)
    assert stats["connections_limit"] == node["report"]["connections_limit"]


async def test_who_shows_no_key_or_a_wrong_one_is_refused(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"channel": CHANNEL, "data": 1}
    for headers in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}):
        answer = await api.ask("POST", "/v1/publish", None, body, headers=headers)
        assert (answer.status, answer.json["code"]) == (401, "key_missing")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert answer.headers["Content-Type"] == "application/problem+json"
    for wrong in (KEY[:-1], KEY + "x", "ü" * 40, KEY.upper()):
        answer = await api.ask("POST", "/v1/publish", wrong, body)
        assert (answer.status, answer.json["code"]) == (401, "key_unknown")
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert "api_key_unknown address=127.0.0.1" in caplog.text
    assert KEY[:-1] not in caplog.text


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "token"])
async def test_a_key_in_the_query_is_no_key_and_is_refused_beside_one(
    api: Api, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await api.ask("GET", f"/v1/nodes?{name}={KEY}", None)).status == 401
    beside = await api.ask("GET", f"/v1/nodes?{name}={KEY}")
    assert beside.status == 400
    assert "Authorization" in beside.json["detail"]
    assert KEY not in caplog.text + beside.text


async def test_a_key_may_only_what_it_is_for(api: Api) -> None:
    body = {"channel": CHANNEL, "data": 1}
    refused = await api.ask("POST", "/v1/publish", READER, body)
    assert (refused.status, refused.json["code"]) == (403, "scope_missing")
    refused = await api.ask("GET", "/v1/history/notifications/u", READER)
    assert (refused.status, refused.json["code"]) == (403, "namespace_forbidden")
    assert (await api.ask("GET", "/v1/history/run-results/u", READER)).status == 200
    refused = await api.ask("POST", "/v1/publish", SLOW, {"channel": "run-results/u", "data": 1})
    assert refused.json["code"] == "namespace_forbidden"
    (told,) = (await api.lines([{"channel": "run-results/u", "data": 1}], SLOW)).lines
    assert told["code"] == "namespace_forbidden"


async def test_a_key_publishes_no_more_than_its_rate(api: Api, publisher: AsyncPublisher) -> None:
    told = (await api.lines([{"channel": CHANNEL, "data": n} for n in range(50)], SLOW)).lines
    refused = [each for each in told if each.get("status") == 429]
    assert 40 < len(refused) < 50
    assert {each["code"] for each in refused} == {"rate_limited"}
    assert len(await publisher.history(CHANNEL)) == 50 - len(refused)
    answers = [
        await api.ask("POST", "/v1/publish", SLOW, {"channel": CHANNEL, "data": 1})
        for _ in range(5)
    ]
    limited = next(each for each in answers if each.status == 429)
    assert limited.headers["Retry-After"] == "1"
    assert limited.json["maybe_sent"] is False
    three = {"users": ["a", "b", "c"], "data": 1}
    assert (await api.ask("POST", "/v1/broadcast", SLOW, three)).json["code"] == "too_many_messages"


async def test_keys_are_read_again_when_their_file_changes(
    api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "api-keys.json"
    file.write_text("{")
    await until(lambda: "api_keys_unusable" in caplog.text)
    assert (await api.ask("GET", "/v1/nodes")).status == 200
    key = "another-key-of-the-tests-0123456789"
    file.write_text(json.dumps({"other": {"key": key, "scopes": ["read"]}}))

    async def renewed() -> bool:
        return (await api.ask("GET", "/v1/nodes")).status == 401

    await until(renewed)
    assert (await api.ask("GET", "/v1/nodes", key)).status == 200


@pytest.mark.parametrize(
    ("status", "text", "headers"),
    [
        (400, "{", {}),
        (400, "", {}),
        (400, "[1]", {}),
        (400, '{"channel": "notifications/u"}', {}),
        (400, '{"channel": 5, "data": 1}', {}),
        (400, '{"channel": "notifications/u", "data": 1, "idempotencykey": "k"}', {}),
        (400, '{"channel": "no slash", "data": 1}', {}),
        (400, '{"channel": "notifications/u\\ud800", "data": 1}', {}),
        (400, '{"channel": "notifications/u", "data": NaN}', {}),
        (400, '{"channel": "notifications/u", "data": ' + "[" * 100_000, {}),
        (413, '{"channel": "notifications/u", "data": "' + "x" * 1_100_000 + '"}', {}),
        (413, "x" * 3_000_000, {}),
        (415, "{}", {"Content-Type": "text/plain"}),
        (415, "{}", {"Content-Type": "application/json; charset=latin-1"}),
        (415, "{}", {"Content-Encoding": "gzip"}),
        (400, '{"channel": "notifications/u", "data": 1}', {"Idempotency-Key": ""}),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_body_that_is_wrong_is_refused(
    api: Api, publisher: AsyncPublisher, status: int, text: str, headers: dict[str, str]
) -> None:
    given = {"Content-Type": "application/json", **headers}
    answer = await api.ask("POST", "/v1/publish", data=text, headers=given, compress=False)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert await publisher.history(CHANNEL) == []


async def test_what_is_not_served_is_told_as_a_problem(api: Api, node: Node) -> None:
    answer = await api.ask("GET", "/v2/publish")
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    answer = await api.ask("GET", "/v1/publish")
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"
    assert answer.headers["Server"] == "gateway"
    answer = await api.ask("GET", "/v1/history/run-results/x?limit=-1")
    assert answer.status == 400
    answer = await api.ask("GET", "/v1/history/run-results/x?limit=1&limit=2")
    assert answer.status == 400
    _, metrics = await node.get("/metrics")
    assert 'gateway_api_requests_total{status="404"} 1.0' in metrics


def head(*more: str) -> bytes:
    lines = ["POST /v1/publish HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}"]
    return "\r\n".join([*lines, "Content-Type: application/json", *more, "", ""]).encode()


BODY = b'{"channel": "notifications/u", "data": 1}'


@pytest.mark.parametrize(
    "data",
    [
        head(f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked") + BODY,
        head(f"Content-Length: {len(BODY)}", "Content-Length: 5") + BODY,
        head(f"Content-Length: +{len(BODY)}") + BODY,
        head("Transfer-Encoding: chunked, identity") + BODY,
        head("Transfer-Encoding: chunked") + b"zz\r\n" + BODY,
        head(f"Content-Length : {len(BODY)}") + BODY,
        head(f"Authorization: Bearer {KEY}", f"Content-Length: {len(BODY)}") + BODY,
        head("Idempotency-Key: a", "Idempotency-Key: b", f"Content-Length: {len(BODY)}") + BODY,
        head("X: " + "x" * 20_000),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=range(10),
)
async def test_a_head_that_may_mean_two_things_is_refused(
    api: Api, publisher: AsyncPublisher, data: bytes
) -> None:
    async with line(api.url, data) as each:
        answer = await each.answer()
        assert answer.status == 400
        assert json.loads(answer.body)["status"] == 400
        assert "application/problem+json" in answer.head
    assert await publisher.history(CHANNEL) == []


async def test_a_body_that_never_comes_holds_up_nobody(api: Api) -> None:
    async with line(api.url, head("Content-Length: 1000") + b"{") as slow:
        assert (await api.ask("GET", "/v1/nodes")).status == 200
        # It is read no further than to the answer, and has none yet.
        assert not slow.reader.at_eof()


async def test_the_document_is_served_to_everybody(api: Api) -> None:
    answer = await api.ask("GET", "/v1/openapi.json", None)
    assert (answer.status, answer.json["openapi"]) == (200, "3.1.0")
    assert "/v1/publish" in answer.json["paths"]
    assert (await api.ask("GET", f"/v1/openapi.json?key={KEY}", None)).status == 400


async def test_a_message_is_scheduled_collapsed_deleted_and_confirmed(
    api: Api, node: Node, publisher: AsyncPublisher
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
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        confirmed = {"channel": CHANNEL, "data": 3, "wait_confirmed": 20}
        told = (await api.ask("POST", "/v1/publish", body=confirmed)).json
        assert told["confirmed"] == ["u"]
    path = f"/v1/receipts/notifications/u?message={told['id']}"
    assert (await api.ask("GET", path)).json == {"receipts": [{"user": "u", "up_to": told["id"]}]}
    both = {**confirmed, "at": time.time() + 600}
    assert (await api.ask("POST", "/v1/publish", body=both)).status == 400
