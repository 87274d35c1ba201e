"""The gateway that the JavaScript package has for tests of front ends: a client cannot tell it from a real one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.web.client_files import FOLDER
from publisher import AsyncPublisher
from tests.browser.conftest import Start
from tests.browser.node_program import NodeProgram
from tests.browser.test_javascript_client import data, live, opened, state
from tests.support.processes import GatewayProcess
from tests.support.tokens import make_token

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class RealBackend:
    """What a backend does, at a real gateway."""

    client: NodeProgram
    publisher: AsyncPublisher
    user: str

    async def publish(self, channel: str, data: Any) -> None:
        await self.publisher.publish(channel, data)

    async def disconnect(self) -> None:
        await self.publisher.disconnect(self.user)

    async def grant(self, channel: str) -> None:
        await self.publisher.grant(channel, self.user)

    async def forbid(self, channel: str) -> None:
        await self.publisher.revoke(channel, self.user)


@dataclass
class MockBackend:
    """The same, at the one of the package."""

    client: NodeProgram

    async def publish(self, channel: str, data: Any) -> None:
        await self.client.tell("publish", channel=channel, data=data)

    async def disconnect(self) -> None:
        await self.client.tell("disconnect", code=1008, reason="disconnected")

    async def grant(self, channel: str) -> None:
        await self.client.tell("grant", channel=channel)

    async def forbid(self, channel: str) -> None:
        await self.client.tell("forbid", channel=channel)


Backend = RealBackend | MockBackend
Begin = Callable[[], Awaitable[Backend]]


@pytest.fixture(params=["real", "mock"])
def begin(
    request: pytest.FixtureRequest,
    programs: Start,
    gateway: GatewayProcess,
    publisher: AsyncPublisher,
    user: str,
) -> Begin:
    """``await begin()``: a client and its backend."""

    async def begin() -> Backend:
        url = "mock" if request.param == "mock" else gateway.url
        client = await programs("client.mjs", str(FOLDER / "client.js"), url, make_token(user))
        await opened(client)
        if request.param == "mock":
            return MockBackend(client)
        return RealBackend(client, publisher, user)

    return begin


async def test_what_is_published_while_the_client_is_away_follows_once(
    begin: Begin, session: str
) -> None:
    backend, channel = await begin(), f"run-results/{session}"
    client = backend.client
    await backend.grant(channel)
    await client.tell("subscribe", channel=channel)
    await live(client)
    for number in (1, 2):
        await backend.publish(channel, number)
    assert await data(client, 2) == [1, 2]
    await backend.disconnect()
    assert (await state(client, "waiting"))["reason"] == "disconnected"
    await backend.publish(channel, 3)
    assert await data(client, 1) == [3]
    await client.tell("subscribe", channel=channel, name="all", since=0)
    said = [await client.event("data") for _ in range(3)]
    assert [(each["name"], each["data"]) for each in said] == [("all", 1), ("all", 2), ("all", 3)]


async def test_a_channel_that_is_refused_is_heard_when_it_is_granted(
    begin: Begin, session: str
) -> None:
    backend, channel = await begin(), f"run-results/{session}"
    client = backend.client
    await backend.forbid(channel)
    await backend.publish(channel, "before")
    await client.tell("subscribe", channel=channel)
    error = (await client.event("error"))["error"]
    assert (error["code"], error["channel"]) == ("forbidden", channel)
    assert error["help"] == "docs/errors.md#forbidden"
    assert "message" in error
    await backend.grant(channel)
    await live(client)
    await backend.publish(channel, "after")
    heard = await data(client, 1)
    while heard[-1] != "after":
        heard += await data(client, 1)
    await backend.forbid(channel)
    assert (await client.event("error"))["error"]["code"] == "revoked"


async def test_a_loop_hears_a_channel_too(begin: Begin, user: str) -> None:
    backend, channel = await begin(), f"notifications/{user}"
    await backend.client.tell("loop", channel=channel, count=2)
    await live(backend.client)
    for number in range(3):
        await backend.publish(channel, number)
    assert await data(backend.client, 2) == [0, 1]
    await backend.client.event("loop-end")


async def test_a_name_that_is_none_is_refused(begin: Begin) -> None:
    client = (await begin()).client
    for name in ("bad name", "a b/1", "run-results/", "run-results/\t", "run-results/" + "é" * 122):
        await client.tell("subscribe", channel=name)
        error = (await client.event("error"))["error"]
        assert (error["code"], error["channel"]) == ("invalid_channel", name)
        assert error["help"] == "docs/errors.md#invalid_channel"
        assert "<namespace>/<id>" in error["detail"]
