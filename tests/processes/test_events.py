"""Events of gateways as operators run them: what a killed one can tell no more, another one does."""

from __future__ import annotations

import asyncio
import time

from publisher import AsyncPublisher, Event
from tests.support.client import connected
from tests.support.processes import gateway_process
from tests.support.tokens import make_token

LEASE = 2.0
SETTINGS = {"events": "connected,disconnected", "node_lease_seconds": LEASE}


async def test_the_connections_of_a_killed_gateway_end_once_soon_after_its_lease(
    gateway_url: str, publisher_url: str, prefix: str
) -> None:
    async with (
        AsyncPublisher.from_url(publisher_url, prefix=prefix) as publisher,
        gateway_process(gateway_url, prefix, **SETTINGS) as killed,
        gateway_process(gateway_url, prefix, **SETTINGS) as other,
        gateway_process(gateway_url, prefix, **SETTINGS),
    ):
        events = publisher.events("g", start="oldest")

        async def following(count: int) -> list[Event]:
            async with asyncio.timeout(LEASE + 20):
                return [await anext(events) for _ in range(count)]

        async with connected(other.url, make_token("v")):
            async with (
                connected(killed.url, make_token("u")),
                connected(killed.url, make_token("v")),
            ):
                begun = await following(3)
                killed.process.kill()
                at = time.time() * 1000
                ended = await following(2)
            assert {each.kind for each in begun} == {"connected"}
            assert {each.kind for each in ended} == {"disconnected"}
            assert {each.user: each.last for each in ended} == {"u": True, "v": False}
            assert {each.connection for each in ended} < {each.connection for each in begun}
            # When it was told, by the clock of Redis.
            assert all(each.timestamp - at < (LEASE + 5) * 1000 for each in ended)
        (event,) = await following(1)
        assert (event.user, event.kind, event.last) == ("v", "disconnected", True)
