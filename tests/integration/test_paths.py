"""Where on the clients' port the WebSocket is, and what balancers may ask there."""

from __future__ import annotations

import json
import logging

import aiohttp
import pytest
from pydantic import ValidationError

from gateway.settings import Settings
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node
from tests.support.requests import answer_to, handshake, line, request
from tests.support.tokens import make_token


async def get(node: Node, path: str) -> tuple[int, str]:
    """Ask the clients' port."""
    url = node.url.replace("ws", "http", 1) + path
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize("given", ["/realtime", "realtime/", "/a/b.c"])
async def test_the_websocket_is_below_the_path_and_nowhere_else(
    start_node: StartNode, given: str
) -> None:
    node = await start_node(path=given)
    base = f"/{given.strip('/')}"
    for path in (base, f"{base}/", f"{base}/ws"):
        url = f"{node.url}{path}?token={make_token('u')}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            assert (await socket.receive_json())["type"] == "connected"
    for path in ("/", "/ws", f"{base}s", f"{base}/other"):
        assert (await get(node, path))[0] == 404


@pytest.mark.parametrize(
    "path", ["/a b", "/a?b", "/a#b", "/{name}", "/a//b", "/..", "/a/../b", "/%61", "/é", "/healthz"]
)
def test_a_path_that_no_client_could_use_is_refused_at_the_start(path: str) -> None:
    with pytest.raises(ValidationError, match=r"must be a path such as|is a page for balancers"):
        Settings(path=path)


@pytest.mark.parametrize("base", ["", "/realtime"])
async def test_a_balancer_may_ask_at_the_clients_port(start_node: StartNode, base: str) -> None:
    node = await start_node(path=base)
    for below in {"", base}:
        assert await get(node, f"{below}/healthz") == (200, '{"status": "ok"}')
        status, body = await get(node, f"{below}/readyz")
        # What is behind it is for the internal port.
        assert (status, json.loads(body)) == (200, {"ready": True})
        assert (await get(node, f"{below}/metrics"))[0] == 404


async def test_at_the_clients_port_a_node_that_leaves_is_alive_and_not_ready(
    start_node: StartNode,
) -> None:
    node = await start_node()
    async with connected(node.url, make_token("u")):
        node.gateway.delivery.drain.leaving = True
        assert await get(node, "/readyz") == (503, '{"ready": false}')
        assert (await get(node, "/healthz"))[0] == 200


@pytest.mark.parametrize(
    "body", ["Transfer-Encoding: chunked", "Content-Length: 9", "Content-Length: x"]
)
async def test_a_page_takes_no_body_however_long(node: Node, body: str) -> None:
    answer = await answer_to(node.url, request("POST /healthz HTTP/1.1", "Host: x", body))
    assert (answer.status, answer.code) == (400, "bad_request")
    empty = request("GET /healthz HTTP/1.1", "Host: x", "Content-Length: 0")
    assert (await answer_to(node.url, empty)).status == 200


async def test_a_request_behind_that_for_a_page_is_not_answered(node: Node) -> None:
    asked = request("GET /healthz HTTP/1.1", "Host: x")
    async with line(node.url, asked * 3) as each:
        assert (await each.answer()).status == 200
        assert await each.reader.read() == b""


@pytest.mark.parametrize("path", ["/other", "/metrics", "/dev", "/%68ealthz"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_where_there_is_nothing_the_answer_is_not_found_and_counted(
    node: Node, method: str, path: str
) -> None:
    answer = await answer_to(node.url, request(f"{method} {path} HTTP/1.1", "Host: x"))
    assert (answer.status, answer.code) == (404, "not_found")
    assert node.gateway.stats.connections_refused == {"not_found": 1}


async def test_the_log_hints_at_clients_that_ask_for_another_path(
    start_node: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = await start_node(path="/realtime")
    await answer_to(node.url, handshake(make_token("u")))
    assert "reason=not_found address=127.0.0.1 " in caplog.text
    assert "GATEWAY_PATH" in caplog.text


async def test_a_page_is_only_read(node: Node) -> None:
    for url, page in ((node.url, "/healthz"), (node.internal_url, "/metrics")):
        answer = await answer_to(url, request(f"POST {page} HTTP/1.1", "Host: x"))
        assert (answer.status, answer.code) == (405, "method_not_allowed")
        assert "Allow: GET,HEAD" in answer.head


async def test_what_a_client_expects_of_a_page_is_refused_in_json_and_without_its_words(
    node: Node,
) -> None:
    for url, page in (
        (node.url, "/healthz"),
        (node.internal_url, "/healthz"),
        (node.internal_url, "/other"),
    ):
        asked = request(f"GET {page} HTTP/1.1", "Host: x", "Expect: open-sesame")
        answer = await answer_to(url, asked)
        assert (answer.status, answer.code) == (400, "bad_request")
        assert "application/json" in answer.head
        assert b"open-sesame" not in answer.raw


async def test_who_asks_whether_to_go_on_is_told_so(node: Node) -> None:
    asked = request("GET /healthz HTTP/1.1", "Host: x", "Expect: 100-continue")
    for url in (node.url, node.internal_url):
        async with line(url, asked) as each:
            assert [(await each.answer()).status for _ in range(2)] == [100, 200]


REQUESTS = {
    "a page": request("GET /healthz HTTP/1.1", "Host: x"),
    "no page": request("GET /other HTTP/1.1", "Host: x"),
    "another method": request("POST /healthz HTTP/1.1", "Host: x"),
    "no request": b"\0\r\n\r\n",
}


@pytest.mark.parametrize("asked", REQUESTS.values(), ids=REQUESTS)
async def test_no_answer_tells_what_serves_it_and_every_error_is_in_json(
    node: Node, asked: bytes
) -> None:
    for url in (node.url, node.internal_url):
        answer = await answer_to(url, asked)
        assert "application/json" in answer.head
        assert "aiohttp" not in answer.head
        assert "Python" not in answer.head
        assert answer.status == 200 or set(json.loads(answer.body)["error"]) == {
            "code",
            "message",
            "help",
        }
