"""What comes to the clients' port before anybody is let in: how it is answered, counted and logged."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiohttp import web

from gateway.web import new_connection
from gateway.web.pages import HttpPages
from gateway.web.server import InternalPort, Ports
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node
from tests.support.requests import UPGRADE, Answer, answer_to, cases, handshake, line, request
from tests.support.tokens import make_token
from tests.support.waiting import until

HANDSHAKES = cases("handshakes.json")
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(99)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the gateway has logged."""
    return [each.getMessage() for each in caplog.records if each.name.startswith("gateway")]


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each for each in lines(caplog) if each.startswith("connection_refused")]


def is_bounded(caplog: pytest.LogCaptureFixture, requests: int = 1) -> bool:
    """Whether so many requests have made no more than a line each, none with a traceback."""
    heard = [each for each in caplog.records if each.name != "asyncio"]
    return (
        len(heard) <= requests
        and all(len(each.getMessage()) < 600 for each in heard)
        and not any(each.exc_info for each in heard)
    )


# -- the cases of the field -----------------------------------------------------------------------


def as_bytes(case: dict[str, Any]) -> bytes:
    token = make_token("u")
    text = [
        each.replace("SUBPROTOCOL-WITH-TOKEN", f"bearer.{token}").replace("TOKEN", token)
        for each in case["request"]
    ]
    if case.get("raw"):
        return "".join(text).encode("latin-1")
    return request(*text) + bytes(2 * 2**20 if "2 MB" in case.get("note", "") else 0)


@pytest.mark.parametrize(
    "case", HANDSHAKES, ids=lambda case: str(case.get("note", case["request"]))
)
async def test_each_request_of_the_field_gets_its_answer(
    node: Node, caplog: pytest.LogCaptureFixture, case: dict[str, Any]
) -> None:
    caplog.set_level(logging.INFO)
    answer = await answer_to(node.url, as_bytes(case))
    allowed = case["status"] if isinstance(case["status"], list) else [case["status"]]
    assert answer.status in allowed
    assert case.get("has", "") in answer.head
    if answer.status == 101:
        assert "Sec-WebSocket-Accept: " in answer.head
        assert lines(caplog) == []
        return
    assert "Connection: close" in answer.head
    [logged] = refusals(caplog)
    assert is_bounded(caplog)
    assert "address=127.0.0.1" in logged
    assert sum(node.gateway.stats.connections_refused.values()) == 1


async def test_the_answer_to_a_handshake_is_that_of_the_standard(node: Node) -> None:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3
    head = [each for each in UPGRADE if not each.startswith("Sec-WebSocket-Key")]
    answer = await answer_to(
        node.url, request(f"GET /?token={make_token('u')} HTTP/1.1", *head, key)
    )
    assert answer.head.split("\r\n") == [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ]


REFUSED = {
    "a key that is no base64": (["Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=!"], 400, "bad_request"),
    "a key of 17 bytes": (["Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZmc="], 400, "bad_request"),
    "an empty key": (["Sec-WebSocket-Key:"], 400, "bad_request"),
    "two versions": (["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"], 426, "version_required"),
    "no version": (["Sec-WebSocket-Version:"], 426, "version_required"),
    "another upgrade": (["Upgrade: h2c"], 426, "upgrade_required"),
    "no upgrade": (["Upgrade:"], 426, "upgrade_required"),
    "no upgrade of this connection": (["Connection: keep-alive"], 426, "upgrade_required"),
    "a body": (["Content-Length: 5"], 400, "bad_request"),
    "a body in chunks": (["Transfer-Encoding: chunked"], 400, "bad_request"),
    "a second host": (["Host: a", "Host: b"], 400, "bad_request"),
    "no host": (["Host"], 400, "bad_request"),
}  # fmt: skip


@pytest.mark.parametrize(("instead", "status", "code"), REFUSED.values(), ids=REFUSED)
async def test_a_handshake_that_is_none_is_told_why(
    node: Node, instead: list[str], status: int, code: str
) -> None:
    names = {each.partition(":")[0] for each in instead}
    kept = [each for each in UPGRADE if each.partition(":")[0] not in names]
    answer = await answer_to(
        node.url, request(f"GET /?token={make_token('u')} HTTP/1.1", *kept, *instead)
    )
    assert (answer.status, answer.code) == (status, code)
    assert node.gateway.stats.connections_refused == {code: 1}


@pytest.mark.parametrize(
    "instead",
    [
        ["Upgrade: h2c", "Upgrade: WebSocket"],
        ["Connection: keep-alive", "Connection: close,upgrade"],
        ["Content-Length: 0"],
    ],
)
async def test_a_handshake_may_be_written_in_several_ways(node: Node, instead: list[str]) -> None:
    names = {each.partition(":")[0] for each in instead}
    kept = [each for each in UPGRADE if each.partition(":")[0] not in names]
    answer = await answer_to(
        node.url, request(f"GET /?token={make_token('u')} HTTP/1.1", *kept, *instead)
    )
    assert answer.status == 101


async def test_an_answer_to_head_has_no_body(node: Node) -> None:
    for path in ("/", "/other"):
        async with line(node.url, request(f"HEAD {path} HTTP/1.1", "Host: x")) as each:
            raw = await each.reader.read()
        assert raw.startswith((b"HTTP/1.1 405 ", b"HTTP/1.1 404 "))
        assert raw.endswith(b"\r\n\r\n")


async def test_there_is_nothing_at_other_paths(node: Node) -> None:
    for path in ("/other", "/ws/", "/%77s", "//"):
        answer = await answer_to(node.url, handshake(make_token("u"), path=path))
        assert answer.status == 404
        assert "Connection: close" in answer.head


async def test_a_request_that_comes_byte_by_byte_is_one(node: Node) -> None:
    async with line(node.url) as slow:
        for byte in handshake(make_token("u")):
            slow.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await slow.answer()).status == 101


# -- what is kept and logged of what is refused ---------------------------------------------------

MIB = 2**20


@pytest.mark.parametrize(
    "refused",
    [
        handshake("x").replace(b"Version: 13", b"Version: 12"),
        request("GET / HTTP/1.1", "Host: x"),
        request("nonsense"),
        handshake("x"),
    ],
    ids=["another version", "no upgrade", "no request", "a bad token"],
)
async def test_what_follows_a_refused_request_is_dropped(node: Node, refused: bytes) -> None:
    async with line(node.url, refused + bytes(4 * MIB)) as each:
        answer = await each.answer()
        assert answer.status in {400, 426, 101}
        for connection in node.new_connections:
            assert connection._received == b""
        assert await each.ended()
    await until(lambda: not node.new_connections)


async def test_a_client_that_never_stops_is_cut_off(node: Node) -> None:
    async with line(node.url, request("nonsense")) as each:
        with pytest.raises(ConnectionError):
            for _ in range(64):
                each.writer.write(bytes(MIB))
                await each.writer.drain()


async def test_a_flood_of_bad_requests_is_counted_and_makes_a_few_lines(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for _ in range(100):
        assert (await answer_to(node.url, b"\x00\x01\x02")).status == 400
    assert node.gateway.stats.connections_refused == {"bad_request": 100}
    assert 1 <= len(refusals(caplog)) <= 12
    assert is_bounded(caplog, 12)


async def test_a_flood_of_one_kind_hides_no_other(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(30):
        await answer_to(node.url, request("GET / HTTP/1.1", "Host: x"))
    await answer_to(node.url, TLS_HELLO)
    assert "cause='tls'" in refusals(caplog)[-1]


HINTS = {
    "TLS": (TLS_HELLO, "bad_request", "TLS"),
    "HTTP/2": (request("PRI * HTTP/2.0") + b"SM\r\n\r\n", "bad_request", "HTTP/2"),
    "the PROXY protocol": (b"PROXY TCP4 1.2.3.4 1.2.3.5 1 2\r\n", "bad_request", "PROXY protocol"),
    "a removed Upgrade": (
        handshake("x").replace(b"Upgrade: websocket\r\n", b""),
        "upgrade_required",
        "removed the headers Upgrade or Connection",
    ),
    "a removed Connection": (
        handshake("x").replace(b"Connection: Upgrade\r\n", b"Connection: close\r\n"),
        "upgrade_required",
        "removed the headers Upgrade or Connection",
    ),
}


@pytest.mark.parametrize(("data", "reason", "hint"), HINTS.values(), ids=HINTS)
async def test_a_common_mistake_in_front_of_the_node_is_told_with_a_hint(
    node: Node, caplog: pytest.LogCaptureFixture, data: bytes, reason: str, hint: str
) -> None:
    caplog.set_level(logging.INFO)
    await answer_to(node.url, data)
    [logged] = refusals(caplog)
    assert f"reason={reason} " in logged
    assert hint in logged.partition("hint=")[2]


async def test_a_browser_that_opens_the_url_is_no_mistake_of_a_proxy(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = await answer_to(node.url, request("GET / HTTP/1.1", "Host: x", "Accept: text/html"))
    assert (answer.status, answer.code) == (426, "upgrade_required")
    assert "hint" not in refusals(caplog)[0]


@pytest.mark.parametrize("sent", [b"", b"GET / HT", handshake("x")[:-2]])
async def test_a_request_that_does_not_come_in_time_ends_the_connection(
    node: Node, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(new_connection, "_REQUEST_SECONDS", 0.1)
    async with line(node.url, sent) as each:
        assert await each.ended()
    assert node.gateway.stats.connections_refused == {"no_request": 1}


async def test_a_connection_that_ends_by_itself_is_no_refusal(node: Node) -> None:
    async with line(node.url):
        await until(lambda: node.new_connections)
    await until(lambda: not node.new_connections)
    assert not node.gateway.stats.connections_refused


async def test_a_long_origin_is_cut_in_the_log(
    start_node: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = await start_node(allowed_origins=["https://school.example"])
    origin = "Origin: https://" + "a" * 5_000
    answer = await answer_to(node.url, handshake(make_token("u"), origin))
    assert (answer.status, answer.code) == (403, "origin_not_allowed")
    [logged] = refusals(caplog)
    assert "reason=origin " in logged
    assert len(logged) < 600


# -- secrets --------------------------------------------------------------------------------------

SECRETS = cases("secrets_in_logs.json")


def parts_of(token: str) -> set[str]:
    """Every part of a token that is longer than eight characters."""
    return {token[at : at + 9] for at in range(len(token) - 8)}


def with_secret(case: dict[str, Any], token: str, more: tuple[str, ...]) -> bytes:
    def filled(text: str) -> str:
        return (
            text.replace("TOKEN-WITH-DOTS-AS-%2E", token.replace(".", "%2E"))
            .replace("TOKEN-WITH-DOTS-AS-%252E", token.replace(".", "%252E"))
            .replace("SUBPROTOCOL-WITH-TOKEN", f"bearer.{token}")
            .replace("TOKEN", token)
            .replace("9,000 letters", "x" * 9_000)
        )

    return request(filled(case["request"]), *more, *map(filled, case.get("headers", ())))


async def both_ports(node: Node, data: bytes) -> list[Answer]:
    return [await answer_to(url, data) for url in (node.url, node.internal_url)]


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
@pytest.mark.parametrize("more", [(), ("Host: x",), UPGRADE], ids=["bare", "a host", "a handshake"])
@pytest.mark.parametrize("case", SECRETS, ids=str)
async def test_no_secret_is_logged_or_sent_back(
    node: Node,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    case: dict[str, Any],
    more: tuple[str, ...],
    level: str,
) -> None:
    caplog.set_level(level)
    token = make_token("u")
    answers = await both_ports(node, with_secret(case, token, more))
    await until(lambda: not node.gateway.hub.connections)
    told = (
        caplog.text
        + "".join(capfd.readouterr())
        + "".join(a.raw.decode("latin-1") for a in answers)
    )
    assert not [part for part in parts_of(token) if part in told]


@pytest.mark.parametrize(
    "second",
    [b"GET /?token=SECRETSECRET HTTP/9.9\r\n\r\n", b"G\0T /?token=SECRETSECRET HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: SECRETSECRET\r\n\r\n"],
)  # fmt: skip
async def test_a_second_request_on_the_internal_port_tells_nothing_either(
    node: Node, caplog: pytest.LogCaptureFixture, second: bytes
) -> None:
    caplog.set_level(logging.DEBUG)
    first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with line(node.internal_url, first) as each:
        assert (await each.answer()).status == 200
        each.writer.write(second)
        answer = await each.answer()
        assert await each.ended()
    assert answer.status == 400
    assert "SECRETSECRET" not in caplog.text + answer.raw.decode("latin-1")
    assert is_bounded(caplog)


async def test_a_defect_in_a_page_is_logged_and_not_sent_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(_request: web.Request) -> web.Response:
        raise ZeroDivisionError("a defect")

    app = web.Application()
    app.router.add_get("/", broken)
    pages, ports = HttpPages(app), Ports(shared=False)
    await pages.start()
    host, port = await ports.listen(
        InternalPort(pages, None), "127.0.0.1", 0, "port", last_file=2**20
    )
    answer = await answer_to(f"http://{host}:{port}", request("GET / HTTP/1.1", "Host: x"))
    await ports.aclose()
    await pages.aclose()
    assert (answer.status, answer.code) == (500, "internal_error")
    assert b"defect" not in answer.raw
    [logged] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert (logged.getMessage(), logged.name) == ("page_failed", "gateway.web.pages")


async def test_who_is_let_in_leaves_no_line_at_the_usual_level(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connected(node.url, make_token("u")):
        pass
    await until(lambda: not node.gateway.hub.connections)
    assert lines(caplog) == []
