"""``gateway conformance`` as an operator calls it: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

from publisher import AsyncPublisher
from tests.processes.test_serve import run
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.redis_server import free_port
from tests.support.tokens import SECRET

SOME = ("S-103", "S-111", "S-401", "S-503", "S-805")


def options(node: GatewayProcess, *only: str) -> list[str]:
    return ["conformance", "--url", node.url, *(word for each in only for word in ("--only", each))]


async def test_each_result_is_a_line_and_an_object(redis_url: str, prefix: str) -> None:
    known = {
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_REDIS_PREFIX": prefix,
        "GATEWAY_JWT_SECRET": SECRET,
    }
    async with gateway_process(redis_url, prefix) as node:
        code, out, err = await run(*options(node, *SOME), "--json", **known)
        assert (code, err) == (0, "")
        told = {each["id"]: each for each in map(json.loads, out.splitlines())}
        assert {id_: each["result"] for id_, each in told.items()} == {
            "S-103": "passed",
            "S-111": "skipped",
            "S-401": "passed",
            "S-503": "passed",
            "S-805": "skipped",
        }
        assert "--slow" in told["S-805"]["detail"]
        assert told["S-103"]["requirement"]
        code, out, err = await run(
            *options(node, "S-103", "S-111"), "--allowed-origins", "https://a.example", **known
        )
        assert (code, err) == (1, "")
        assert "failed   S-111" in out
        assert out.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"


async def test_it_publishes_by_the_api_and_signs_with_a_secret_from_a_file(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    key, secret, port = tmp_path / "key", tmp_path / "secret", free_port()
    key.write_text("k" * 32)
    secret.write_text(SECRET)
    keys = {"conformance": {"key": "k" * 32, "scopes": ["publish", "grant"]}}
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(keys))
    async with gateway_process(redis_url, prefix, api_port=port, api_keys=f"@{file}") as node:
        given = [*options(node, "S-408", "S-503", "S-804"), "--jwt-secret-file", str(secret)]
        api = ["--api", f"http://127.0.0.1:{port}", "--api-key-file", str(key)]
        code, out, err = await run(*given, *api)
        assert (code, err) == (0, "")
        assert "passed   S-408" in out
        assert "passed   S-503" in out
        assert "skipped  S-804" in out
        assert "the API key may not: POST disconnect" in out
        async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
            nodes = await publisher.nodes()
        assert len(nodes) == 1
        key.write_text("x" * 32)
        code, out, err = await run(*given, *api)
        assert (code, out) == (1, "")
        assert err.startswith("gateway: PUT /v1/grants: HTTP 401") or "HTTP 401" in err


async def test_what_is_wrong_with_the_command_is_said(tmp_path: Path) -> None:
    somewhere = "ws://127.0.0.1:1"
    for given, expected in (
        (("--url", "http://x"), "--url must be ws://"),
        (("--url", somewhere, "--only", "S-999"), "no such requirement"),
        (("--url", somewhere, "--api", "http://x"), "belong together"),
        (("--url", somewhere, "--jwt-secret-file", str(tmp_path / "no")), "--jwt-secret-file"),
    ):
        code, out, err = await run("conformance", *given, GATEWAY_REDIS_URL="redis://127.0.0.1:1")
        assert (code, out) == (2, ""), given
        assert expected in err
        assert err.count("\n") == 1


async def test_where_nobody_is_one_sentence_says_so_and_where_redis_is_not(
    redis_url: str, prefix: str
) -> None:
    known = {"GATEWAY_REDIS_PREFIX": prefix, "GATEWAY_JWT_SECRET": SECRET}
    given = ("conformance", "--url", f"ws://127.0.0.1:{free_port()}")
    code, out, err = await run(*given, GATEWAY_REDIS_URL=redis_url, **known)
    assert (code, out) == (2, "")
    assert err.startswith("gateway: --url: nobody is at 127.0.0.1:")
    assert err.count("\n") == 1
    code, out, err = await run(
        *given, GATEWAY_REDIS_URL=f"redis://127.0.0.1:{free_port()}", **known
    )
    assert (code, out) == (1, "")
    assert "Redis" in err
