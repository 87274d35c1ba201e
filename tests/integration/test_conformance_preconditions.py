"""``gateway conformance`` begins where its checks can tell something, and says what to do where they cannot."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from gateway.conformance.backend import ByRedis
from gateway.conformance.opening import address_of
from gateway.conformance.preconditions import Missing, look
from gateway.conformance.stage import Deployment
from gateway.conformance.tokens import Signer
from publisher import AsyncPublisher
from tests.support.meddling_proxy import Meddling, meddling_proxy, messages
from tests.support.nodes import Node
from tests.support.redis_server import free_port
from tests.support.served import served
from tests.support.tokens import SECRET

PAGE = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\n<html>"


@pytest.fixture
async def publisher(redis_url: str, prefix: str) -> AsyncIterator[AsyncPublisher]:
    async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
        yield publisher


@pytest.fixture
def whole(node: Node, publisher: AsyncPublisher) -> Deployment:
    """A deployment to which nothing is missing."""
    return Deployment(address_of(node.url), Signer(SECRET, "HS256", "sub"), ByRedis(publisher))


async def told(deployment: Deployment, **other: Any) -> str:
    """What is missing."""
    with pytest.raises(Missing) as found:
        await look(replace(deployment, **other))
    return str(found.value)


async def test_where_nothing_is_missing_nothing_is_left_behind(
    whole: Deployment, publisher: AsyncPublisher, node: Node
) -> None:
    await look(whole)
    assert whole.visitors.lines == []
    user = f"{whole.visitors.name}-preconditions"
    assert whole.visitors.users == {user}  # to be erased with those of the checks
    assert await publisher.history(f"notifications/{user}") == []


async def test_who_is_at_the_url(whole: Deployment, node: Node) -> None:
    port = free_port()
    found = await told(whole, address=address_of(f"ws://127.0.0.1:{port}"))
    assert found.startswith(f"--url: nobody is at 127.0.0.1:{port}: ")
    found = await told(whole, address=address_of(node.url.replace("ws:", "wss:")))
    assert "does not speak TLS" in found
    found = await told(whole, address=address_of(f"{node.url}/nowhere"))
    assert "no WebSocket at the path /nowhere: give that of GATEWAY_PATH" in found
    async with served(web.Application()) as port:
        found = await told(whole, address=address_of(f"ws://127.0.0.1:{port}"))
    assert re.search(r"answers with HTTP 404: is this the URL of the gateway", found)


async def test_the_setting_is_named_by_which_a_token_is_refused(whole: Deployment) -> None:
    found = await told(whole, signer=Signer("x" * 32, "HS256", "sub"))
    assert "refuses the token (token_invalid): --jwt-secret-file or GATEWAY_JWT_SECRET " in found


async def test_what_is_published_must_arrive(whole: Deployment, redis_url: str) -> None:
    async with AsyncPublisher.from_url(redis_url, prefix="another") as another:
        found = await told(whole, backend=ByRedis(another), patience=1.0)
        user = f"{whole.visitors.name}-preconditions"
        assert await another.history(f"notifications/{user}") == []
    assert "GATEWAY_REDIS_URL and GATEWAY_REDIS_PREFIX must be those of the gateways" in found


@pytest.mark.parametrize(
    "meddling",
    [
        Meddling(request=lambda head: re.sub(rb"(?im)^Authorization:.*\r\n", b"", head)),
        Meddling(request=lambda head: PAGE if b"Upgrade" in head else head),
        messages(lambda message: [message | {"id": 1}]),
    ],
    ids=["that removes tokens", "that lets no WebSocket through", "that changes ids"],
)
async def test_what_a_proxy_does_wrong_is_left_to_the_checks(
    whole: Deployment, node: Node, meddling: Meddling
) -> None:
    async with meddling_proxy(whole.address.port, meddling) as url:
        await look(replace(whole, address=address_of(url)))
