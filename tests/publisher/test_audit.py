"""What a publisher tells of the access that it gives and takes, and on whose behalf."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from publisher import EVERYBODY, AsyncPublisher, InvalidInput, Publisher, Unavailable
from publisher.contract.revocations import digest_of

CHANNEL = "run-results/s"


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    lines = [json.loads(each.message) for each in caplog.records if each.name == "publisher.audit"]
    for each in lines:
        assert each.pop("time").endswith("Z")
    return lines


def test_each_call_that_gives_or_takes_access_is_told_with_who_has_asked_for_it(
    publisher_url: str, prefix: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "publisher.audit")
    until = time.time() + 60
    with Publisher.from_url(publisher_url, prefix=prefix, actor="張三") as publisher:
        publisher.publish(CHANNEL, "nothing of this is told")
        publisher.grant(CHANNEL, "ann", 60)
        publisher.grant(CHANNEL, EVERYBODY, None)
        publisher.run_result("s", stdout="", stderr="", exit_code=0, duration=0, user="bob")
        publisher.revoke(CHANNEL, "ann")
        publisher.disconnect("ann", reason="moved", connection="node/1")
        publisher.revoke_token("jti-1", until)
        publisher.revoke_tokens_before("ann", 1.5)
    ends = {"actor": "張三", "outcome": "done"}
    assert told(caplog) == [
        {"event": "granted", "channel": CHANNEL, "user": "ann", "ttl": 60, **ends},
        {"event": "granted", "channel": CHANNEL, "everybody": True, **ends},
        {"event": "granted", "channel": CHANNEL, "user": "bob", "ttl": 30 * 86_400, **ends},
        {"event": "revoked", "channel": CHANNEL, "user": "ann", **ends},
        {"event": "disconnected", "user": "ann", "connection": "node/1", "reason": "moved", **ends},
        {"event": "token_revoked", "token": digest_of("jti-1"), "until": until, **ends},
        {"event": "tokens_revoked", "user": "ann", "before": 1.5, **ends},
    ]
    assert "jti-1" not in caplog.text


async def test_the_asyncio_client_tells_the_same(
    publisher_url: str, prefix: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "publisher.audit")
    async with AsyncPublisher.from_url(publisher_url, prefix=prefix) as publisher:
        await publisher.grant(CHANNEL, "ann")
        await publisher.revoke(CHANNEL, "ann")
    assert [(each["event"], each["outcome"]) for each in told(caplog)] == [
        ("granted", "done"),
        ("revoked", "done"),
    ]


def test_what_has_failed_is_told_as_such(nobody: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "publisher.audit")
    with Publisher.from_url(nobody, retries=0) as publisher:
        with pytest.raises(Unavailable):
            publisher.disconnect("ann")
        with pytest.raises(InvalidInput):
            publisher.grant(CHANNEL, 7)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput):
            publisher.revoke_token(7, time.time() + 60)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="Unicode"):
            publisher.revoke_token("\ud800", time.time() + 60)
    assert [(each["event"], each["outcome"]) for each in told(caplog)] == [
        ("disconnected", "Unavailable"),
        ("granted", "InvalidData"),
        ("token_revoked", "InvalidData"),
        ("token_revoked", "InvalidData"),
    ]


async def test_a_call_that_is_cancelled_is_told_as_one_that_may_have_taken_effect(
    silent: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "publisher.audit")
    async with AsyncPublisher.from_url(silent) as publisher:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(publisher.disconnect("ann"), 0.2)
    [line] = told(caplog)
    assert (line["outcome"], line["maybe_sent"]) == ("cancelled", True)


def test_a_moment_has_one_shape_however_it_was_given(
    publisher: Publisher, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "publisher.audit")
    until = int(time.time()) + 60
    publisher.revoke_token("t", until)
    publisher.revoke_token("t", datetime.fromtimestamp(until, UTC))
    assert [each["until"] for each in told(caplog)] == [until, until]


def test_where_nobody_takes_its_lines_none_is_made(
    publisher: Publisher, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: object, **__: object) -> str:
        raise AssertionError("a line was made")

    monkeypatch.setattr("publisher.audit.json.dumps", fails)
    publisher.grant(CHANNEL, "ann")
    assert not told(caplog)
