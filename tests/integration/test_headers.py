"""What every answer in HTTP tells a browser, on both ports."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.core.handshake import Refusal
from gateway.core.http import PRECAUTIONS
from gateway.web.pages import HttpPages
from gateway.web.server import DevelopmentPage, public_app
from tests.integration.conftest import StartNode
from tests.support.nodes import Node
from tests.support.requests import UPGRADE, Answer, answer_to, handshake, request
from tests.support.tokens import make_token


def fields(answer: Answer) -> dict[str, str]:
    """The fields of an answer; none may come twice."""
    pairs = [each.split(": ", 1) for each in answer.head.split("\r\n")[1:]]
    found = {name.lower(): value for name, value in pairs}
    assert len(found) == len(pairs)
    return found


def missing(answer: Answer, *but: str) -> dict[str, str | None]:
    """The precautions that an answer lacks, or words otherwise, and how."""
    found = fields(answer)
    return {
        name: found.get(name.lower())
        for name, value in PRECAUTIONS.items()
        if name not in but and found.get(name.lower()) != value
    }


def test_these_are_the_precautions() -> None:
    assert PRECAUTIONS == {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def get(path: str, method: str = "GET") -> bytes:
    return request(f"{method} {path} HTTP/1.1", "Host: x")


CLIENTS = {
    "healthz": (get("/healthz"), 200),
    "readyz": (get("/readyz"), 200),
    "a page that is only read": (get("/healthz", "POST"), 405),
    "a page that expects": (
        request("GET /healthz HTTP/1.1", "Host: x", "Expect: 100-something"),
        400,
    ),
    "no page": (get("/metrics"), 404),
    "no handshake": (get("/"), 426),
    "another version": (
        request("GET / HTTP/1.1", *UPGRADE[:3], "Sec-WebSocket-Version: 8", UPGRADE[4]),
        426,
    ),
    "another method": (get("/", "PUT"), 405),
    "a body": (request("GET /nothing HTTP/1.1", "Host: x", "Content-Length: 5") + b"hello", 400),
    "no request": (b"\0\0\0\0", 400),
    "another origin": (handshake(make_token("u"), "Origin: https://evil.example"), 403),
}
INTERNAL = {
    "healthz": (get("/healthz"), 200),
    "readyz": (get("/readyz"), 200),
    "metrics": (get("/metrics"), 200),
    "no page": (get("/nothing"), 404),
    "a page that is only read": (get("/metrics", "POST"), 405),
    "no request": (b"\0\0\0\0\r\n\r\n", 400),
}


@pytest.mark.parametrize(("data", "status"), CLIENTS.values(), ids=CLIENTS)
async def test_on_the_clients_port(start_node: StartNode, data: bytes, status: int) -> None:
    node = await start_node(allowed_origins=["https://app.school.example"])
    answer = await answer_to(node.url, data)
    assert (answer.status, missing(answer)) == (status, {})


@pytest.mark.parametrize(("data", "status"), INTERNAL.values(), ids=INTERNAL)
async def test_on_the_internal_port(node: Node, data: bytes, status: int) -> None:
    answer = await answer_to(node.internal_url, data)
    assert (answer.status, missing(answer)) == (status, {})


@pytest.fixture
def test_page() -> HttpPages:
    """Made before the event loop runs, for which reading a folder takes too long."""
    return HttpPages(public_app("", lambda: True, DevelopmentPage(lambda: None)))


@pytest.mark.parametrize("path", ["/dev", "/dev/page.css", "/dev/page.js"])
async def test_the_test_page_loads_its_own_files_and_nothing_else(
    test_page: HttpPages, path: str
) -> None:
    await test_page.start()
    async with contextlib.aclosing(test_page):
        loop = asyncio.get_running_loop()
        async with await loop.create_server(test_page.protocol, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            answer = await answer_to(f"http://127.0.0.1:{port}", get(path))
    assert answer.status == 200
    assert missing(answer, "Cache-Control", "Content-Security-Policy") == {}
    policy = fields(answer)["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


async def test_a_handshake_is_answered_without_them(node: Node) -> None:
    answer = await answer_to(node.url, handshake(make_token("u")))
    assert answer.status == 101
    assert not {name.lower() for name in PRECAUTIONS} & set(fields(answer))


def test_an_answer_with_a_word_of_its_own_says_it_once() -> None:
    answer = Answer(Refusal(405, "x", "y", {"Cache-Control": "no-cache"}).answer)
    assert missing(answer) == {"Cache-Control": "no-cache"}
