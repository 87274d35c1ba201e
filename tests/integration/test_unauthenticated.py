"""Connections that have shown no valid token: how many there may be, for how long, and whose they are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gateway.node.ports import Claim, Denied, Entry
from gateway.settings import Settings
from gateway.web import new_connection, pages
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node, running_node
from tests.support.raw import TEXT, RawClient
from tests.support.requests import Line, answer_to, handshake, line, request
from tests.support.tokens import make_token
from tests.support.waiting import until


@contextlib.asynccontextmanager
async def idle(node: Node, count: int) -> AsyncIterator[list[Line]]:
    """So many connections that send nothing."""
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(line(node.url)) for _ in range(count)]
        yield lines


def refused(node: Node) -> dict[str, int]:
    return dict(node.gateway.stats.connections_refused)


async def unauthenticated(node: Node) -> int:
    """The metric."""
    _, text = await node.get("/metrics")
    [value] = [
        each.split()[1]
        for each in text.splitlines()
        if each.startswith("gateway_connections_unauthenticated ")
    ]
    return int(float(value))


# -- the node -------------------------------------------------------------------------------------


async def test_connections_without_a_token_keep_nobody_out(start_node: StartNode) -> None:
    node = await start_node(max_unauthenticated=20)
    async with idle(node, 50) as lines:
        await until(lambda: refused(node).get("unauthenticated_limit") == 30)
        assert len(node.new_connections) == await unauthenticated(node) == 20
        # Those that have been there longest made room.
        assert await lines[0].ended()
        async with connected(node.url, make_token("u")):
            assert len(node.new_connections) <= 20
    await until(lambda: not node.new_connections)
    assert await unauthenticated(node) == 0


async def test_who_is_let_in_does_not_count(start_node: StartNode) -> None:
    node = await start_node(max_unauthenticated=1, unauthenticated_per_address=1)
    async with contextlib.AsyncExitStack() as stack:
        for number in range(10):
            await stack.enter_async_context(connected(node.url, make_token(f"u{number}")))
        assert not node.new_connections
    assert not refused(node)


async def test_where_files_are_scarce_one_goes_for_each_that_comes(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    surroundings = node.gateway.entrance.client_port._surroundings
    scarce = surroundings.capacity._replace(crowded_file=3)
    object.__setattr__(surroundings, "capacity", scarce)
    async with line(node.url, handshake(make_token("u"))) as each:
        assert await each.ended()
    assert refused(node) == {"files_exhausted": 1}
    assert (await node.get("/healthz"))[0] == 200
    assert "reason=files_exhausted address=127.0.0.1" in caplog.text


# -- an address -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 20])
async def test_who_shows_a_valid_token_at_once_is_heard_however_many_idle_ones_share_the_address(
    start_node: StartNode, count: int
) -> None:
    node = await start_node(unauthenticated_per_address=3)
    async with idle(node, count):
        await until(
            lambda: (
                refused(node).get("address_limit", 0) == count - 3
                and len(node.new_connections) == 3
            )
        )
        async with connected(node.url, make_token("u")):
            assert len(node.new_connections) == 2


async def test_above_the_limit_of_an_address_the_one_that_has_been_there_longest_goes(
    start_node: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = await start_node(unauthenticated_per_address=3)
    async with idle(node, 20) as lines:
        await until(lambda: refused(node) == {"address_limit": 17})
        assert len(node.new_connections) == 3
        assert await lines[0].ended()
        assert "reason=address_limit address=127.0.0.1" in caplog.text


@pytest.mark.parametrize("count", [3, 20])
async def test_a_crowd_at_the_balancers_own_address_does_not_make_it_take_the_node_out(
    start_node: StartNode, count: int
) -> None:
    node = await start_node(unauthenticated_per_address=3, max_unauthenticated=10, path="/rt")
    async with idle(node, count):
        await until(lambda: len(node.new_connections) == 3)
        for path in ("/healthz", "/readyz", "/rt/healthz", "/rt/readyz"):
            assert (
                await answer_to(node.url, request(f"GET {path} HTTP/1.1", "Host: x"))
            ).status == 200


async def test_by_default_an_address_bears_a_thousand_users(node: Node) -> None:
    per_user = Settings.model_fields["max_connections_per_user"].default
    assert Settings.model_fields["unauthenticated_per_address"].default >= 1_000 * per_user
    async with idle(node, 1_000):
        await until(lambda: len(node.new_connections) == 1_000)
        async with connected(node.url, make_token("u")):
            pass
    assert not refused(node)


# -- the farewell of those who are refused --------------------------------------------------------


async def told(each: Line) -> str:
    """Pass over the 101, and return the type of the first message."""
    assert (await each.answer()).status == 101
    return await RawClient(each.reader, each.writer, "").told()


@pytest.fixture
def long_farewells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is refused stays until it leaves by itself, however slow the machine is."""
    monkeypatch.setattr(new_connection, "_LINGER_SECONDS", 600.0)


@pytest.mark.usefixtures("long_farewells")
async def test_a_refused_connection_holds_no_place_of_the_node_during_its_farewell(
    start_node: StartNode,
) -> None:
    node = await start_node(max_connections=3, max_connections_per_user=1)
    async with connected(node.url, make_token("u")), contextlib.AsyncExitStack() as stack:
        lines = [
            await stack.enter_async_context(line(node.url, handshake(make_token("u"))))
            for _ in range(5)
        ]
        assert await asyncio.gather(*map(told, lines)) == ["error"] * 5
        # None of them has answered the close frame yet.
        assert len(node.new_connections) == 5
        assert node.gateway.entrance.handshakes._admission._present == 1
        async with connected(node.url, make_token("v")):
            pass
    assert refused(node) == {"connection_limit": 5}


async def test_one_user_who_asks_again_and_again_fills_no_node(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start_node(max_connections=6, max_connections_per_user=5)
    acquire = node.gateway.redis.places.acquire
    go = asyncio.Event()

    async def slow(claim: Claim, *how: Any) -> Entry:
        if claim.user == "u":
            await go.wait()
        return await acquire(claim, *how)

    monkeypatch.setattr(node.gateway.redis.places, "acquire", slow)
    async with contextlib.AsyncExitStack() as stack:
        lines = [
            await stack.enter_async_context(line(node.url, handshake(make_token("u"))))
            for _ in range(20)
        ]
        await until(lambda: refused(node) == {"connection_limit": 15})
        async with connected(node.url, make_token("v")):
            go.set()
            assert sorted(await asyncio.gather(*map(told, lines))) == (
                ["connected"] * 5 + ["error"] * 15
            )
    assert not node.gateway.entrance.handshakes._admission._asking


@pytest.mark.usefixtures("long_farewells")
async def test_a_farewell_ends_with_the_answer_to_the_close_frame(node: Node) -> None:
    async with line(node.url, handshake("x")) as quick, line(node.url, handshake("x")) as slow:
        assert await told(quick) == await told(slow) == "error"
        client = RawClient(quick.reader, quick.writer, "")
        client.send(TEXT, b"\x88\x82")
        client.send(0x8, b"\x03\xf0")
        assert await quick.ended()
        assert len(node.new_connections) == 1


async def test_a_farewell_ends_after_a_second_whatever_the_client_does(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert new_connection._LINGER_SECONDS == 1
    monkeypatch.setattr(new_connection, "_LINGER_SECONDS", 0.01)
    async with line(node.url, handshake("x")) as slow:
        assert await told(slow) == "error"
        assert await slow.ended()
    await until(lambda: not node.new_connections)


async def test_a_node_that_stops_leaves_no_handshake_behind(
    gateway_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def hang(*_how: object) -> Entry:
        asked.set()
        await asyncio.Event().wait()
        return Denied.FULL

    async with contextlib.AsyncExitStack() as stack:
        async with running_node(gateway_url, prefix) as node:
            monkeypatch.setattr(node.gateway.redis.places, "acquire", hang)
            each = await stack.enter_async_context(line(node.url, handshake(make_token("u"))))
            await asked.wait()
        assert await each.ended()


# -- pages ----------------------------------------------------------------------------------------

HEALTH = request("GET /healthz HTTP/1.1", "Host: x")


async def test_who_sends_nothing_more_gets_its_page(node: Node) -> None:
    async with line(node.url, HEALTH) as each:
        each.writer.write_eof()
        assert (await each.answer()).status == 200
        assert await each.ended()


async def test_a_page_is_the_only_answer_on_its_connection(node: Node) -> None:
    async with line(node.url, HEALTH + handshake(make_token("u"))) as each:
        assert (await each.answer()).status == 200
        assert await each.reader.read() == b""
    assert not node.gateway.stats.connections_opened


async def test_a_page_does_not_last_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pages._PAGE_SECONDS == 10
    monkeypatch.setattr(pages, "_PAGE_SECONDS", 0.05)

    async def hang(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/healthz", hang)
    served = pages.HttpPages(app)
    await served.start()
    gone = asyncio.Event()
    async with contextlib.aclosing(served):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: served.protocol(gone.set), "127.0.0.1", 0)
        async with (
            server,
            line(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", HEALTH) as each,
        ):
            assert await each.ended()
            await gone.wait()


# -- whose they are -------------------------------------------------------------------------------

HERE = ["127.0.0.0/8"]


@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("X-Forwarded-For: 6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("X-Forwarded-For: 203.0.113.7, 127.0.0.9", "203.0.113.7"),
        ('Forwarded: for="[2001:db8::7]:4711";proto=https', "2001:db8::7"),
        ("X-Forwarded-For: unknown", "unknown"),
        ("X-Real-IP: 203.0.113.7", "127.0.0.1"),
    ],
)
async def test_the_log_names_the_clients_address_by_the_word_of_a_trusted_proxy(
    start_node: StartNode, caplog: pytest.LogCaptureFixture, field: str, address: str
) -> None:
    caplog.set_level(logging.INFO)
    node = await start_node(trusted_proxies=HERE)
    await answer_to(node.url, handshake("x", field))
    assert f"reason=token_invalid address={address} " in caplog.text


@pytest.mark.parametrize("field", ["X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7"])
async def test_nobody_else_is_believed(
    start_node: StartNode, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    caplog.set_level(logging.INFO)
    node = await start_node(trusted_proxies=["10.0.0.0/8"])
    await answer_to(node.url, handshake("x", field))
    assert "reason=token_invalid address=127.0.0.1 " in caplog.text


@pytest.mark.parametrize("field", ["X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7"])
async def test_the_log_hints_at_a_proxy_that_was_forgotten_once_and_without_its_words(
    start_node: StartNode, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    caplog.set_level(logging.INFO)
    node = await start_node(trusted_proxies=["10.0.0.0/8"])
    for _ in range(20):
        await answer_to(node.url, handshake(make_token("u"), field))
    [told] = [each.getMessage() for each in caplog.records if "not_trusted" in each.getMessage()]
    assert told.startswith("proxy_not_trusted peer=127.0.0.1 left_out=None hint='")
    assert "GATEWAY_TRUSTED_PROXIES" in told
    assert "203.0.113.7" not in caplog.text


@pytest.mark.parametrize(
    ("trusted", "field"), [(HERE, "X-Forwarded-For: 203.0.113.7"), ([], "X-Real-IP: 1.2.3.4")]
)
async def test_the_log_hints_at_no_proxy_where_one_is_trusted_or_there_is_none(
    start_node: StartNode, caplog: pytest.LogCaptureFixture, trusted: list[str], field: str
) -> None:
    caplog.set_level(logging.INFO)
    node = await start_node(trusted_proxies=trusted)
    await answer_to(node.url, handshake(make_token("u"), field))
    assert "proxy_not_trusted" not in caplog.text


@pytest.mark.usefixtures("long_farewells")
async def test_behind_a_trusted_proxy_each_client_counts_for_itself_and_the_proxy_for_nobody(
    start_node: StartNode,
) -> None:
    node = await start_node(trusted_proxies=HERE, unauthenticated_per_address=1)
    async with idle(node, 5), contextlib.AsyncExitStack() as stack:
        await until(lambda: len(node.new_connections) == 5)
        # One whose token is refused counts until it has left.
        first, other = [
            await stack.enter_async_context(
                line(node.url, handshake("x", f"X-Forwarded-For: 203.0.113.{client}"))
            )
            for client in (7, 8)
        ]
        assert await told(first) == await told(other) == "error"
        assert len(node.new_connections) == 7
        second = await answer_to(node.url, handshake("x", "X-Forwarded-For: 203.0.113.7"))
        assert second.status == 101
        assert await first.ended()
        assert refused(node) == {"token_invalid": 3, "address_limit": 1}
    await until(lambda: not node.new_connections)
    assert not node.gateway.entrance.client_port._unauthenticated._of_address


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize(
    ("trusted", "address"), [(HERE, "203.0.113.7"), (["10.0.0.0/8"], "127.0.0.1")]
)
async def test_over_a_port_for_both_families_an_ipv4_client_has_its_ipv4_address(
    start_node: StartNode, caplog: pytest.LogCaptureFixture, trusted: list[str], address: str
) -> None:
    caplog.set_level(logging.INFO)
    node = await start_node(host="::", trusted_proxies=trusted)
    async with idle(node, 1):
        await until(lambda: len(node.new_connections) == 1)
        [counted] = node.gateway.entrance.client_port._unauthenticated._connections.values()
        assert counted == (None if trusted == HERE else "127.0.0.1")
    await answer_to(node.url, handshake("x", "X-Forwarded-For: 203.0.113.7"))
    assert f"reason=token_invalid address={address} " in caplog.text


async def test_a_network_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 network"):
        Settings(trusted_proxies="10.0.0.0/8, proxy.example")


PROXY_1 = b"PROXY TCP4 203.0.113.7 127.0.0.1 5678 3001\r\n"
PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x7f\0\0\x01\x16\x2e\x0b\xb9"


@pytest.mark.parametrize("header", [PROXY_1, PROXY_2], ids=["version 1", "version 2"])
async def test_a_proxy_may_tell_the_address_before_the_request(
    start_node: StartNode, caplog: pytest.LogCaptureFixture, header: bytes
) -> None:
    caplog.set_level(logging.INFO)
    node = await start_node(trusted_proxies=HERE, proxy_protocol=True)
    assert (await answer_to(node.url, header + handshake(make_token("u")))).status == 101
    async with line(node.url) as slow:
        for byte in header + handshake("x"):
            slow.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await slow.answer()).status == 101
    assert "reason=token_invalid address=203.0.113.7 " in caplog.text


@pytest.mark.parametrize("header", [PROXY_1, PROXY_2], ids=["version 1", "version 2"])
async def test_what_a_proxy_tells_counts_before_a_request_comes(
    start_node: StartNode, header: bytes
) -> None:
    node = await start_node(
        trusted_proxies=HERE, proxy_protocol=True, unauthenticated_per_address=1
    )
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(line(node.url, header)) for _ in range(5)]
        await until(lambda: refused(node) == {"address_limit": 4})
        assert await lines[0].ended()
        answer = await answer_to(node.url, header.replace(b"113.7", b"113.8") + HEALTH)
        assert answer.status == 200


async def test_a_trusted_proxy_that_sends_no_header_is_not_guessed_at(
    start_node: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = await start_node(trusted_proxies=HERE, proxy_protocol=True)
    assert (await answer_to(node.url, handshake(make_token("u")))).status == 400
    assert "cause='proxy_protocol_missing'" in caplog.text
