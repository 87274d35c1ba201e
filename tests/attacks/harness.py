"""Lets one attacker loose on a node of its own, beside a bystander, and measures what that costs."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import redis

from publisher import AsyncPublisher
from tests.attacks.beside import Beside
from tests.attacks.bystander import bystander, p99
from tests.attacks.kinds import Kind
from tests.attacks.target import MARK, Size, Target
from tests.bench.measuring import cpu_seconds
from tests.faults.logs import is_bad, lines
from tests.support.api import KEY, api_at
from tests.support.nginx import nginx_before
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.waiting import until

MIB = 2**20
MOST_SECONDS = 0.5
"""99 of 100 of the bystander's heartbeats and messages take no longer, whatever anybody else does.

On a machine that does something else besides, its own lateness comes on top.
"""
MOST_NEWCOMER_SECONDS = 2.0
"""Somebody else who connects meanwhile is greeted within this time."""


@dataclass(frozen=True)
class Cost:
    """What an attack has cost.

    ``heartbeat`` and ``delivery`` are what 99 of 100 took at most, ``newcomer`` is the slowest, ``lateness`` the
    machine's own, at most; all in seconds. ``cpu`` and ``redis`` are in cores. ``redis_mib`` and ``keys`` are what Redis has
    more than before.
    """

    seconds: float
    heartbeat: float
    delivery: float
    newcomer: float
    lateness: float
    memory_mib: float
    cpu: float
    redis: float
    redis_mib: float
    keys: int
    log_kb: float
    drawn_mib: float


@dataclass(frozen=True)
class Outcome:
    """What an attack has cost, and in which ways it is out of bounds."""

    kind: Kind
    cost: Cost
    excesses: list[str]


async def attack(
    kind: Kind, size: Size, redis_url: str, prefix: str, nginx: str | None = None
) -> Outcome:
    """Start a node, attack it, and see that it serves as before.

    Args:
        nginx: the program, for the kinds that need it.
    """
    async with (
        _beside(kind) as beside,
        gateway_process(
            redis_url, prefix, files=kind.files, **kind.settings, **beside.settings
        ) as node,
        _way_to(node, nginx if kind.behind_nginx else None) as url,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        target = Target(
            node, url, size, publisher, provider=beside.provider, api_url=beside.api_url
        )
        async with bystander(url, publisher, beside.trust) as times:
            await until(lambda: len(times.newcomers) > 1)
            meter = _Meter(node, redis_url)
            # Not in the bystander's event loop: its times are not to include what the attacker does there.
            await asyncio.to_thread(asyncio.run, kind.attacker(target))
            seconds, memory, cpu, redis_cpu, redis_memory, keys = meter.read()
        await until(lambda: _only_log_is_left(node))
        if beside.api_url:
            await _answers_backends(beside.api_url)
        cost = Cost(
            seconds=seconds,
            heartbeat=p99(times.heartbeats),
            delivery=p99(times.deliveries),
            newcomer=max(times.newcomers),
            lateness=max(times.lateness),
            memory_mib=memory / MIB,
            cpu=cpu / seconds,
            redis=redis_cpu / seconds,
            redis_mib=redis_memory / MIB,
            keys=keys,
            log_kb=(len(node.output) - meter.logged) / 1_000,
            drawn_mib=target.drawn / MIB,
        )
        return Outcome(kind, cost, list(_excesses(kind, cost, target)))


@contextlib.asynccontextmanager
async def _beside(kind: Kind) -> AsyncIterator[Beside]:
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        async with kind.beside(Path(folder)) as beside:
            yield beside


@contextlib.asynccontextmanager
async def _way_to(node: GatewayProcess, nginx: str | None) -> AsyncIterator[str]:
    """Where clients of a node connect."""
    if nginx is None:
        yield node.url
        return
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        balancer = nginx_before(nginx, Path(folder) / "nginx", node.port)
        async with balancer.running():
            yield balancer.url


class _Meter:
    def __init__(self, node: GatewayProcess, redis_url: str) -> None:
        self._node = node
        self._redis_url = redis_url
        self.logged = len(node.output)
        self._before = self._used()
        self._memory = node.resident_bytes
        node.forget_peak()

    def read(self) -> tuple[float, int, float, float, int, int]:
        """Since the beginning: seconds, the most memory, CPU seconds of node and Redis, bytes and keys of Redis."""
        seconds, cpu, redis_cpu, redis_memory, keys = (
            now - before for now, before in zip(self._used(), self._before, strict=True)
        )
        memory = self._node.peak_bytes - self._memory
        return seconds, memory, cpu, redis_cpu, int(redis_memory), int(keys)

    def _used(self) -> tuple[float, float, float, int, int]:
        with redis.Redis.from_url(self._redis_url) as client:
            used = client.info("cpu") | client.info("memory")
            keys = client.dbsize()
        return (
            time.monotonic(),
            cpu_seconds([self._node.process.pid]),
            used["used_cpu_user"] + used["used_cpu_sys"],
            used["used_memory"],
            keys,
        )


async def _only_log_is_left(node: GatewayProcess) -> bool:
    """Whether it is ready, and all clients and strangers are gone."""
    _, metrics = await node.get("/metrics")
    gone = "\ngateway_connections 0.0\n" in metrics and "_unauthenticated 0.0\n" in metrics
    return gone and await node.is_ready()


async def _answers_backends(url: str) -> None:
    """Return once the HTTP API serves a backend as before."""

    async def served() -> bool:
        async with api_at(url) as api:
            return (await api.ask("GET", "/v1/stats")).status == 200

    await until(served)


def _excesses(kind: Kind, cost: Cost, target: Target) -> Iterator[str]:
    allowed = {
        "heartbeat": MOST_SECONDS + cost.lateness,
        "delivery": MOST_SECONDS + cost.lateness,
        "newcomer": (kind.newcomer_seconds or MOST_NEWCOMER_SECONDS) + cost.lateness,
        "memory_mib": kind.memory_mib,
        "redis": kind.redis_share,
        "redis_mib": kind.redis_mib,
        "keys": kind.keys,
        "log_kb": kind.log_kb,
        "drawn_mib": kind.drawn_mib,
    }
    for field in fields(cost):
        value, most = getattr(cost, field.name), allowed.get(field.name)
        if most is not None and value > most:
            yield f"{field.name} {value:.3g}, allowed {most:g}"
    output = target.node.output
    yield from (f"log: {line.text}" for line in lines("node", output) if is_bad(line))
    yield from (f"sent back: {leak[:200]!r}" for leak in target.leaks)
    yield from (f"logged: {secret}" for secret in _secrets(target) if secret in output)


def _secrets(target: Target) -> Iterator[str]:
    yield from (MARK, KEY)
    for token in target.tokens:
        _head, claims, signature = token.split(".")
        yield from (claims, signature)
