"""Items 1 and 2: one message to many sockets, paced and in a burst, on each server in turn."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tests.bench.failed_peers import PATIENCE, FailedPeers
from tests.bench.measuring import cpu_seconds, memory_bytes
from tests.bench.receiving import Receiver, ReceiverError, receiving
from tests.bench.scale import Scale
from tests.bench.servers import Message, Server

Result = dict[str, Any]
Maker = Callable[[], Message]


def message(size: int) -> Message:
    """A message of ``size`` bytes of JSON that says when it was made."""
    made: Message = {"sent": time.time_ns(), "text": ""}
    made["text"] = "x" * (size - len(orjson.dumps(made)))
    return made


@dataclass(slots=True)
class Audience:
    """A server with its sockets."""

    server: Server
    receiver: Receiver
    memory: float
    """Bytes of the server for each socket."""

    def share_of(self, messages: int) -> int:
        """How many of these the server gets."""
        return max(1, round(messages * self.server.share))

    async def paced(self, scale: Scale, count: int, make: Maker) -> Result:
        """Publish ``count`` messages, one each interval."""
        return await self._measure(self._publish_paced(count, scale.interval, make), count, scale)

    async def burst(self, scale: Scale, count: int, make: Maker) -> Result:
        """Publish ``count`` messages at once."""
        publishing = self.server.publish([make() for _ in range(count)])
        return await self._measure(publishing, count, scale)

    async def _measure(self, publishing: Awaitable[None], count: int, scale: Scale) -> Result:
        await self.receiver.reset()
        deliveries = count * self.receiver.sockets
        before = cpu_seconds(self.server.pids)
        await publishing
        try:
            report = await self.receiver.report(deliveries)
        except ReceiverError as error:
            raise ReceiverError(f"{self.server.name}: {error}") from None
        await asyncio.sleep(scale.settle_seconds)
        used = cpu_seconds(self.server.pids) - before
        return {"us_per_delivery": used / deliveries * 1e6, "cpu_seconds": used, **report}

    async def _publish_paced(self, count: int, interval: float, make: Maker) -> None:
        began = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number * interval - time.monotonic()))
            await self.server.publish([make()])


@contextlib.asynccontextmanager
async def audience(server: Server, sockets: int, **options: Any) -> AsyncIterator[Audience]:
    """Fill a server with sockets; ``options`` are the receiver's."""
    before = memory_bytes(server.pids)
    targets = server.targets(sockets)
    async with receiving(server.port, targets, greetings=server.greetings, **options) as receiver:
        memory = (memory_bytes(server.pids) - before) / sockets
        yield Audience(server, receiver, memory)


def median(results: Sequence[Result]) -> Result:
    """The result in the middle by its cost, and all costs."""
    costs = [each["us_per_delivery"] for each in results]
    middle = sorted(results, key=lambda each: each["us_per_delivery"])[(len(results) - 1) // 2]
    return {**middle, "us_per_delivery": statistics.median(costs), "rounds": costs}


async def measure(
    servers: Sequence[Server], scale: Scale, kinds: Sequence[str], failed: FailedPeers
) -> Result:
    """Give all servers the same loads, in turns; a peer that fails is left out from then on.

    Returns the results by kind (``fanout``, ``burst``) and server, and ``fan-out memory``: bytes for each socket, and ``versions``.
    """
    results: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    async with contextlib.AsyncExitStack() as stack:
        audiences = [
            filled for each in servers if (filled := await _fill(stack, each, scale, failed))
        ]
        # What a server does only once, such as learning its code paths, is not measured.
        await _rounds(audiences, "burst", scale, 1, failed)
        for kind in kinds:
            rounds = await _rounds(audiences, kind, scale, scale.rounds, failed)
            results[kind] = {name: median(found) for name, found in rounds.items()}
    measured = [each for each in audiences if each.server.name not in failed.reasons]
    return {
        **results,
        "fan-out memory": {each.server.name: each.memory for each in measured},
        "versions": {
            each.server.name: each.server.version for each in measured if each.server.version
        },
    }


async def _fill(
    stack: contextlib.AsyncExitStack, server: Server, scale: Scale, failed: FailedPeers
) -> Audience | None:
    filling = audience(server, scale.sockets)
    if server.peer:
        return await failed.enter(stack, server.name, filling)
    return await stack.enter_async_context(filling)


async def _rounds(
    audiences: Sequence[Audience], kind: str, scale: Scale, count: int, failed: FailedPeers
) -> dict[str, list[Result]]:
    """The results of a kind's rounds for each server that went through all of them."""
    rounds: dict[str, list[Result]] = {each.server.name: [] for each in audiences}
    for _ in range(count):
        for each in audiences:
            name = each.server.name
            if name in failed.reasons:
                continue
            if not each.server.peer:
                rounds[name].append(await _load(each, kind, scale))
                continue
            async with failed.noting(name), asyncio.timeout(PATIENCE):
                rounds[name].append(await _load(each, kind, scale))
    return {name: found for name, found in rounds.items() if name not in failed.reasons}


async def _load(filled: Audience, kind: str, scale: Scale) -> Result:
    def make() -> Message:
        return message(scale.message_bytes)

    if kind == "fanout":
        return await filled.paced(scale, filled.share_of(scale.paced_messages), make)
    return await filled.burst(scale, filled.share_of(scale.burst_messages), make)
