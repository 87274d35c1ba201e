"""What ``gateway check`` does before a deploy does: it asks of the settings and of Redis all that serving asks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import ResponseError

from gateway.backplane.health import NodeEntry
from gateway.backplane.place_table import PlaceTable
from gateway.backplane.store import GrantReader
from gateway.credentials import make_topology, make_verifier
from gateway.node.stats import Stats
from gateway.options import advice
from gateway.settings import Settings
from gateway.web.keys import BadKey
from publisher.contract import rights
from publisher.contract.calls import Call, Command, read_log
from publisher.contract.keys import Keys
from publisher.errors import InvalidURL, Rejected, Unavailable
from publisher.transport.connection import Reader, Server, opened
from publisher.transport.failures import FAILURES, code, meaning, unavailable
from publisher.transport.pipeline import Pipeline
from publisher.transport.redis_py import Connector
from publisher.transport.resp import pack

_OLDEST: Final = (7, 0)
"""From here on ``SET`` takes ``NX`` together with ``GET``; ``ZADD GT`` came with 6.2."""

_LEASE_SECONDS: Final = 10.0
_USER: Final = "check"
_CHANNEL: Final = f"notifications/{_USER}"

# What the reason of a refused call does not say by itself; ``{database}`` is the number in the URL.
_HINTS: Final = (
    ("READONLY", "this server is a replica: name its primary"),
    ("OOM", "maxmemory is reached: give Redis more memory"),
    ("CLUSTERDOWN", "this is a server of a Redis Cluster: name a single server, or Sentinel"),
    ("unknown command", "the server forbids it or has renamed it"),
    ("DB index", "this server has no database {database}"),
)
_NO_TLS: Final = "the URL asks for TLS, which this server may not speak: then use redis://"
_INFO_FORBIDDEN: Final = (
    "the Redis user may not use INFO: version, append-only file and eviction were not looked at"
)


async def check(settings: Settings) -> dict[str, Any]:
    """``{"ok": bool, "errors": [...], "warnings": [...], "namespaces": {...}, "redis": {...}}``."""
    errors: list[str] = []
    warnings = advice(os.environ)
    try:
        make_verifier(settings)
    except BadKey as error:
        errors.append(str(error))
    redis_found: dict[str, Any] = {}
    if settings.redis_url is None:
        errors.append("GATEWAY_REDIS_URL is not set (--development checks the Redis of `make run`)")
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
        topology = make_topology(settings)
    except InvalidURL as error:
        errors.append(str(error))
        return {"reachable": False}
    servers, primary = topology.servers, topology.for_loop()
    pipeline = Pipeline(primary, None, settings.redis_timeout_seconds)
    try:
        info = await _info(pipeline)
    except Unavailable as error:
        errors.append(f"Redis: {_explained_opening(error.reason, servers)}")
        return {"reachable": False}
    else:
        warnings.extend(_doubts(info) if info else [_INFO_FORBIDDEN])
        if (reason := too_old(info)) is not None:
            errors.append(reason)
        else:
            keys = Keys(settings.redis_prefix, servers.database)
            trial = _Trial(settings, primary, pipeline, keys)
            errors.extend(await trial.problems())
            warnings.extend(trial.hints)
        version = info.get("valkey_version") or info.get("redis_version")
        return {"reachable": True, "version": version}
    finally:
        await pipeline.aclose()
        await primary.aclose()


async def _info(pipeline: Pipeline) -> dict[str, str]:
    """What Redis says about itself; nothing where that is forbidden.

    Raises:
        Unavailable: Redis did not answer, or lets nobody in.
    """
    # An error among the replies of a round trip is no trouble yet, and is not logged.
    (answer,) = await pipeline.round_trip([("INFO",)])
    if isinstance(answer, ResponseError):
        if code(answer) == "NOPERM":
            return {}
        raise meaning(answer)
    lines = answer.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _doubts(info: Mapping[str, str]) -> list[str]:
    """What works and may lose messages."""
    found = []
    if info.get("maxmemory_policy", "noeviction") != "noeviction":
        found.append("Redis may evict messages: set maxmemory-policy to noeviction")
    if info.get("aof_enabled") == "0":
        found.append("Redis keeps no append-only file: a restart loses the log (appendonly yes)")
    return found


def _explained(reason: str, database: int) -> str:
    hints = [hint for sign, hint in _HINTS if sign in reason]
    return f"{reason} ({hints[0].format(database=database)})" if hints else reason


def _explained_opening(reason: str, connector: Connector) -> str:
    """The same where not even a connection came about: a server that waits for a command sees none in TLS."""
    explained = _explained(reason, connector.database)
    # A certificate that is not accepted has come in TLS.
    unclear = "in time" in reason or ("SSL" in reason and "CERTIFICATE" not in reason)
    return f"{explained} ({_NO_TLS})" if connector.tls and unclear else explained


@dataclass(slots=True)
class _Trial:
    """Does once what a node does, under a prefix of its own below that of the settings (``keys``).

    So the rights to all keys and channels of the settings' prefix are tried, and nobody is disturbed. What only
    a publisher does is tried without changing anything; ``hints`` says whether backends need another user.
    """

    settings: Settings
    server: Server
    pipeline: Pipeline
    keys: Keys
    hints: list[str] = field(default_factory=list)
    _failed: dict[str, list[str]] = field(default_factory=dict)

    async def problems(self) -> list[str]:
        """What does not work, each reason once."""
        name = f"check-{secrets.token_hex(6)}"
        keys = self.keys.below(name)
        try:
            await self._step("use the commands of a node", lambda: self._node_rights(keys))
            await self._connections(keys, name)
            await self._messages(keys)
            await self._subscriptions(keys)
            await self._step("publish and grant", lambda: self._publisher_rights(keys))
        finally:
            await self._step("clean up", lambda: self._clean_up(keys))
        return [
            f"Redis: cannot {', '.join(steps)}: {_explained(reason, self.keys.database)}"
            for reason, steps in self._failed.items()
        ]

    async def _node_rights(self, keys: Keys) -> None:
        missing = await self._missing(rights.to_serve(keys))
        if missing:
            raise Rejected(f"the user lacks the rights {' '.join(missing)}", maybe_sent=False)

    async def _publisher_rights(self, keys: Keys) -> None:
        uses = (rights.to_publish, rights.to_grant, rights.to_revoke)
        missing = await self._missing([command for use in uses for command in use(keys)])
        # What a node lacks too has been told.
        missing = [rule for rule in missing if rule not in rights.of_a_gateway(self.keys)]
        if missing:
            self.hints.append(
                f"this Redis user may not publish or grant (it lacks {' '.join(missing)}): "
                "backends need a Redis user of their own, see docs/deployment.md"
            )

    async def _missing(self, commands: list[Command]) -> list[str]:
        """Which rules of an ACL ``commands`` lack. An error of another kind is raised."""
        replies = await self.pipeline.round_trip(commands)
        refused = []
        for command, reply in zip(commands, replies, strict=True):
            if code(reply) == "NOPERM":
                refused.append((command, str(reply)))
            elif code(reply) not in {"", "NOSCRIPT"}:
                raise meaning(reply)
        return rights.missing(self.keys, refused)

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

    async def _messages(self, keys: Keys) -> None:
        """Send to a channel, hear it, and read the channel's log."""
        seconds = self.settings.redis_timeout_seconds
        heard: asyncio.Queue[Any] = asyncio.Queue()
        async with contextlib.AsyncExitStack() as stack:

            async def listen() -> None:
                transport = await stack.enter_async_context(opened(self.server, seconds))
                reader = Reader(transport, heard.put_nowait)
                reader.write(pack([("SUBSCRIBE", keys.live(_CHANNEL))]))
                if isinstance(reply := await heard.get(), ResponseError):
                    raise meaning(reply)

            async def hear() -> None:
                await self.pipeline.call(Call(("PUBLISH", keys.live(_CHANNEL), b"")))
                try:
                    async with asyncio.timeout(seconds):
                        await heard.get()
                except TimeoutError:
                    self._fail("hear what was published", "no message came in time")

            if await self._step("listen to messages", listen):
                await self._step("send messages", hear)
        await self._call("read the log", read_log(keys, _CHANNEL, _USER, 0, 1))

    async def _subscriptions(self, keys: Keys) -> None:
        key = keys.confirmed(_CHANNEL)
        grants = GrantReader(self.pipeline, keys, Stats())
        await self._step("read grants", lambda: grants.remaining(_CHANNEL, _USER))
        await self._call("write positions", Call(("ZADD", key, "GT", 1, _USER)))

    async def _clean_up(self, keys: Keys) -> None:
        of_the_node = keys.nodes, keys.namespaces, keys.marker
        for key in (*of_the_node, keys.connections(_USER), keys.confirmed(_CHANNEL)):
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
        except FAILURES as error:
            self._fail(purpose, unavailable(error, maybe_sent=False).reason)
        else:
            return True
        return False

    def _fail(self, purpose: str, reason: str) -> None:
        self._failed.setdefault(reason, []).append(purpose)
