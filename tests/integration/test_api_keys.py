"""Keys of the HTTP API: who is let in, for what, and how often."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from publisher import AsyncPublisher
from tests.support.api import KEY, KEYS, READER, SLOW, Api
from tests.support.topology import ask_all, looking_at_async
from tests.support.waiting import until

CHANNEL = "notifications/u"


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
    refused_whole = (await api.ask("POST", "/v1/broadcast", SLOW, three)).json
    assert refused_whole["code"] == "too_many_messages"
    assert refused_whole["detail"].endswith(
        "messages a second, and so no more than that in one call"
    )


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


async def test_a_key_of_some_namespaces_takes_back_only_what_is_scheduled_there(
    api: Api, publisher: AsyncPublisher
) -> None:
    elsewhere, there = [
        await publisher.publish(channel, 1, at=time.time() + 600)
        for channel in ("run-results/s", CHANNEL)
    ]
    refused = await api.ask("DELETE", f"/v1/scheduled/{elsewhere.id}", SLOW)
    assert (refused.status, refused.json["code"]) == (403, "namespace_forbidden")
    assert await publisher.scheduled(elsewhere.id) == elsewhere
    for told in (True, False):
        answer = await api.ask("DELETE", f"/v1/scheduled/{there.id}", SLOW)
        assert answer.json == {"cancelled": told}


async def test_a_key_of_some_namespaces_forgets_nobody(
    api: Api, publisher: AsyncPublisher, tmp_path: Path
) -> None:
    key = "limited-key-of-the-tests-0123456789"
    limited = {"key": key, "scopes": ["disconnect"], "namespaces": ["notifications"]}
    (tmp_path / "api-keys.json").write_text(json.dumps({"limited": limited}))
    await publisher.publish(CHANNEL, 1)

    async def is_refused() -> bool:
        answer = await api.ask("DELETE", "/v1/users/u", key)
        return answer.status == 403 and answer.json["code"] == "namespace_forbidden"

    await until(is_refused)
    assert len(await publisher.history(CHANNEL)) == 1


async def test_a_key_that_is_gone_leaves_no_connection_to_redis(
    api: Api, tmp_path: Path, redis_url: str, prefix: str
) -> None:
    file = tmp_path / "api-keys.json"
    async with looking_at_async(redis_url) as admin:

        async def connections() -> int:
            found = await ask_all(admin, "CLIENT", "LIST")
            return str(found).count(f"api-{prefix}")

        before = await connections()
        assert (await api.ask("GET", "/v1/history/run-results/u", READER)).status == 200
        of_reader = await connections()
        assert of_reader > before
        file.write_text(json.dumps({"backend": KEYS["backend"]}))

        async def is_closed() -> bool:
            return await connections() == before

        await until(is_closed)
    assert (await api.ask("GET", "/v1/history/run-results/u", READER)).status == 401
    assert (await api.ask("GET", "/v1/history/run-results/u")).status == 200
