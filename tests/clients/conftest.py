from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import redis.asyncio

from publisher import AsyncPublisher
from publisher.contract.keys import Keys
from tests.clients.client_program import ClientProgram
from tests.clients.real_clients import CLIENTS, RealClient
from tests.support.nodes import Node, running_node
from tests.support.tokens import make_token
from tests.support.waiting import until

Start = Callable[..., Awaitable[ClientProgram]]
UntilConfirmed = Callable[[str, int], Awaitable[None]]


@pytest.fixture(
    scope="module",
    params=[
        # Nobody waits at a second place until a program is built.
        pytest.param(client, id=client.name, marks=pytest.mark.xdist_group(client.name))
        for client in CLIENTS
    ],
)
def client(request: pytest.FixtureRequest) -> RealClient:
    """Each of the clients."""
    chosen: RealClient = request.param
    return chosen


@pytest.fixture(scope="module")
def command(client: RealClient) -> tuple[str, ...]:
    """What starts it. The module's fixtures come first, so that no node waits while a program is built."""
    return client.command()


@pytest.fixture
async def node(gateway_url: str, prefix: str) -> AsyncIterator[Node]:
    """A node that pings often."""
    async with running_node(gateway_url, prefix, ping_interval_seconds=0.2) as node:
        yield node


@pytest.fixture
async def publisher(publisher_url: str, prefix: str) -> AsyncIterator[AsyncPublisher]:
    async with AsyncPublisher.from_url(publisher_url, prefix=prefix) as publisher:
        yield publisher


@pytest.fixture
async def start(command: tuple[str, ...]) -> AsyncIterator[Start]:
    """``await start(url, user)`` runs a client that has connected; it ends with the test, without an error."""
    started: list[ClientProgram] = []
    async with contextlib.AsyncExitStack() as stack:

        async def start(url: str, user: str, query: str = "") -> ClientProgram:
            address = f"{url}/?token={make_token(user)}{query}"
            program = await stack.enter_async_context(ClientProgram.running(*command, address))
            started.append(program)
            await program.opened()
            return program

        yield start
    assert [program.exit_code for program in started] == [0] * len(started)


@pytest.fixture
async def until_confirmed(redis_url: str, prefix: str) -> AsyncIterator[UntilConfirmed]:
    """``await until_confirmed(user, id)``: Redis knows that the notification has reached its user."""
    async with redis.asyncio.Redis.from_url(redis_url) as server:

        async def wait(user: str, id: int) -> None:
            key = Keys(prefix).confirmed(f"notifications/{user}")

            async def known() -> bool:
                return await server.zscore(key, user) == id

            await until(known)

        yield wait
