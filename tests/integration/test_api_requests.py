"""What the HTTP API refuses before anything is done: requests that are malformed, too large, too slow or too many."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from pydantic import SecretStr

from gateway.api import bodies, exchange
from gateway.api.asking import Endpoint
from gateway.api.endpoints import ENDPOINTS
from gateway.web import pages
from publisher import AsyncPublisher
from tests.support.api import KEY, Api, api_at, keys_in
from tests.support.certificates import Authority
from tests.support.nodes import Node, running_node
from tests.support.requests import line
from tests.support.waiting import until

CHANNEL = "notifications/u"


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


@pytest.mark.parametrize(
    "endpoint", [each for each in ENDPOINTS if not each.keyed], ids=lambda each: each.summary
)
async def test_an_idempotency_key_without_effect_is_refused(
    api: Api, publisher: AsyncPublisher, endpoint: Endpoint
) -> None:
    path = re.sub(r"{\w+}", "x", endpoint.path)
    answer = await api.ask(endpoint.method, path, headers={"Idempotency-Key": "k"})
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert "Idempotency-Key has no effect here" in answer.json["detail"]
    assert ("idempotency_key" in answer.json["detail"]) == (endpoint.path == "/v1/publish-many")


async def test_what_is_not_served_is_told_as_a_problem(api: Api, api_node: Node) -> None:
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
    _, metrics = await api_node.get("/metrics")
    assert 'gateway_api_requests_total{status="404"} 1.0' in metrics


@pytest.mark.parametrize("name", ["until", "before", "at"])
async def test_a_moment_in_milliseconds_is_told_by_its_name_and_unit(api: Api, name: str) -> None:
    path, others = {
        "until": ("/v1/revoke-token", {"jti": "j"}),
        "before": ("/v1/revoke-token", {"user": "u"}),
        "at": ("/v1/publish", {"channel": CHANNEL, "data": 1}),
    }[name]
    answer = await api.ask("POST", path, body={**others, name: 1_800_000_000_000})
    assert answer.status == 400
    assert answer.json["detail"].startswith(f"{name} must be below ")
    assert "Seconds since 1970" in answer.json["detail"]


async def test_what_is_no_id_of_a_scheduled_message_is_told_what_one_is(api: Api) -> None:
    answer = await api.ask("DELETE", "/v1/scheduled/zzz")
    assert answer.status == 400
    assert "32 hexadecimal digits" in answer.json["detail"]


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


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what a node reads from the connections of its API."""
    sizes: list[int] = []
    read = pages.Exchange.data_received

    def noted(self: pages.Exchange, data: bytes) -> None:
        if data:
            sizes.append(len(data))
        read(self, data)

    monkeypatch.setattr(pages.Exchange, "data_received", noted)
    return sizes


@pytest.mark.parametrize(("key", "status"), [(KEY, 200), ("x" * 32, 401)], ids=["good", "bad"])
async def test_what_comes_byte_by_byte_is_read_now_and_then(
    parts: list[int], api: Api, key: str, status: int
) -> None:
    """Also what follows a refusal, which is not to be looked at."""
    body = BODY.ljust(400)
    begun = head(f"Content-Length: {len(body)}").replace(KEY.encode(), key.encode())
    async with line(api.url, begun) as slow:
        for byte in body:
            slow.writer.write(bytes([byte]))
            await asyncio.sleep(0.001)
        assert (await slow.answer()).status == status

        async def is_read() -> bool:
            return sum(parts) == len(begun + body)

        await until(is_read)
    assert len(parts) < 100


async def test_many_requests_over_one_connection_are_read_as_they_come(
    parts: list[int], api: Api
) -> None:
    began = time.monotonic()
    async with line(api.url) as each:
        for count in range(1, 101):
            each.writer.write(head(f"Content-Length: {len(BODY)}"))
            await until(lambda count=count: len(parts) == 2 * count - 1)
            each.writer.write(BODY)
            assert (await each.answer()).status == 200
    assert time.monotonic() - began < 15


async def test_the_document_is_served_to_everybody(api: Api) -> None:
    answer = await api.ask("GET", "/v1/openapi.json", None)
    assert (answer.status, answer.json["openapi"]) == (200, "3.1.0")
    assert "/v1/publish" in answer.json["paths"]
    assert (await api.ask("GET", f"/v1/openapi.json?key={KEY}", None)).status == 400


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/v1/publish", "application/json", b"{"),
        ("/v1/publish-many", "application/x-ndjson", b'{"channel": "notif'),
    ],
)
async def test_a_body_that_is_too_slow_is_told_so(
    api: Api,
    publisher: AsyncPublisher,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    kind: str,
    body: bytes,
) -> None:
    monkeypatch.setattr(bodies, "_BODY_SECONDS", 0.2)
    monkeypatch.setattr(bodies, "_LINES_SECONDS", 0.2)
    begun = head("Content-Length: 1000").replace(b"/v1/publish", path.encode())
    begun = begun.replace(b"application/json", kind.encode())
    async with line(api.url, begun + body) as slow:
        answer = await slow.answer()
        assert (answer.status, json.loads(answer.body)["code"]) == (408, "body_too_slow")
        assert "application/problem+json" in answer.head
        assert "connection: close" in answer.head.lower()
    assert await publisher.history(CHANNEL) == []


async def test_lines_that_came_before_the_rest_was_too_slow_have_their_answers(
    api: Api, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_LINES_SECONDS", 0.5)
    begun = head("Content-Length: 1000").replace(b"/v1/publish", b"/v1/publish-many")
    begun = begun.replace(b"application/json", b"application/x-ndjson")
    async with line(api.url, begun + BODY + b"\n" + BODY) as slow:
        answer = await slow.answer()
        told = [json.loads(each) for each in answer.body.splitlines()]
    assert answer.status == 200
    assert [each.get("code") for each in told] == [None, "body_too_slow"]
    assert len(await publisher.history(CHANNEL)) == 1


async def test_what_redis_refuses_is_logged_once_a_request(
    api: Api, publisher: AsyncPublisher, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    await publisher._client.set(f"{prefix}:log:{{{CHANNEL}}}", "no sorted set")
    other = "notifications/other"
    part = BODY + b"\n" + BODY.replace(CHANNEL.encode(), other.encode()) + b"\n"
    begun = head(f"Content-Length: {3 * len(part)}", "Expect: 100-continue")
    begun = begun.replace(b"/v1/publish", b"/v1/publish-many")
    async with line(api.url, begun.replace(b"application/json", b"application/x-ndjson")) as slow:
        assert (await slow.answer()).status == 100
        for number in range(1, 4):
            slow.writer.write(part)

            async def is_published(number: int = number) -> bool:
                return len(await publisher.history(other)) == number

            await until(is_published)
        told = [json.loads(each).get("code") for each in (await slow.answer()).body.splitlines()]
    assert told == ["rejected", None] * 3
    (logged,) = [each for each in caplog.messages if each.startswith("api_call_failed")]
    assert "code=rejected calls=3 error=" in logged


async def test_the_certificate_of_the_internal_port_encrypts_it(
    redis_url: str, prefix: str, tmp_path: Path, authority: Authority, trust: ssl.SSLContext
) -> None:
    signed = authority.sign("localhost", addresses=("127.0.0.1",))
    files = {"internal_tls_certificate": signed.certificate, "internal_tls_key": signed.key}
    keys = SecretStr(f"@{keys_in(tmp_path)}")
    async with (
        running_node(redis_url, prefix, api_port=0, api_keys=keys, **files) as node,
        api_at(node.api_url) as api,
    ):
        assert node.api_url.startswith("https:")
        body = {"channel": CHANNEL, "data": 1}
        assert (await api.ask("POST", "/v1/publish", body=body, ssl=trust)).status == 200
        answers = await api.lines([body] * 2_000, ssl=trust)
        assert len(answers.lines) == 2_000
        # In clear nothing is answered, a key neither taken nor told.
        with pytest.raises(aiohttp.ClientError):
            async with api_at(node.api_url.replace("https", "http")) as unencrypted:
                await unencrypted.ask("GET", "/v1/nodes")


async def test_an_answer_that_is_not_read_is_not_kept_for_ever(
    api_node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_TAKEN_SECONDS", 0.3)
    for _ in range(8):
        await publisher.publish(CHANNEL, "x" * 1_000_000)
    ask = f"GET /v1/history/{CHANNEL} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    parts, loop = urlsplit(api_node.api_url), asyncio.get_running_loop()
    with contextlib.closing(socket.socket()) as raw:
        raw.setblocking(False)
        # Before connecting: the window is agreed upon then.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        await loop.sock_connect(raw, (parts.hostname, parts.port))
        await loop.sock_sendall(raw, ask.encode())
        assert await loop.sock_recv(raw, 15) == b"HTTP/1.1 200 OK"
        api = api_node.gateway.api
        assert api is not None
        await until(lambda: not api._publishers._admission.requests.taken)
        taken = 0
        while part := await loop.sock_recv(raw, 65_536):
            taken += len(part)
    # No more than what the kernel had taken for it.
    assert taken < 8_000_000
