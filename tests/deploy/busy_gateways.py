"""Gateways to which all happens that they count by reason, code or kind, and a Prometheus that watches them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import aiohttp

from publisher import AsyncPublisher
from tests.support.certificates import Authority, trusting
from tests.support.client import Client, connected, opened
from tests.support.identity_provider import IdentityProvider
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.prometheus import Prometheus, prometheus_scraping
from tests.support.redis_server import free_port
from tests.support.tokens import make_token

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "prometheus" / "prometheus.yml"
CHANNEL = "run-results/lesson"
_PAUSE = 0.05
_BETWEEN_VISITS = 0.5
_CLIENTS = 8
_LARGE = "the same again, " * 400
_MISTAKES = 600
_HERE = ("127.0.0.1",)


@contextlib.asynccontextmanager
async def busy_gateways(
    redis_url: str, prefix: str, program: str, folder: Path
) -> AsyncIterator[Prometheus]:
    """Two gateways, one with a login's secret, one with TLS and an identity provider; traffic goes on until the block ends."""
    authority, provider = Authority(folder), IdentityProvider()
    own = authority.sign("localhost", addresses=_HERE)
    provider.publish("a")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(provider.running())
        keys, api_port = folder / "keys.json", free_port()
        keys.write_text(
            '{"backend": {"key": "a-key-of-the-tests-that-is-long-enough", "scopes": ["read"]}}'
        )
        start = {"confirm_interval_seconds": 0.2, "drain_seconds": 0}
        first = await stack.enter_async_context(
            gateway_process(redis_url, prefix, **start, api_port=api_port, api_keys=f"@{keys}")
        )
        second = await stack.enter_async_context(
            gateway_process(
                redis_url,
                prefix,
                **start,
                jwt_secret=None,
                jwt_jwks_url=provider.jwks_url,
                jwt_issuer=provider.issuer,
                jwt_audience="us",
                tls_certificate=own.certificate,
                tls_key=own.key,
            )
        )
        publisher = await stack.enter_async_context(
            AsyncPublisher.from_url(redis_url, prefix=prefix)
        )
        targets = [f"127.0.0.1:{each.internal_port}" for each in (first, second)]
        prometheus = await stack.enter_async_context(
            prometheus_scraping(program, folder, targets, CONFIGURATION.read_text())
        )
        for number in range(_CLIENTS):
            await stack.enter_async_context(_listener(first, f"user-{number}"))
        trust = trusting(authority)
        token = provider.token("a", "ann", channels=[CHANNEL])
        ann = await stack.enter_async_context(connected(second.url, token, ssl=trust))
        await ann.subscribe(CHANNEL)
        authority.sign("localhost", addresses=_HERE)  # a renewed one, which the second will notice
        traffic = asyncio.gather(_publish(publisher), _visit(first, publisher), _ask(api_port))
        try:
            yield prometheus
        finally:
            traffic.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await traffic


@contextlib.asynccontextmanager
async def _listener(node: GatewayProcess, user: str) -> AsyncIterator[Client]:
    token = make_token(user, channels=[CHANNEL])
    async with connected(node.url, token, compress=15) as client:
        await client.subscribe(CHANNEL)
        yield client


async def _publish(publisher: AsyncPublisher) -> None:
    """Small messages, and now and then one that is compressed."""
    number = 0
    while True:
        number += 1
        await publisher.publish(CHANNEL, _LARGE if number % 10 == 0 else number)
        await asyncio.sleep(_PAUSE)


async def _ask(port: int) -> None:
    """A backend without a key, which reads what the HTTP API is."""
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://127.0.0.1:{port}/v1/openapi.json") as answer:
                await answer.read()
            await asyncio.sleep(_BETWEEN_VISITS)


async def _visit(node: GatewayProcess, publisher: AsyncPublisher) -> None:
    """Clients that come and go, with good tokens and others; some err, flood, or are sent away."""
    for number in (
        count()
    ):  # each visit by others: what is left of a connection counts for its user for a moment
        async with _listener(node, f"visitor-{number}") as client:
            await client.send({"type": "nonsense"})
        async with opened(node.url, "nonsense"):
            pass
        gone = f"sent-away-{number}"
        async with connected(node.url, make_token(gone)):
            await publisher.disconnect(gone)
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            async with connected(node.url, make_token(f"careless-{number}")) as client:
                for _ in range(_MISTAKES):
                    await client.send("?")
        await asyncio.sleep(_BETWEEN_VISITS)
