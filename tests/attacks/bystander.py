"""A client like any other, beside an attack: how long its heartbeats and its messages take."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp

from publisher import AsyncPublisher
from tests.support.client import connected
from tests.support.tokens import make_token
from tests.support.waiting import until

USER = "bystander"
_CHANNEL = f"notifications/{USER}"
_PAUSE_SECONDS = 0.02
_NEWCOMER_PAUSE_SECONDS = 0.1


@dataclass
class Times:
    """Seconds that things have taken.

    Attributes:
        heartbeats: until a heartbeat was answered.
        deliveries: from the call of ``publish`` until the message was there.
        newcomers: from the first byte of another client until its greeting was there.
        lateness: by which the machine let this process do something later than it was to.
    """

    heartbeats: list[float] = field(default_factory=list)
    deliveries: list[float] = field(default_factory=list)
    newcomers: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)


def p99(times: list[float]) -> float:
    """What one in a hundred takes longer than; of a few, the longest."""
    return sorted(times)[int(len(times) * 0.99)]


@contextlib.asynccontextmanager
async def bystander(
    url: str, publisher: AsyncPublisher, trust: ssl.SSLContext | None = None
) -> AsyncIterator[Times]:
    """Subscribe; then send heartbeats, publish, and let others connect until the block ends.

    What was published has arrived when this returns.
    """
    async with aiohttp.ClientSession() as session:
        address = f"{url}/?token={make_token(USER)}"
        async with session.ws_connect(address, ssl=trust or True) as socket:
            await socket.send_json({"type": "subscribe", "channel": _CHANNEL})
            for _ in ("connected", "subscribed"):
                await socket.receive(timeout=10)
            one = _Bystander(url, publisher, socket, trust)
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(one.listen())
                active = [
                    tasks.create_task(each) for each in (one.beat(), one.publish(), one.arrive())
                ]
                yield one.times
                one.leaving = True
                await asyncio.wait(active)
                await until(lambda: len(one.times.deliveries) == one.published)
                listening.cancel()


class _Bystander:
    def __init__(
        self,
        url: str,
        publisher: AsyncPublisher,
        socket: aiohttp.ClientWebSocketResponse,
        trust: ssl.SSLContext | None,
    ) -> None:
        self.times = Times()
        self.published = 0
        self.leaving = False
        self._url = url
        self._publisher = publisher
        self._socket = socket
        self._trust = trust
        self._answered = asyncio.Event()
        self._now = asyncio.get_running_loop().time

    async def listen(self) -> None:
        while True:
            frame = await self._socket.receive()
            assert frame.type is aiohttp.WSMsgType.TEXT, f"the bystander was cut off: {frame}"
            message = json.loads(frame.data)
            if message["type"] == "heartbeat":
                self._answered.set()
            else:
                assert message["type"] == "notifications", message
                self.times.deliveries.append(self._now() - message["data"]["at"])

    async def beat(self) -> None:
        while not self.leaving:
            started = self._now()
            self._answered.clear()
            await self._socket.send_json({"type": "heartbeat"})
            await self._answered.wait()
            answered = self._now()
            self.times.heartbeats.append(answered - started)
            await asyncio.sleep(_PAUSE_SECONDS)
            self.times.lateness.append(self._now() - answered - _PAUSE_SECONDS)

    async def publish(self) -> None:
        while not self.leaving:
            await self._publisher.publish(_CHANNEL, {"at": self._now()})
            self.published += 1
            await asyncio.sleep(_PAUSE_SECONDS)

    async def arrive(self) -> None:
        while not self.leaving:
            started = self._now()
            trust = self._trust or True
            async with connected(self._url, make_token("newcomer"), ssl=trust):
                self.times.newcomers.append(self._now() - started)
            await asyncio.sleep(_NEWCOMER_PAUSE_SECONDS)
