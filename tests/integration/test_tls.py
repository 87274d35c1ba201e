"""TLS of both ports, on asyncio's own loop (tests/processes/test_tls.py: on uvloop): what clients see, whom it keeps out, and what strangers in a TLS handshake may cost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.web import beginning_tls, outgoing
from gateway.web.socket import ClientSocket
from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support.certificates import Authority, trusting
from tests.support.client import connected, opened
from tests.support.nodes import Node
from tests.support.raw import CLOSE, TEXT, RawClient, raw_client
from tests.support.requests import Line, answer_to, handshake, line, request
from tests.support.tokens import make_token
from tests.support.waiting import until

HERE = ("127.0.0.1",)
HEALTH = request("GET /healthz HTTP/1.1", "Host: x")


@pytest.fixture
async def node(start_node: StartNode, own_tls: dict[str, Any]) -> Node:
    return await start_node(**own_tls)


def refused(node: Node) -> dict[str, int]:
    return dict(node.gateway.stats.connections_refused)


@contextlib.asynccontextmanager
async def silent(node: Node, count: int) -> AsyncIterator[list[Line]]:
    """So many connections that never begin with TLS."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(line(node.url)) for _ in range(count)]


def serial(each: Line | RawClient) -> int:
    """The number of the certificate that was shown."""
    certificate: dict[str, str] = each.writer.get_extra_info("peercert")
    return int(certificate["serialNumber"], 16)


# -- clients --------------------------------------------------------------------------------------


async def test_a_client_connects_and_gets_what_is_published(
    node: Node, publisher: AsyncPublisher, trust: ssl.SSLContext
) -> None:
    async with connected(node.url, make_token("u"), ssl=trust) as client:
        await client.subscribe("notifications/u")
        large = "x" * 500_000
        await publisher.publish("notifications/u", large)
        assert await client.data(1) == [large]
        await client.sync()
        assert not node.new_connections


async def test_a_refusal_and_a_page_are_read_whole(
    node: Node, trust: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(node.url, "nonsense", ssl=trust) as client:
        await client.expect(type="error", code="token_invalid")
        assert (await client.expect_close())[0] == 1008
    for asked, status in ((request("GET /none HTTP/1.1", "Host: x"), 404), (HEALTH, 200)):
        async with line(node.url, asked, trust) as each:
            assert (await each.answer()).status == status
            assert await each.ended()
    await until(lambda: not node.new_connections)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_no_more_waits_in_the_buffers_of_tls_than_in_those_of_a_plain_connection(
    node: Node, trust: ssl.SSLContext
) -> None:
    async with connected(node.url, make_token("u"), ssl=trust):
        (connection,) = node.gateway.hub.connections.values()
        transport: Any = connection.socket._transport  # type: ignore[attr-defined]
        assert transport.get_write_buffer_limits()[1] == 65_536
        assert transport.get_read_buffer_limits()[1] == 65_536


async def test_a_client_that_ends_tls_after_its_request_causes_no_line_in_the_log(
    node: Node, trust: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async with line(node.url, HEALTH, trust) as each:
        each.writer.close()
        await until(lambda: not node.new_connections)
    assert not [each for each in caplog.records if each.name == "asyncio"]


async def test_only_tls_1_2_and_later_are_spoken(
    node: Node, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for version, spoken in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = trusting(authority)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        with contextlib.ExitStack() as stack:
            if not spoken:
                stack.enter_context(pytest.raises((ssl.SSLError, ConnectionError)))
            assert (await answer_to(node.url, HEALTH, context)).status == 200
    await until(lambda: refused(node) == {"tls_failed": 1})
    assert "reason=tls_failed address=127.0.0.1" in caplog.text
    assert "cause='version'" in caplog.text


async def test_plain_http_on_a_port_with_tls_is_one_line_with_a_hint(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(30):
        async with line(node.url, handshake(make_token("u"))) as each:
            assert await each.ended()
    await until(lambda: refused(node) == {"tls_failed": 30})
    lines = [each.getMessage() for each in caplog.records if "tls_failed" in each.getMessage()]
    assert 0 < len(lines) <= 11
    assert "cause='plain_http' hint='a client speaks plain HTTP" in lines[0]
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_a_client_that_does_not_trust_the_certificate_is_told_of(
    node: Node, trust: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def connect() -> None:
        # asyncio does not say why it leaves.
        with socket.create_connection(("127.0.0.1", urlsplit(node.url).port or 0)) as plain:
            trust.wrap_socket(plain, server_hostname="elsewhere.example")

    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(connect)
    await until(lambda: "cause='certificate_not_trusted'" in caplog.text)


# -- the certificate is renewed -------------------------------------------------------------------


async def test_who_connects_after_a_renewal_sees_the_new_certificate_and_open_connections_stay(
    node: Node, authority: Authority, trust: ssl.SSLContext, publisher: AsyncPublisher
) -> None:
    token = make_token("u")
    async with (
        raw_client(node.url, token, tls=trust) as before,
        connected(node.url, token, ssl=trust) as client,
    ):
        await client.subscribe("notifications/u")
        authority.sign("localhost", addresses=HERE)
        await node.gateway.entrance.tls.look()  # type: ignore[union-attr]
        async with raw_client(node.url, token, tls=trust) as after:
            assert serial(after) != serial(before)
        await publisher.publish("notifications/u", 1)
        assert await client.data(1) == [1]
    _, metrics = await node.get("/metrics")
    assert 'gateway_tls_reloads_total{outcome="renewed"} 1.0' in metrics
    assert 'gateway_tls_certificate_expires_seconds{port="clients"} ' in metrics


# -- before TLS is agreed on ----------------------------------------------------------------------


@pytest.fixture
def long_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not begin with TLS is not ended for that."""
    monkeypatch.setattr(beginning_tls, "_TLS_SECONDS", 600.0)


@pytest.mark.usefixtures("long_handshakes")
async def test_who_never_begins_with_tls_counts_and_keeps_nobody_out(
    start_node: StartNode, own_tls: dict[str, Any], trust: ssl.SSLContext
) -> None:
    node = await start_node(max_unauthenticated=20, **own_tls)
    async with silent(node, 50) as lines:
        await until(lambda: refused(node) == {"unauthenticated_limit": 30})
        assert len(node.new_connections) == 20
        # Those that have been there longest made room, and are no failures of TLS besides.
        assert await lines[0].ended()
        async with connected(node.url, make_token("u"), ssl=trust):
            assert len(node.new_connections) <= 20
    await until(lambda: not node.new_connections)
    assert "tls_failed" not in refused(node) or refused(node)["tls_failed"] <= 20


@pytest.mark.usefixtures("long_handshakes")
async def test_who_never_begins_with_tls_counts_for_its_address(
    start_node: StartNode, own_tls: dict[str, Any], trust: ssl.SSLContext
) -> None:
    node = await start_node(unauthenticated_per_address=3, **own_tls)
    async with silent(node, 20) as lines:
        await until(lambda: refused(node) == {"address_limit": 17})
        assert len(node.new_connections) == 3
        assert await lines[0].ended()
        async with connected(node.url, make_token("u"), ssl=trust):
            assert len(node.new_connections) == 2


@pytest.mark.usefixtures("long_handshakes")
async def test_of_too_many_tls_handshakes_at_a_time_the_oldest_ends(
    node: Node,
    trust: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They could all go on in the same moment, and nobody else would be served for as long as that takes."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(beginning_tls, "_MOST", 5)
    async with silent(node, 20) as lines:
        for each in lines:
            each.writer.write(b"\x16")
        await until(lambda: refused(node) == {"tls_failed": 15})
        assert await lines[0].ended()
        assert len(node.new_connections) == 5
        assert "reason=tls_failed address=127.0.0.1 left_out=None cause='crowded'" in caplog.text
        async with connected(node.url, make_token("u"), ssl=trust):
            assert len(node.new_connections) == 4
    await until(lambda: not node.new_connections)


async def test_a_tls_handshake_may_not_last_for_long(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert beginning_tls._TLS_SECONDS == 10
    monkeypatch.setattr(beginning_tls, "_TLS_SECONDS", 0.05)
    half_a_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(99)
    async with line(node.url, half_a_hello) as each:
        assert await each.ended()
    await until(lambda: refused(node) == {"tls_failed": 1})
    assert "cause='overdue'" in caplog.text
    assert not node.new_connections


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x00\x05hello", b"\0" * 500, b"\x15\x03\x01\0\x02\x02\x28"]
)
async def test_garbage_in_place_of_tls_is_no_error_of_ours(
    node: Node, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with line(node.url, garbage) as each:
        assert await each.ended()
    await until(lambda: refused(node) == {"tls_failed": 1})
    assert not caplog.records
    assert not node.new_connections


GARBAGE = b"\x16\x03\x01\x00\x05hello"
UNASKED = {"leaves": b"", "sends no request": b"\xff" * 1_000, "leaves amid it": b"GET / HT"}


async def wasted(node: Node, data: bytes, tls: ssl.SSLContext | None) -> None:
    async with line(node.url, data, tls) as each:
        if tls is None:
            assert await each.ended()
    await until(lambda: not node.new_connections)


async def is_dropped(node: Node) -> bool:
    """Whether a connection is closed although what it begins TLS with is nearly right."""
    async with line(node.url, b"\x16") as each:
        return await each.ended()


@pytest.mark.parametrize("data", [*UNASKED.values(), handshake("bad")], ids=[*UNASKED, "bad token"])
async def test_who_has_a_valid_token_gets_in_where_an_address_wastes_tls_too_often(
    start_node: StartNode, own_tls: dict[str, Any], trust: ssl.SSLContext, data: bytes
) -> None:
    node = await start_node(failed_authentications_per_minute=3, **own_tls)
    for _ in range(5):
        await wasted(node, data, trust)
    for _ in range(2):
        async with connected(node.url, make_token("u"), ssl=trust):
            pass


@pytest.mark.usefixtures("long_handshakes")
@pytest.mark.parametrize("fails", [False, True])
async def test_an_address_that_wastes_tls_too_often_has_it_in_turns_and_not_all_wait(
    start_node: StartNode, own_tls: dict[str, Any], trust: ssl.SSLContext, fails: bool
) -> None:
    node = await start_node(failed_authentications_per_minute=3, **own_tls)
    turns = node.gateway.entrance.client_port._refusals._wasted_tls._turns
    for number in range(3):
        assert not turns, number
        await wasted(node, GARBAGE if fails else b"", None if fails else trust)
    async with contextlib.AsyncExitStack() as stack:
        # One begins at once, and one more in each of the next ten seconds.
        for _ in range(12):
            await stack.enter_async_context(line(node.url, b"\x16"))
        await until(lambda: refused(node).get("too_many_failures"))
        assert await is_dropped(node)
    assert refused(node)["too_many_failures"] <= 2
    assert node.gateway.stats.addresses_blocked == 0


async def test_who_asks_for_something_wastes_no_tls(
    start_node: StartNode, own_tls: dict[str, Any], trust: ssl.SSLContext
) -> None:
    node = await start_node(failed_authentications_per_minute=1, **own_tls)
    for _ in range(3):
        assert (await answer_to(node.url, HEALTH, trust)).status == 200
        async with connected(node.url, make_token("u"), ssl=trust):
            pass
    assert node.gateway.stats.addresses_blocked == 0


async def test_a_trusted_proxy_wastes_no_tls_for_those_behind_it(
    start_node: StartNode, own_tls: dict[str, Any], trust: ssl.SSLContext
) -> None:
    node = await start_node(
        failed_authentications_per_minute=1, trusted_proxies=["127.0.0.0/8"], **own_tls
    )
    for _ in range(3):
        async with line(node.url, tls=trust):
            pass
    async with connected(node.url, make_token("u"), ssl=trust):
        pass


async def test_a_node_begins_with_tls_as_often_as_it_takes_up_handshakes(
    start_node: StartNode, own_tls: dict[str, Any]
) -> None:
    node = await start_node(handshakes_per_second=77, **own_tls)
    clients, _internal = node.gateway._ports._acceptors
    assert clients._bucket._rate == 77


async def test_who_has_asked_over_tls_and_must_make_room_is_told_so(
    start_node: StartNode,
    own_tls: dict[str, Any],
    trust: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing more is read of it meanwhile, and yet its connection ends as TLS ends."""
    node = await start_node(unauthenticated_per_address=1, **own_tls)
    monkeypatch.setattr(node.gateway.entrance.handshakes, "begin", lambda *_: None)
    async with line(node.url, handshake("x"), trust) as first:
        await until(lambda: any(each.asked for each in node.new_connections))
        async with line(node.url, tls=trust):
            assert (await first.answer()).status == 429
            assert await first.ended()
    await until(lambda: not node.new_connections)


async def test_a_node_that_stops_waits_for_no_tls_handshake(
    start_node: StartNode, own_tls: dict[str, Any]
) -> None:
    node = await start_node(**own_tls)
    async with silent(node, 5) as lines:
        await until(lambda: len(node.new_connections) == 5)
        # Less than a TLS handshake may take.
        async with asyncio.timeout(beginning_tls._TLS_SECONDS / 2):
            await node.gateway.stop()
        for each in lines:
            assert await each.ended()


# -- slow consumers -------------------------------------------------------------------------------

CHANNEL = "notifications/u"
BODY = "x" * 60_000
COUNT = 200


@contextlib.asynccontextmanager
async def slow_client(node: Node, trust: ssl.SSLContext) -> AsyncIterator[RawClient]:
    """A client for which nothing is taken that it does not read, but a little."""
    async with raw_client(node.url, make_token("u"), receive_buffer=16_384, tls=trust) as client:
        client.send(TEXT, json.dumps({"type": "subscribe", "channel": CHANNEL}).encode())
        while await client.told() != "subscribed":
            pass
        yield client


async def publish(publisher: AsyncPublisher) -> None:
    for first in range(0, COUNT, 20):
        await publisher.publish_many([(CHANNEL, [n, BODY]) for n in range(first, first + 20)])


async def test_a_slow_client_costs_bounded_memory_and_has_everything_in_the_end(
    start_node: StartNode, own_tls: dict[str, Any], trust: ssl.SSLContext, publisher: AsyncPublisher
) -> None:
    high_water = 256 * 1024
    node = await start_node(high_water_bytes=high_water, **own_tls)
    async with slow_client(node, trust) as slow:
        await publish(publisher)
        await until(lambda: node.gateway.stats.slow_consumers)
        connections = node.gateway.hub.connections.values()
        # One turn's messages may come on top of the mark: what one read from Redis brings.
        assert max(each.socket.waiting for each in connections) < high_water + 512 * 1024
        numbers = []
        while len(numbers) < COUNT:
            message = json.loads((await slow.next(TEXT)).payload)
            numbers.append(message["data"][0])
        assert numbers == list(range(COUNT))
        await until(lambda: not any(each.behind for each in connections))
    assert node.gateway.stats.messages_dropped == 0


async def test_a_client_that_takes_nothing_is_closed_with_1013(
    start_node: StartNode, own_tls: dict[str, Any], trust: ssl.SSLContext, publisher: AsyncPublisher
) -> None:
    node = await start_node(high_water_bytes=65_536, stall_seconds=0.3, **own_tls)
    async with slow_client(node, trust):
        await publish(publisher)
        await until(lambda: node.gateway.stats.connections_closed.get("1013"))


@pytest.mark.parametrize("count", [2, 10])
async def test_a_client_that_reads_slowly_gets_its_close_frame_behind_all_that_was_written(
    node: Node,
    trust: ssl.SSLContext,
    publisher: AsyncPublisher,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    """Ten messages wait in the node, two in the system, where a reset would take them away."""
    looks = 0
    look = ClientSocket._lingered

    def counted(of: ClientSocket, left: float) -> None:
        nonlocal looks
        looks += 1
        look(of, left)

    monkeypatch.setattr(ClientSocket, "_lingered", counted)
    monkeypatch.setattr(outgoing, "LINGER_SECONDS", 0.1)
    # However slow the machine is.
    assert beginning_tls._FAREWELL_SECONDS == outgoing.CLOSE_TIMEOUT_SECONDS
    monkeypatch.setattr(beginning_tls, "_FAREWELL_SECONDS", 600.0)
    monkeypatch.setattr(outgoing, "CLOSE_TIMEOUT_SECONDS", 600.0)
    async with slow_client(node, trust) as slow:
        below = slow.writer.transport._ssl_protocol._transport  # type: ignore[attr-defined]
        below.pause_reading()
        for number in range(count):
            await publisher.publish(CHANNEL, [number, BODY])
        await until(lambda: node.gateway.stats.messages_delivered >= count)
        slow.send(CLOSE, b"\x03\xe8")
        await until(lambda: not node.gateway.hub.connections and looks >= 3)
        if count == 2:
            slow.send(TEXT, b"more, which nobody reads")
        below.resume_reading()
        for number in range(count):
            assert json.loads((await slow.next(TEXT)).payload)["data"][0] == number
        # A ping that asks whether they have come may be among them.
        await slow.next(CLOSE)


# -- the internal port ----------------------------------------------------------------------------


async def test_the_internal_port_serves_whoever_shows_a_certificate_of_its_authority(
    start_node: StartNode,
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    signed = authority.sign("localhost", addresses=HERE)
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").sign("prometheus")
    node = await start_node(
        internal_tls_certificate=signed.certificate,
        internal_tls_key=signed.key,
        internal_tls_client_ca=authority.certificate,
    )

    async def status(shown: Any) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{node.internal_url}/metrics", ssl=trusting(authority, shown)) as answer,
        ):
            return answer.status

    assert await status(authority.sign("prometheus")) == 200
    for shown, cause in ((None, "no_client_certificate"), (stranger, "client_certificate")):
        with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
            await status(shown)
        await until(lambda cause=cause: f"cause='{cause}'" in caplog.text)
    assert "reason=internal_tls_failed address=127.0.0.1" in caplog.text
    # The clients' port has none.
    async with connected(node.url, make_token("u")):
        pass


async def test_the_internal_port_with_a_certificate_alone_serves_everybody(
    start_node: StartNode, authority: Authority, trust: ssl.SSLContext
) -> None:
    signed = authority.sign("localhost", addresses=HERE)
    node = await start_node(
        internal_tls_certificate=signed.certificate, internal_tls_key=signed.key
    )
    answer = await answer_to(node.internal_url, HEALTH, trust)
    assert answer.status == 200
    with socket.create_connection(("127.0.0.1", urlsplit(node.internal_url).port or 0)) as plain:
        plain.sendall(HEALTH)
        assert b"200 OK" not in await asyncio.to_thread(plain.recv, 100)
