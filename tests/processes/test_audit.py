"""The audit log of a gateway, as an operator has it: one run with everything that it tells."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from publisher import AsyncPublisher
from publisher.contract.revocations import digest_of
from tests.processes.test_serve import run
from tests.support.client import connected, opened
from tests.support.processes import gateway_process
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until

CHANNEL = "run-results/s"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


async def test_who_was_let_in_refused_ended_and_revoked_is_told_in_order_and_no_token(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "audit.log"
    token, bad = make_token("ann", jti="of-ann"), make_token("ann")[:-4] + "AAAA"
    old = make_token("bob", exp=1)
    async with (
        gateway_process(
            redis_url,
            prefix,
            audit_log=file,
            allowed_origins="https://app.example.org",
            max_connections_per_user=1,
        ) as node,
        AsyncPublisher.from_url(redis_url, prefix=prefix, actor="o'hara") as publisher,
    ):
        for each in (bad, old):
            async with opened(node.url, each) as client:
                await client.expect(type="error")
        origin = {"Origin": "https://app.example.org"}
        async with connected(node.url, token, headers=origin) as client:
            await publisher.grant(CHANNEL, "ann")
            await client.subscribe(CHANNEL)
            assert await publisher.revoke(CHANNEL, "ann")
            await client.expect(type="unsubscribed")
            async with opened(node.url, token) as second:
                await second.expect(code="connection_limit")
            await publisher.disconnect("ann", reason="moved")
            await client.expect(code="disconnected")
            assert await client.expect_close() == (1008, "disconnected")
        await publisher.revoke_token("of-ann", time.time() + 60)
        await publisher.revoke_tokens_before("ann", 1_700_000_000.5)
        async with connected(node.url, make_token("bob")):
            assert await node.terminate() == 0
        output = node.output
    text = file.read_text("utf-8")
    for each in (token, bad, old):
        assert each.rpartition(".")[0][-20:] not in text
        assert each.rpartition(".")[0][-20:] not in output
    told = lines(text)
    assert len(told) == len(text.splitlines())
    assert all(each["time"] and each["node"] for each in told)
    assert len({each["node"] for each in told}) == 1
    events = [
        (each["event"], each.get("user"), each.get("code") or each.get("channel")) for each in told
    ]
    assert events == [
        ("refused", None, "token_invalid"),
        ("refused", None, "token_expired"),
        ("admitted", "ann", None),
        ("grant_revoked", "ann", CHANNEL),
        ("refused", "ann", "connection_limit"),
        ("disconnect", "ann", None),
        ("ended", "ann", 1008),
        ("token_revoked", None, None),
        ("tokens_revoked", "ann", None),
        ("admitted", "bob", None),
        ("ended", "bob", 1001),
    ]
    admitted, revoked, _, disconnect, ended, token_revoked, tokens_revoked, _, last = told[2:]
    assert admitted["origin"] == "https://app.example.org"
    assert (disconnect["reason"], ended["reason"], last["reason"]) == (
        "moved",
        "disconnected",
        "draining",
    )
    assert (ended["connection"], ended["token"]) == (admitted["connection"], admitted["token"])
    assert token_revoked["token"] == admitted["token"] == digest_of("of-ann")
    assert tokens_revoked["before"] == 1_700_000_000.5
    assert (ended["actor"], "actor" in last) == ("o'hara", False)
    commands = revoked, disconnect, token_revoked, tokens_revoked
    assert {each["actor"] for each in commands} == {"o'hara"}
    assert {each["address"] for each in told if each not in commands} == {"127.0.0.1"}
    assert "admitted" not in output


async def test_workers_write_one_file_and_name_themselves(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "audit.log"
    async with gateway_process(redis_url, prefix, workers=2, audit_log=file) as node:

        async def both() -> bool:
            async with connected(node.url, make_token("u")):
                pass
            return {each["worker"] for each in lines(file.read_text())} == {1, 2}

        await until(both, 30)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_it_may_be_a_stream_too(redis_url: str, prefix: str, stream: str) -> None:
    async with gateway_process(redis_url, prefix, audit_log=stream) as node:
        async with connected(node.url, make_token("u")):
            pass
        await until(lambda: {each["event"] for each in lines(node.output)} == {"admitted", "ended"})


@pytest.mark.parametrize(
    ("where", "workers", "told"),
    [
        ("stdout", "2", "workers"),
        ("/no/such/folder/audit.log", "1", "/no/such/folder"),
        (" ", "1", "name a file"),
    ],
)
async def test_a_place_where_it_cannot_be_written_keeps_a_gateway_from_starting(
    where: str, workers: str, told: str
) -> None:
    code, _, said = await run(
        "serve",
        GATEWAY_JWT_SECRET=SECRET,
        GATEWAY_REDIS_URL="redis://127.0.0.1:1",
        GATEWAY_AUDIT_LOG=where,
        GATEWAY_WORKERS=workers,
        GATEWAY_PORT="0",
        GATEWAY_INTERNAL_PORT="0",
    )
    assert code == 2
    assert told in said


async def test_a_refusal_that_anybody_can_cause_is_told_a_few_times_with_how_many_were_left_out(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "audit.log"
    async with gateway_process(redis_url, prefix, audit_log=file) as node:
        for _ in range(30):
            async with opened(node.url, "nonsense") as client:
                await client.expect(type="error")
        await until(lambda: len(lines(file.read_text())) >= 10)
        assert await node.terminate() == 0
    assert 10 <= len(lines(file.read_text())) < 20
