"""A gateway that can be killed, frozen and started again at its address, with a proxy before a single Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.faults.proxy import Proxy
from tests.faults.redis_servers import RedisServers
from tests.faults.trace import Interval
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.redis_server import free_port
from tests.support.waiting import until

_READY_SECONDS = 20.0
_ANSWER_SECONDS = 2.0
_BUFFER = 128 * 1024


class NotRunning(RuntimeError):
    """The node is down on purpose."""


class Node:
    """``gateway serve`` as a process; ``redis`` is the proxy through which it reaches a single Redis."""

    def __init__(self, servers: RedisServers, prefix: str, **settings: Any) -> None:
        self.port = free_port()
        self.redis = Proxy(servers.primaries[0].port, buffer=_BUFFER)
        self.servers = servers
        self.past_output = ""
        self.frozen = False
        self.killed: dict[str, float] = {}
        """Ids of those that were killed at this address, and when."""
        self.ended: list[tuple[set[str], Interval]] = []
        """Ids of those that ended in order, and how long that took."""
        self.api_url = f"http://127.0.0.1:{(api_port := free_port())}"
        self._internal_port = free_port()
        self._prefix = prefix
        self._settings = settings | ({"api_port": api_port} if "api_keys" in settings else {})
        self._stack = contextlib.AsyncExitStack()
        self._process: GatewayProcess | None = None

    @property
    def process(self) -> GatewayProcess:
        """The process that runs now."""
        if self._process is None:
            raise NotRunning
        return self._process

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        self._process = await self._stack.enter_async_context(
            gateway_process(
                self.servers.url(self.redis),
                self._prefix,
                port=self.port,
                internal_port=self._internal_port,
                **self._settings,
            )
        )

    async def kill(self) -> None:
        """End it without warning."""
        await self.process.kill()
        self.killed |= dict.fromkeys(self.ids() - self.killed.keys(), time.monotonic())
        await self._forget()

    async def terminate(self) -> int:
        """Let it drain and end; returns its exit code."""
        begun = time.monotonic()
        code = await self.process.terminate()
        self.ended.append((self.ids(), Interval(begun, time.monotonic())))
        await self._forget()
        return code

    def ids(self) -> set[str]:
        """Its names in Redis."""
        return set(re.findall(r"node_started node=(\S+)", self.process.output))

    async def _forget(self) -> None:
        self.past_output += self.process.output
        self._process = None
        await self._stack.aclose()

    def freeze(self) -> None:
        """Let it hang: its connections stay open, and it does nothing."""
        self.process.freeze()
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        self.process.thaw()
        self.frozen = False

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.process.returncode is None

    @property
    def output(self) -> str:
        """All that was written at this address."""
        return self.past_output + (self._process.output if self._process is not None else "")

    async def aclose(self) -> None:
        """End everything."""
        await self._stack.aclose()
        await self.redis.aclose()

    # -- what an operator sees ----------------------------------------------------------------

    async def ready(self) -> bool:
        """Whether its ``/readyz`` says so."""
        return await self.process.is_ready()

    async def served(self) -> bool:
        """Whether it is ready, and hears itself through every primary."""
        if not await self.ready():
            return False
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                _, body = await self.process.get("/readyz")
        except (aiohttp.ClientError, TimeoutError):
            return False
        return self.servers.all_up(json.loads(body)["redis"])

    async def unready(self) -> bool:
        """The opposite."""
        return not await self.ready()

    async def turns_unready(self, within: float) -> float:
        """Wait until it is not ready; returns after how many seconds that was."""
        return await _seconds(self.unready, within)

    async def turns_ready(self, within: float = _READY_SECONDS) -> float:
        """Wait until it is ready; returns after how many seconds that was."""
        return await _seconds(self.ready, within)

    async def metric(self, sample: str) -> float:
        """The value of a sample of ``/metrics``, such as ``gateway_connections``; 0 without one."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.process.internal_url}/metrics") as answer,
        ):
            for line in (await answer.text()).splitlines():
                name, _, value = line.rpartition(" ")
                if name == sample:
                    return float(value)
        return 0.0

    async def handshake_status(self) -> int:
        """How a client's handshake is answered when it is refused."""
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}/?token=x", headers=headers) as answer,
        ):
            return answer.status


async def _seconds(condition: Any, within: float) -> float:
    begun = time.monotonic()
    await until(condition, within)
    return time.monotonic() - begun


@contextlib.asynccontextmanager
async def running_nodes(
    count: int, servers: RedisServers, prefix: str, **settings: Any
) -> AsyncIterator[list[Node]]:
    """Run nodes until the block ends; their output is told with whatever error leaves it."""
    nodes = [Node(servers, prefix, **settings) for _ in range(count)]
    try:
        for node in nodes:
            await node.redis.start()
        await asyncio.gather(*(node.start() for node in nodes))
        yield nodes
    except BaseException as error:
        for number, node in enumerate(nodes):
            lines = node.output.splitlines()
            error.add_note("\n".join([f"The last of node {number}'s output:", *lines[-80:]]))
        raise
    finally:
        for node in nodes:
            await node.aclose()
