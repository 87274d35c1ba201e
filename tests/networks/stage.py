"""Gateways on one side of the line, clients of each kind on the other, and a backend that publishes to all of them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from publisher import AsyncPublisher
from tests.networks.clients import Clients, Pages, browser, page_served, receivers
from tests.networks.lab import SERVER, Lab
from tests.networks.line import Traffic
from tests.support.line_program import LineProgram
from tests.support.processes import gateway_process
from tests.support.redis_server import RedisServer

KINDS: Final = ("plain", "js", "receiver")
PATIENCE_SECONDS: Final = 60
"""So long clients may need to notice that they are cut off."""


@dataclass
class Stage:
    """All that takes part. ``ports``: of the gateway that the clients of a kind have for themselves."""

    lab: Lab
    publisher: AsyncPublisher
    clients: list[Clients] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    _published: int = 0

    async def publish(self) -> int:
        """Publish the next message, to each user; returns its number."""
        self._published += 1
        for clients in self.clients:
            for user in clients.users:
                await self.publisher.publish(f"notifications/{user}", {"n": self._published})
        return self._published

    async def all_have(self, number: int) -> None:
        """Wait until each user has received that message.

        Raises:
            AssertionError: somebody has not for minutes.
        """
        for clients in self.clients:
            assert await self._have(clients, number), f"{clients.kind} lack message {number}"

    async def come_back(self, number: int) -> None:
        """The same after an outage, where clients may fail to notice it: those begin anew."""
        for clients in self.clients:
            if not await self._have(clients, number):
                await clients.begin(f"ws://{SERVER}:{self.ports[clients.kind]}")

    async def _have(self, clients: Clients, number: int) -> bool:
        for _ in range(PATIENCE_SECONDS * 4):
            await clients.look()
            if len(self.arrived(clients, number)) == len(clients.users):
                return True
            await asyncio.sleep(0.25)
        return False

    def arrived(self, clients: Clients, number: int) -> list[float]:
        """When a message first came to each user of a kind, seconds since 1970."""
        first: dict[str, float] = {}
        for received in clients.received:
            if received.n == number:
                first.setdefault(received.user, received.at)
        return list(first.values())

    def repeated(self, clients: Clients) -> int:
        """How many messages came again."""
        return len(clients.received) - len({(each.user, each.n) for each in clients.received})

    def traffic(self, kind: str) -> Traffic:
        """What has passed for the clients of a kind."""
        return self.lab.line.traffic[self.ports[kind]]

    def forget_traffic(self) -> None:
        """Count anew."""
        self.lab.line.traffic.clear()


@contextlib.asynccontextmanager
async def stage(
    names: Sequence[str], kinds: Sequence[str], users: int, seed: int
) -> AsyncIterator[Stage]:
    """Everything started, and every client subscribed."""
    async with contextlib.AsyncExitStack() as stack:
        server = RedisServer(Path(stack.enter_context(TemporaryDirectory())))
        server.start()
        stack.callback(server.stop)
        lab = Lab(names, seed)
        stack.callback(lab.close)
        prefix = f"networks-{secrets.token_hex(3)}"
        publisher = AsyncPublisher.from_url(server.url, prefix=prefix)
        all_of_it = Stage(lab, await stack.enter_async_context(publisher))
        await stack.enter_async_context(page_served())
        shown = await stack.enter_async_context(browser(lab))
        for kind in kinds:
            gateway = await stack.enter_async_context(
                gateway_process(server.url, prefix, host=SERVER, handshakes_per_second=1_000)
            )
            all_of_it.ports[kind] = gateway.port
            names_of_users = [f"{kind}-{number}" for number in range(users)]
            clients: Clients = (
                await stack.enter_async_context(receivers(lab, names_of_users))
                if kind == "receiver"
                else Pages(kind, names_of_users, shown)
            )
            await clients.begin(f"ws://{SERVER}:{gateway.port}")
            all_of_it.clients.append(clients)
        command = lab.at_portal("python3", "-m", "tests.networks.portal")
        portal = LineProgram.running(*command, *map(str, all_of_it.ports.values()))
        await (await stack.enter_async_context(portal)).read_line()
        yield all_of_it
