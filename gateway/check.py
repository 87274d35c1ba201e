"""What ``gateway check`` does before a deploy does: it asks of the settings and of Redis all that serving asks."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio.client import PubSub

from gateway.app import make_connector, make_verifier
from gateway.backplane.health import NodeEntry
from gateway.backplane.places import PlaceTable
from gateway.backplane.store import GrantReader
from gateway.node.stats import Stats
from gateway.settings import Settings, advice
from gateway.web.auth import BadKey
from publisher import AsyncPublisher, PublisherError
from publisher.contract.calls import Call, parse_log, read_log
from publisher.contract.keys import Keys
from publisher.errors import InvalidURL, Rejected, Unavailable
from publisher.transport.failures import FAILURES, unavailable
from publisher.transport.pipeline import Pipeline
from publisher.transport.redis_py import asyncio_client

_OLDEST: Final = (7, 0)
"""From here on ``SET`` takes ``NX`` together with ``GET``; ``ZADD GT`` came with 6.2."""

_LEASE_SECONDS: Final = 10.0
_USER: Final = "check"
_CHANNEL: Final = f"notifications/{_USER}"

# What the reason of a refused call does not say by itself.
_HINTS: Final = (
    ("READONLY", "this server is a replica: name its primary"),
    ("OOM", "maxmemory is reached: give Redis more memory"),
    ("CLUSTERDOWN", "this is a server of a Redis Cluster: name a single server"),
    ("unknown command", "the server forbids it or has renamed it"),
)


async def check(settings: Settings) -> dict[str, Any]:
    """``{"ok": bool, "errors": [...], "warnings": [...], "namespaces": {...}, "redis": {...}}``."""
    errors: list[str] = []
    warnings = advice(settings, os.environ)
    try:
        make_verifier(settings)
    except BadKey as error:
        errors.append(str(error))
    redis_found: dict[str, Any] = {}
    if settings.redis_url is None:
        errors.append("GATEWAY_REDIS_URL is not set")
    else:
        redis_found = await _look_at_redis(settings, errors, warnings)
    return {
        "ok": not errors,
        "errors": errors,
        "warnings": warnings,
        "namespaces": {name: each.to_dict() for name, each in settings.all_namespaces.items()},
        "redis": redis_found,
    }


def too_old(info: Mapping[str, str]) -> str | None:
    """What to say of the server's version (fields of ``INFO``), if the gateway does not work with it."""
    # Every version of Valkey is new enough; as redis_version it names one that old clients expect.
    if "valkey_version" in info:
        return None
    found = re.match(r"(\d+)\.(\d+)", info.get("redis_version", ""))
    if found is None or (int(found[1]), int(found[2])) >= _OLDEST:
        return None
    return f"Redis {info['redis_version']} is too old: 7.0 or newer is needed, or Valkey"


async def _look_at_redis(
    settings: Settings, errors: list[str], warnings: list[str]
) -> dict[str, Any]:
    try:
        connector = make_connector(settings)
    except InvalidURL as error:
        errors.append(str(error))
        return {"reachable": False}
    pipeline = Pipeline(connector, None, settings.redis_timeout_seconds)
    try:
        info = await _info(pipeline)
    except Unavailable as error:
        errors.append(f"Redis: {_explained(error.reason)}")
        return {"reachable": False}
    else:
        warnings.extend(_doubts(info))
        if (reason := too_old(info)) is not None:
            errors.append(reason)
        else:
            errors.extend(await _Trial(settings, pipeline).problems())
        version = info.get("valkey_version") or info.get("redis_version")
        return {"reachable": True, "version": version}
    finally:
        await pipeline.aclose()


async def _info(pipeline: Pipeline) -> dict[str, str]:
    """What Redis says about itself; nothing where that is forbidden.

    Raises:
        Unavailable: Redis did not answer, or lets nobody in.
    """
    try:
        answer: bytes = await pipeline.call(Call(("INFO",)))
    except Rejected as error:
        if error.reason.startswith("NOPERM"):
            return {}
        raise
    lines = answer.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _doubts(info: Mapping[str, str]) -> list[str]:
    """What works and may lose messages."""
    found = []
    if info.get("maxmemory_policy", "noeviction") != "noeviction":
        found.append("Redis may evict messages: set maxmemory-policy to noeviction")
    if info.get("aof_enabled") == "0":
        found.append("Redis keeps no append-only file: a restart loses the queue (appendonly yes)")
    return found


def _explained(reason: str) -> str:
    hints = [hint for sign, hint in _HINTS if sign in reason]
    return f"{reason} ({hints[0]})" if hints else reason


@dataclass(slots=True)
class _Trial:
    """Does once what a node and a publisher do, under a prefix of its own below that of the settings.

    So the rights to all keys and channels of the settings' prefix are tried, and nobody is disturbed.
    """

    settings: Settings
    pipeline: Pipeline
    _failed: dict[str, list[str]] = field(default_factory=dict)

    async def problems(self) -> list[str]:
        """What does not work, each reason once."""
        name = f"check-{secrets.token_hex(6)}"
        database = make_connector(self.settings).database
        keys = Keys(f"{self.settings.redis_prefix}:{name}", database)
        url = self.settings.redis_url
        assert url is not None
        try:
            await self._connections(keys, name)
            async with (
                asyncio_client(url.get_secret_value()) as client,
                AsyncPublisher.from_url(
                    url.get_secret_value(),
                    prefix=keys.prefix,
                    retries=0,
                    timeout=self.settings.redis_timeout_seconds,
                ) as publisher,
            ):
                await self._messages(keys, publisher, client.pubsub())
                await self._step("grant", lambda: publisher.grant(_CHANNEL, _USER, 60))
            await self._subscriptions(keys)
        finally:
            await self._step("clean up", lambda: self._clean_up(keys))
        return [
            f"Redis: cannot {', '.join(steps)}: {_explained(reason)}"
            for reason, steps in self._failed.items()
        ]

    async def _connections(self, keys: Keys, name: str) -> None:
        entry = NodeEntry(keys, name, _LEASE_SECONDS)
        table = PlaceTable(keys, name, 1, _LEASE_SECONDS)
        for purpose, call in (
            ("keep the list of nodes", entry.renew()),
            ("ask which nodes live", table.living()),
            ("take a place for a connection", table.take(_USER, "1")),
            ("renew a place", table.renew(_USER, ["1"])),
            ("release a place", table.release(_USER, "1")),
            ("announce namespaces", Call(("HSET", keys.namespaces, "check", "{}"))),
            ("mark the data", Call(("SET", keys.marker, name, "NX", "GET"))),
            ("send commands to the nodes", Call(("PUBLISH", keys.control, b""))),
        ):
            await self._call(purpose, call)
        # Publishers would take it for one of the namespaces.
        await self._call("withdraw namespaces", Call(("EXPIRE", keys.namespaces, 0)))

    async def _messages(self, keys: Keys, publisher: AsyncPublisher, heard: PubSub) -> None:
        """Publish, hear it, and read it from the log."""
        seconds = self.settings.redis_timeout_seconds
        async with heard:

            async def listen() -> None:
                await heard.subscribe(keys.live(_CHANNEL))
                await heard.get_message(timeout=seconds)  # the confirmation

            listening = await self._step("listen to messages", listen)
            sent = await self._step("publish", lambda: publisher.publish(_CHANNEL, {}))
            if not sent:
                return
            if listening and await heard.get_message(timeout=seconds) is None:
                self._fail("hear what was published", "no message came in time")

        async def read() -> None:
            call = read_log(keys, _CHANNEL, _USER, 0, 1)
            if not parse_log(await self.pipeline.call(call)).messages:
                self._fail("read the log", "what was published is not there")

        await self._step("read the log", read)

    async def _subscriptions(self, keys: Keys) -> None:
        key = keys.confirmed(_CHANNEL)
        grants = GrantReader(self.pipeline, keys, Stats())
        await self._step("read grants", lambda: grants.remaining(_CHANNEL, _USER))
        await self._call("write positions", Call(("ZADD", key, "GT", 1, _USER)))

    async def _clean_up(self, keys: Keys) -> None:
        for key in (
            *(keys.nodes, keys.namespaces, keys.marker, keys.connections(_USER)),
            *(
                keys.log(_CHANNEL),
                keys.last(_CHANNEL),
                keys.confirmed(_CHANNEL),
                keys.grant(_CHANNEL),
            ),
        ):
            await self.pipeline.call(Call(("EXPIRE", key, 0)))

    async def _call(self, purpose: str, call: Call) -> None:
        await self._step(purpose, lambda: self.pipeline.call(call))

    async def _step(self, purpose: str, work: Callable[[], Awaitable[object]]) -> bool:
        """Do ``work``; what fails is noted, by its reason."""
        if any(reason.endswith("in time") for reason in self._failed):
            return False  # a server that hangs is waited for once
        try:
            async with asyncio.timeout(2 * self.settings.redis_timeout_seconds):
                await work()
        except Unavailable as error:
            self._fail(purpose, error.reason)
        except PublisherError as error:
            self._fail(purpose, str(error))
        except FAILURES as error:
            self._fail(purpose, unavailable(error, maybe_sent=False).reason)
        else:
            return True
        return False

    def _fail(self, purpose: str, reason: str) -> None:
        self._failed.setdefault(reason, []).append(purpose)
