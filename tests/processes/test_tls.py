"""TLS of a gateway as an operator runs it, on the event loop that it has then: a certificate is renewed under load, and what strangers do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from publisher import AsyncPublisher
from tests.processes.test_serve import run
from tests.support.certificates import Authority, trusting
from tests.support.client import Client, connected, opened
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.raw import CLOSE, TEXT, RawClient, raw_client
from tests.support.requests import answer_to, handshake, line, request
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until

HERE = ("127.0.0.1",)
CHANNEL = "notifications/u"
HEALTH = request("GET /healthz HTTP/1.1", "Host: x")
RENEWED_SECONDS = 10.0
"""What the documentation promises."""


async def metric(node: GatewayProcess, name: str) -> float:
    """The value of the first worker's; 0 where there is none yet."""
    _, text = await node.get("/metrics")
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def serial(client: RawClient) -> str:
    """The number of the certificate that was shown."""
    certificate: dict[str, str] = client.writer.get_extra_info("peercert")
    return certificate["serialNumber"]


class Crowd:
    """Clients that come one after the other, until told to stop: none of them may be refused."""

    def __init__(self, node: GatewayProcess, trust: ssl.SSLContext) -> None:
        self._node = node
        self._trust = trust
        self._told = False
        self.seen: list[str] = []

    async def come(self, user: str) -> None:
        """Connect, hear the greeting, leave, and come again."""
        while not self._told:
            async with raw_client(self._node.url, make_token(user), tls=self._trust) as client:
                assert await client.told() == "connected"
                self.seen.append(serial(client))
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        self._told = True


@contextlib.asynccontextmanager
async def open_clients(node: GatewayProcess, trust: ssl.SSLContext) -> AsyncIterator[list[Client]]:
    """Clients that stay, subscribed to a channel."""
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(5):
            client = await stack.enter_async_context(
                connected(node.url, make_token("u"), ssl=trust)
            )
            await client.subscribe(CHANNEL)
            clients.append(client)
        yield clients


async def test_a_certificate_is_renewed_under_load_in_each_worker_and_nobody_notices(
    redis_url: str,
    prefix: str,
    authority: Authority,
    own_tls: dict[str, Any],
    trust: ssl.SSLContext,
) -> None:
    async with (
        gateway_process(redis_url, prefix, workers=2, **own_tls) as node,
        open_clients(node, trust) as clients,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        crowd = Crowd(node, trust)
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(crowd.come(f"crowd-{number}"))
            await until(lambda: len(crowd.seen) >= 20)
            # One file after the other, as most tools do.
            authority.sign("localhost", addresses=HERE)
            await until(
                lambda: (
                    set(re.findall(r"tls_certificate_renewed .*worker=(\d)", node.output))
                    == {"1", "2"}
                ),
                RENEWED_SECONDS,
            )
            until_now = len(crowd.seen)
            # Those that were under way may have the old one still.
            await until(lambda: len(crowd.seen) >= until_now + 30)
            crowd.stop()
        old, new = crowd.seen[0], crowd.seen[-1]
        assert old != new
        assert set(crowd.seen[until_now + 4 :]) == {new}
        await publisher.publish(CHANNEL, "still here")
        for client in clients:
            assert await client.data(1) == ["still here"]
        for level in ("error", "warning event=tls_certificate_unusable"):
            assert f"level={level}" not in node.output
        assert await node.terminate() == 0


async def test_the_websockets_package_connects(
    redis_url: str, prefix: str, own_tls: dict[str, Any], trust: ssl.SSLContext
) -> None:
    async with gateway_process(redis_url, prefix, **own_tls) as node:
        headers = {"Authorization": f"Bearer {make_token('u')}"}
        async with websockets.connect(node.url, ssl=trust, additional_headers=headers) as client:
            assert json.loads(await client.recv())["type"] == "connected"
            spoken = client.transport.get_extra_info("ssl_object")
            assert spoken.version() == "TLSv1.3"
        async with opened(node.url, "nonsense", ssl=trust) as refused:
            await refused.expect(type="error", code="token_invalid")
            assert (await refused.expect_close())[0] == 1008
        assert (await answer_to(node.url, HEALTH, trust)).status == 200


async def test_clients_are_closed_in_order_when_it_ends(
    redis_url: str, prefix: str, own_tls: dict[str, Any], trust: ssl.SSLContext
) -> None:
    async with (
        gateway_process(redis_url, prefix, **own_tls) as node,
        open_clients(node, trust) as all,
    ):
        node.process.terminate()
        for client in all:
            assert await client.expect_close() == (1001, "draining")
        assert await asyncio.wait_for(node.process.wait(), 10) == 0
        assert "Traceback" not in node.output


async def test_strangers_cause_no_error_and_count_before_they_agree_on_tls(
    redis_url: str,
    prefix: str,
    own_tls: dict[str, Any],
    trust: ssl.SSLContext,
    authority: Authority,
) -> None:
    settings = {"unauthenticated_per_address": 3, **own_tls}
    async with gateway_process(redis_url, prefix, **settings) as node:
        old = trusting(authority)
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await answer_to(node.url, HEALTH, old)
        for garbage in (b"\0" * 500, handshake(make_token("u")), b"\x16\x03\x01\0\5hello"):
            async with line(node.url, garbage) as each:
                assert await each.ended()
        async with line(node.url, HEALTH, trust) as each:
            each.writer.close()  # ends TLS
        refusals = 'gateway_connections_refused_total{{reason="{}"}}'
        await until(lambda: metric_is(node, refusals.format("tls_failed"), 4))
        async with contextlib.AsyncExitStack() as stack:
            silent = [await stack.enter_async_context(line(node.url)) for _ in range(20)]
            await until(lambda: metric_is(node, refusals.format("address_limit"), 17))
            assert await metric(node, "gateway_connections_unauthenticated") == 3
            assert await silent[0].ended()
            async with connected(node.url, make_token("u"), ssl=trust):
                pass
        await until(lambda: metric_is(node, "gateway_connections_unauthenticated", 0))
        assert await node.terminate() == 0
        for cause in ("version", "plain_http", "malformed"):
            assert f" cause={cause}" in node.output
        assert "Traceback" not in node.output
        assert not re.search(r"logger=asyncio|level=error", node.output)


async def metric_is(node: GatewayProcess, name: str, value: float) -> bool:
    return await metric(node, name) == value


async def publish(publisher: AsyncPublisher, count: int) -> None:
    for first in range(0, count, 20):
        numbers = range(first, min(first + 20, count))
        await publisher.publish_many([(CHANNEL, [n, "x" * 60_000]) for n in numbers])


@contextlib.asynccontextmanager
async def slow_client(node: GatewayProcess, trust: ssl.SSLContext) -> AsyncIterator[RawClient]:
    """A client for which nothing is taken that it does not read, but a little."""
    async with raw_client(node.url, make_token("u"), receive_buffer=16_384, tls=trust) as client:
        client.send(TEXT, json.dumps({"type": "subscribe", "channel": CHANNEL}).encode())
        while await client.told() != "subscribed":
            pass
        yield client


async def numbers(client: RawClient, count: int) -> list[int]:
    """The numbers of the next messages."""
    return [json.loads((await client.next(TEXT)).payload)["data"][0] for _ in range(count)]


async def test_a_slow_client_leaves_live_delivery_and_has_everything_in_the_end(
    redis_url: str, prefix: str, own_tls: dict[str, Any], trust: ssl.SSLContext
) -> None:
    async with (
        gateway_process(redis_url, prefix, high_water_bytes=262_144, **own_tls) as node,
        slow_client(node, trust) as slow,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        await publish(publisher, 200)
        await until(lambda: metric(node, "gateway_slow_consumers_total"))
        assert await numbers(slow, 200) == list(range(200))
        await until(lambda: metric_is(node, "gateway_connections_behind", 0))
        assert await metric(node, "gateway_messages_dropped_total") == 0


async def test_a_client_that_takes_nothing_is_closed_and_one_that_closes_gets_all_before(
    redis_url: str, prefix: str, own_tls: dict[str, Any], trust: ssl.SSLContext
) -> None:
    async with (
        gateway_process(redis_url, prefix, stall_seconds=0.3, **own_tls) as node,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        async with slow_client(node, trust) as slow:
            await publish(publisher, 10)
            await until(lambda: metric_is(node, "gateway_messages_delivered_total", 10))
            slow.send(CLOSE, b"\x03\xe8")
            await until(lambda: metric_is(node, "gateway_connections", 0))
            assert await numbers(slow, 10) == list(range(10))
            assert (await slow.frame()).opcode == CLOSE
        async with slow_client(node, trust):
            await publish(publisher, 200)
            closed = 'gateway_connections_closed_total{code="1013"}'
            await until(lambda: metric_is(node, closed, 1))


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.long), "2"])
async def test_a_certificate_that_cannot_be_used_is_one_clear_error(
    redis_url: str, prefix: str, own_tls: dict[str, Any], workers: str, tmp_path: Path
) -> None:
    given = {
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_REDIS_PREFIX": prefix,
        "GATEWAY_JWT_SECRET": SECRET,
        "GATEWAY_PORT": "0",
        "GATEWAY_INTERNAL_PORT": "0",
        "GATEWAY_TLS_CERTIFICATE": str(own_tls["tls_certificate"]),
    }
    good: Path = own_tls["tls_certificate"]
    broken = tmp_path / "authorities"
    text = await asyncio.to_thread(good.read_text)
    broken.write_text(text + text[:200])
    wrong = {"GATEWAY_TLS_KEY": str(good)}
    authorities = {
        "GATEWAY_TLS_KEY": str(own_tls["tls_key"]),
        "GATEWAY_INTERNAL_TLS_CERTIFICATE": str(good),
        "GATEWAY_INTERNAL_TLS_KEY": str(own_tls["tls_key"]),
        "GATEWAY_INTERNAL_TLS_CLIENT_CA": str(broken),
    }
    for more, told in (
        ({}, "GATEWAY_TLS_KEY go together"),
        (wrong, "cannot be used"),
        (authorities, f"{broken} cannot be used"),
    ):
        code, _, err = await run("serve", "--workers", workers, **given, **more)
        assert code == 2
        assert err.count("gateway: ") == 1
        assert told in err
        assert "Traceback" not in err
        if workers == "1":
            code, out, _ = await run("check", **given, **more)
            assert code == 1
            assert any(told in each for each in json.loads(out)["errors"])
