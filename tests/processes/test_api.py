"""The HTTP API of gateways as operators run them."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from tests.processes.test_serve import run
from tests.support.api import KEY, api_at, keys_in
from tests.support.client import connected
from tests.support.processes import gateway_process
from tests.support.redis_server import RedisServer, free_port
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until


async def test_what_a_key_does_stands_in_the_audit_log_with_its_name(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    file, port = tmp_path / "audit.log", free_port()
    settings = {"api_port": port, "api_keys": f"@{keys_in(tmp_path)}", "audit_log": file}
    async with (
        gateway_process(redis_url, prefix, **settings) as gateway,
        api_at(f"http://127.0.0.1:{port}") as api,
        connected(gateway.url, make_token("u")) as client,
        connected(gateway.url, make_token("v")) as other,
    ):
        (one,) = (await api.ask("GET", "/v1/connections/u")).json["connections"]
        body = {"user": "u", "reason": "moved", "connection": one["connection"]}
        assert (await api.ask("POST", "/v1/disconnect", body=body)).status == 204
        assert (await client.expect(code="disconnected"))["message"] == "moved"
        body = {"user": "v", "before": time.time() + 60}
        assert (await api.ask("POST", "/v1/revoke-token", body=body)).status == 204
        await other.expect(code="token_revoked")
        jti = {"jti": "j-1", "until": time.time() + 60}
        assert (await api.ask("POST", "/v1/revoke-token", body=jti)).status == 204
        assert (await api.ask("DELETE", "/v1/users/w")).status == 204
        mixed = {"jti": "j-1", "before": 1}
        assert (await api.ask("POST", "/v1/revoke-token", body=mixed)).status == 400
        assert (await api.ask("GET", "/v1/connections/u")).json == {"connections": []}

        def audited() -> bool:
            told = [json.loads(each) for each in file.read_text().splitlines()]
            asked = [each for each in told if each["event"] == "api_call"]
            assert {each["key"] for each in asked} <= {"backend"}
            acted = [each["event"] for each in told if each.get("actor") == "backend"]
            users = [each.get("user") for each in asked]
            return users == ["u", "v", None, "w"] and acted.count("ended") == 2

        await until(audited)
        # The publisher's own audit log is for backends.
        assert "disconnected" not in gateway.output
        assert KEY not in gateway.output + file.read_text()
        assert await gateway.terminate() == 0


async def test_what_redis_may_have_heard_is_told(prefix: str, tmp_path: Path) -> None:
    body, port = {"channel": "notifications/u", "data": 1}, free_port()
    settings = {"api_port": port, "api_keys": f"@{keys_in(tmp_path)}", "redis_timeout_seconds": 0.5}
    server = RedisServer(tmp_path)
    server.start()
    try:
        async with (
            gateway_process(server.url, prefix, **settings),
            api_at(f"http://127.0.0.1:{port}") as api,
        ):
            assert (await api.ask("POST", "/v1/publish", body=body)).status == 200
            server.freeze()
            frozen = await api.ask("POST", "/v1/publish", body=body)
            server.stop()
            gone = await api.ask("POST", "/v1/publish", body=body)
            (line,) = (await api.lines([body])).lines
    finally:
        server.stop()
    for answer, maybe_sent in ((frozen.json, True), (gone.json, False), (line, False)):
        assert (answer["status"], answer["code"]) == (503, "unavailable")
        assert (answer["maybe_sent"], answer["retryable"]) == (maybe_sent, True)
        assert str(server.port) not in str(answer)
    assert {each.headers["Retry-After"] for each in (frozen, gone)} == {"1"}


async def test_workers_share_the_port(redis_url: str, prefix: str, tmp_path: Path) -> None:
    port = free_port()
    settings = {"api_port": port, "api_keys": f"@{keys_in(tmp_path)}"}
    async with (
        gateway_process(redis_url, prefix, workers=2, **settings),
        api_at(f"http://127.0.0.1:{port}") as api,
    ):
        answers = await asyncio.gather(*(api.ask("GET", "/v1/nodes") for _ in range(20)))
        assert {each.status for each in answers} == {200}

        async def both() -> bool:
            return (await api.ask("GET", "/v1/stats")).json["ready"] == 2

        await until(both)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, "GATEWAY_API_PORT and GATEWAY_CONSOLE need GATEWAY_API_KEYS"),
        ({"GATEWAY_API_KEYS": "@/no/such/file"}, "GATEWAY_API_KEYS: "),
        ({"GATEWAY_API_KEYS": json.dumps({"a": {"key": KEY}})}, "scopes of a"),
    ],
    ids=str,
)
async def test_keys_that_cannot_be_used_end_the_start_and_are_found_by_check(
    redis_url: str, prefix: str, keys: dict[str, str], told: str
) -> None:
    given = {
        "GATEWAY_API_PORT": "0",
        "GATEWAY_PORT": "0",
        "GATEWAY_INTERNAL_PORT": "0",
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_REDIS_PREFIX": prefix,
        "GATEWAY_JWT_SECRET": SECRET,
        **keys,
    }
    code, _, error = await run("serve", **given)
    assert (code, told in error, KEY in error) == (2, True, False)
    code, output, _ = await run("check", **given)
    assert code == 1
    assert any(told in each for each in json.loads(output)["errors"])


async def test_a_node_that_drains_goes_on_to_serve_and_ends_each_connection_with_its_next_answer(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    port = free_port()
    settings = {"api_port": port, "api_keys": f"@{keys_in(tmp_path)}", "drain_delay_seconds": 5}
    body = {"channel": "notifications/u", "data": 1}
    async with (
        gateway_process(redis_url, prefix, **settings) as gateway,
        api_at(f"http://127.0.0.1:{port}") as api,
    ):
        assert "Connection" not in (await api.ask("POST", "/v1/publish", body=body)).headers
        ending = asyncio.create_task(gateway.terminate())
        await until(lambda: "event=drain_started" in gateway.output)
        # The connection that is there already, and a new one.
        for _ in range(2):
            answer = await api.ask("POST", "/v1/publish", body=body)
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert await ending == 0
