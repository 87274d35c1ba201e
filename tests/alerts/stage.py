"""Where an alert is caused: a Redis, gateways, their monitoring, and whoever connects to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import redis.asyncio

from publisher import AsyncPublisher, PublisherError
from publisher.contract.keys import Keys
from tests.alerts.monitoring import Monitoring, monitoring
from tests.alerts.runbook import entry
from tests.faults.proxy import Proxy
from tests.processes.test_serve import run
from tests.support.client import Client, connected
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.raw import TEXT, RawClient, raw_client
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_server import RedisServer
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until

_FIRES_SECONDS: Final = 240.0
_RESOLVES_SECONDS: Final = 150.0
_COMES_BACK_SECONDS: Final = 0.2
_STAYS_SECONDS: Final = 600.0
_AT_ONCE: Final = 2**20
_FEW_BYTES: Final = 65_536


@dataclass
class Told:
    """What is reported of an alert."""

    alert: str
    cause: str
    fired_after: float = 0.0
    resolved_after: float = 0.0
    summary: str = ""
    heard: str = ""
    others: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)


class Stage:
    """Everything that runs for one case; its exit stack ends it all.

    Args:
        folder: for files.
        told: what is reported.
        speed: how many times as fast time passes for the alerts.
        stack: of the case.
    """

    def __init__(self, folder: Path, told: Told, speed: float, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.told = told
        self.stack = stack
        self.prefix = f"a{secrets.token_hex(4)}"
        self.redis = RedisServer(folder)
        self._speed = speed
        self._monitoring: Monitoring | None = None
        self._since = 0.0

    # -- what runs ----------------------------------------------------------------------------

    def start_redis(self, *options: str) -> None:
        """A server of this case's own; without ``options`` it is in memory only."""
        self.redis = RedisServer(self.folder, *options)
        self.redis.start()
        self.stack.callback(self.redis.stop)

    async def start_cluster(self) -> RedisCluster:
        """A Redis Cluster of this case's own, without replicas."""
        cluster = RedisCluster(self.folder, replicated=False)
        self.stack.callback(cluster.stop)
        await asyncio.to_thread(cluster.start)
        return cluster

    async def way_to_redis(self) -> Proxy:
        """A network of its own on the way to Redis; ``url_by`` is the address at its end."""
        proxy = Proxy(self.redis.port)
        await proxy.start()
        self.stack.push_async_callback(proxy.aclose)
        return proxy

    async def gateway(self, redis_url: str = "", **settings: Any) -> GatewayProcess:
        """One more gateway, at this case's Redis unless told otherwise."""
        start = {"drain_seconds": 0, **settings}
        running = gateway_process(redis_url or self.redis.url, self.prefix, **start)
        return await self.stack.enter_async_context(running)

    async def again(
        self, gateway: GatewayProcess, redis_url: str = "", **settings: Any
    ) -> GatewayProcess:
        """End a gateway and start it anew in its place, with other settings."""
        if gateway.process.returncode is None:
            await gateway.terminate()
        places = {"port": gateway.port, "internal_port": gateway.internal_port}
        return await self.gateway(redis_url, **places, **settings)

    async def publisher(self, redis_url: str = "", **options: Any) -> AsyncPublisher:
        """A backend, at this case's Redis unless told otherwise."""
        made = AsyncPublisher.from_url(redis_url or self.redis.url, prefix=self.prefix, **options)
        return await self.stack.enter_async_context(made)

    async def publish_raw(self, channel: str, payload: bytes) -> None:
        """What somebody else writes where gateways listen to a channel."""
        name = Keys(self.prefix).live(channel)
        async with redis.asyncio.Redis(port=self.redis.port) as client:
            await client.publish(name, payload)

    async def client(self, gateway: GatewayProcess, user: str, **options: Any) -> Client:
        """Somebody who stays connected until the case ends; ``channels`` are what their token opens."""
        token = make_token(user, channels=options.pop("channels", None))
        return await self.stack.enter_async_context(connected(gateway.url, token, **options))

    async def reader(
        self, gateway: GatewayProcess, user: str, channel: str, extensions: str = ""
    ) -> None:
        """Somebody who hears a channel and reads as fast as it goes, without looking at what comes or answering it."""
        client = await self.deaf(gateway, user, channel, extensions)
        self.meanwhile(0, lambda: client.reader.read(_AT_ONCE))

    async def deaf(
        self, gateway: GatewayProcess, user: str, channel: str, extensions: str = ""
    ) -> RawClient:
        """Somebody who subscribes, and then reads nothing of what comes."""
        token = make_token(user, channels=[channel])
        opening = raw_client(gateway.url, token, extensions, receive_buffer=_FEW_BYTES)
        client = await self.stack.enter_async_context(opening)
        client.send(TEXT, json.dumps({"type": "subscribe", "channel": channel}).encode())
        return client

    def crowd(self, size: int, *gateways: GatewayProcess) -> None:
        """Users who each take the first of the gateways that takes them, stay, and come back when they are sent away."""

        async def stay(user: str) -> None:
            for gateway in gateways:
                with contextlib.suppress(aiohttp.ClientError, OSError, AssertionError):
                    async with connected(gateway.url, make_token(user)) as client:
                        await until(lambda client=client: client.socket.closed, _STAYS_SECONDS)

        for number in range(size):
            self.meanwhile(_COMES_BACK_SECONDS, partial(stay, f"user-{number}"))

    async def run(self, *arguments: str) -> Any:
        """What ``gateway`` prints with these arguments, as an operator runs it: JSON, or nothing."""
        code, out, err = await run(
            *arguments,
            GATEWAY_REDIS_URL=self.redis.url,
            GATEWAY_REDIS_PREFIX=self.prefix,
            GATEWAY_JWT_SECRET=SECRET,
        )
        assert code == 0, err
        return json.loads(out) if "--json" in arguments else out

    def meanwhile(self, pause: float, act: Callable[[], Awaitable[Any]]) -> asyncio.Task[None]:
        """Do something again and again until the case ends; that it fails meanwhile is part of the case."""

        async def repeat() -> None:
            while True:
                with contextlib.suppress(
                    aiohttp.ClientError, OSError, PublisherError, AssertionError, TimeoutError
                ):
                    await act()
                await asyncio.sleep(pause)

        task = asyncio.create_task(repeat())

        async def end() -> None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        self.stack.push_async_callback(end)
        return task

    # -- the alert ----------------------------------------------------------------------------

    async def watch(self, *gateways: GatewayProcess) -> None:
        """Let Prometheus scrape these gateways, and see that the alert does not fire of itself."""
        targets = [f"127.0.0.1:{each.internal_port}" for each in gateways]
        if self._monitoring is not None:
            self._monitoring.prometheus.watch(targets)
            return
        watching = monitoring(self.folder, targets, self._speed)
        self._monitoring = await self.stack.enter_async_context(watching)
        await until(self._all_up)
        # Before the first scrape there is no gateway at all.
        await until(self._quiet)

    async def _all_up(self) -> bool:
        assert self._monitoring is not None
        up = await self._monitoring.prometheus.query('up{job="gateway"}')
        return bool(up) and all(each.values[0][1] == 1 for each in up)

    def caused(self) -> None:
        """From now on the alert is expected."""
        self._since = time.monotonic()

    async def _quiet(self) -> bool:
        assert self._monitoring is not None
        return await self._monitoring.firing(self.told.alert) is None

    async def fires(self, **labels: str) -> None:
        """Wait until Prometheus says so; with these labels."""
        assert self._monitoring is not None
        watched, alert = self._monitoring, self.told.alert
        firing = await until(lambda: watched.firing(alert), _FIRES_SECONDS)
        assert labels.items() <= firing.labels.items(), firing
        self.told.fired_after = time.monotonic() - self._since
        self.told.summary = firing.summary
        self.told.others = await watched.others(alert)
        self.told.heard = await until(lambda: watched.heard(alert), _FIRES_SECONDS)

    def tries(self, sentence: str) -> None:
        """What the runbook says is tried here: this sentence is in the alert's entry."""
        assert sentence in entry(self.told.alert), (
            f"{self.told.alert}: the runbook does not say {sentence!r}"
        )
        self.told.tried.append(sentence)

    async def resolves(self) -> None:
        """Wait until the alert is over, and whoever was called knows."""
        assert self._monitoring is not None
        watched, alert = self._monitoring, self.told.alert
        since = time.monotonic()
        await until(self._quiet, _RESOLVES_SECONDS)
        self.told.resolved_after = time.monotonic() - since
        if alert in watched.pager.told:
            await until(lambda: watched.pager.told[alert] == "resolved", _RESOLVES_SECONDS)

    async def value(self, expression: str) -> float | None:
        """What Prometheus knows; ``None`` for nothing."""
        assert self._monitoring is not None
        found = await self._monitoring.prometheus.query(expression)
        return found[0].values[0][1] if found else None
