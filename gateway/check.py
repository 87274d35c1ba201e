"""What ``gateway check`` does before a deploy does: it asks of the settings and of Redis all that serving asks."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from redis.exceptions import ResponseError

from gateway.api.keys import BadApiKeys
from gateway.api.keys import read as read_api_keys
from gateway.audit_log import unwritable
from gateway.backplane.sentinels import doubts_of
from gateway.backplane.store import as_announced, as_text
from gateway.backplane.trial import Redis, Trial, connected, explained, of_all
from gateway.credentials import (
    internal_tls_files,
    make_ring,
    make_topology,
    make_verifier,
    tls_files,
)
from gateway.options import advice
from gateway.redis_acl import publishers_url
from gateway.setting_doubts import doubts
from gateway.settings import Settings, UsageError
from gateway.web.key_fetching import NoKeys
from gateway.web.key_set import KeySet
from gateway.web.keys import BadKey
from gateway.web.tls import BadCertificate, Files, load
from publisher.contract.calls import Call, pairs_of
from publisher.contract.channels import Namespace
from publisher.contract.keys import Keys
from publisher.errors import InvalidInput, InvalidURL, Unavailable
from publisher.transport.failures import code, meaning
from publisher.transport.pipeline import Pipeline
from publisher.transport.redis_py import Connector
from publisher.transport.topology import Topology, asyncio_topology

_OLDEST: Final = (7, 0)
"""From here on ``SET`` takes ``NX`` together with ``GET``; ``ZADD GT`` came with 6.2."""

_LOST: Final = (
    "bring this primary back, or let a replica take over; until then its channels are silent, and by default, with "
    "cluster-require-full-coverage yes, so are all others"
)
_NOT_TRIED: Final = "what a node does in Redis was not tried, because not all primaries answer"
_NO_TLS: Final = "the URL asks for TLS, which this server may not speak: then use redis://"
_CLOSED: Final = re.compile("reset by peer|closed|lost", re.IGNORECASE)
"""What becomes of a connection if one side speaks TLS and the other one does not, or does not trust a certificate."""
_ITS_CERTIFICATE: Final = "Redis may want a certificate of this side that it trusts: name one by ssl_certfile and ssl_keyfile"
_ONLY_TLS: Final = "if this server speaks TLS only, use rediss://"
_INFO_FORBIDDEN: Final = (
    "the Redis user may not use INFO: version, append-only file and eviction were not looked at"
)
_COVERAGE: Final = "cluster-require-full-coverage"
_ALL_STOP: Final = (
    f"one primary that is lost stops all: set {_COVERAGE} to no, and the others go on"
)
_COVERAGE_UNKNOWN: Final = (
    f"the Redis user may not use CONFIG GET: see to it that {_COVERAGE} is no, "
    "or one primary that is lost stops all"
)


async def check(settings: Settings) -> dict[str, Any]:
    """``{"ok": bool, "errors": [...], "warnings": [...], "namespaces": {...}, "redis": {...}, "keys": [...],
    "encryption_keys": [...]}``.
    """
    errors: list[str] = []
    warnings = [*advice(os.environ), *doubts(settings)]
    keys_found: list[dict[str, Any]] = []
    try:
        keys = make_verifier(settings).keys
        warnings += keys.doubts()
        keys_found = await _look_for_keys(keys, errors)
    except BadKey as error:
        errors.append(str(error))
    for each in (tls_files, internal_tls_files):
        _look_at_files(each, settings, errors, warnings)
    if settings.audit_log is not None and (why := unwritable(settings.audit_log)) is not None:
        errors.append(
            f"GATEWAY_AUDIT_LOG: {settings.audit_log}: {why}; name a file in a folder that is there"
        )
    _look_at_api_keys(settings, errors)
    ring = None
    try:
        ring = make_ring(settings)
    except UsageError as error:
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
        "keys": keys_found,
        "encryption_keys": ring.names if ring else [],
    }


def _look_at_files(
    find: Callable[[Settings], Files | None],
    settings: Settings,
    errors: list[str],
    warnings: list[str],
) -> None:
    """See what is wrong with the certificate of a port, if it has one."""
    try:
        files = find(settings)
        if files is not None and (doubt := load(files).doubt(time.time())) is not None:
            warnings.append(doubt)
    except BadCertificate as error:
        errors.append(str(error))


def _look_at_api_keys(settings: Settings, errors: list[str]) -> None:
    """See whether somebody may use the HTTP API and the console, if they are there."""
    if settings.api_port is None and (settings.development or not settings.console):
        return
    try:
        read_api_keys(settings.api_keys.get_secret_value() if settings.api_keys else None)
    except BadApiKeys as error:
        errors.append(str(error))


async def _look_for_keys(keys: KeySet, errors: list[str]) -> list[dict[str, Any]]:
    """What each issuer publishes: ``{"host": str, "keys": int, "algorithms": [str, ...]}``."""
    found = []
    for each in keys.remote:
        try:
            published = await each.look()
        except NoKeys as error:
            errors.append(f"{keys.setting_of(each)}: keys of {each.host}: {error}")
            continue
        algorithms = sorted({name for one in published for name in one.key.algorithms})
        found.append({"host": each.host, "keys": len(published), "algorithms": algorithms})
    return found


def too_old(info: Mapping[str, str]) -> list[str]:
    """What to say of the server's version (fields of ``INFO``), if the gateway does not work with it."""
    # Every version of Valkey is new enough; as redis_version it names one that old clients expect.
    if "valkey_version" in info:
        return []
    found = re.match(r"(\d+)\.(\d+)", info.get("redis_version", ""))
    if found is None or (int(found[1]), int(found[2])) >= _OLDEST:
        return []
    return [f"Redis {info['redis_version']} is too old: 7.0 or newer is needed, or Valkey"]


async def _look_at_redis(
    settings: Settings, errors: list[str], warnings: list[str]
) -> dict[str, Any]:
    try:
        topology = make_topology(settings)
    except InvalidURL as error:
        errors.append(str(error))
        return {"reachable": False}
    seconds = settings.redis_timeout_seconds
    try:
        async with connected(topology, seconds) as redis:
            infos, silent = await _infos(redis)
            if topology.cluster is None:
                for address, why in silent.items():
                    why.name(address)
                    raise why
            warnings += of_all({each: _doubts(info) for each, info in infos.items()})
            if topology.cluster is not None:
                warnings += of_all({each: await _coverage(redis.servers[each]) for each in infos})
            if topology.sentinels is not None:
                warnings += await doubts_of(topology.sentinels)
            old = of_all({each: too_old(info) for each, info in infos.items()})
            errors += old + [_lost(*each) for each in silent.items()]
            if silent:
                warnings.append(_NOT_TRIED)
            elif not old:
                errors += await _try_out(settings, topology, redis, warnings)
    except Unavailable as error:
        named = "" if error.server in error.reason else f"{error.server}: "
        errors.append(f"Redis: {named}{_explained_opening(error.reason, topology.servers)}")
        return {"reachable": False}
    found: dict[str, Any] = {"reachable": bool(infos), "version": _versions(infos.values())}
    if topology.cluster is not None:
        found["servers"] = {each: "down" if each in silent else "up" for each in redis.servers}
    return found


async def _try_out(
    settings: Settings, topology: Topology, redis: Redis, warnings: list[str]
) -> list[str]:
    """What a node cannot do in Redis."""
    keys = topology.keys(settings.redis_prefix)
    events, api = bool(settings.events), settings.console or settings.api_port is not None
    trial = Trial(settings.redis_timeout_seconds, redis, keys, events, api)
    problems = await trial.problems()
    if not _has_publishers_user(topology):
        warnings += trial.hints
    if not problems:
        warnings += await _announced_otherwise(redis, keys, settings.all_namespaces)
    return problems


def _has_publishers_user(own: Topology) -> bool:
    """Whether backends are known to have a Redis user of their own, so that nobody needs to be told."""
    try:
        url = publishers_url()
        return url is not None and asyncio_topology(url).servers.login != own.servers.login
    except InvalidInput:
        return False


async def _announced_otherwise(
    redis: Redis, keys: Keys, namespaces: Mapping[str, Namespace]
) -> list[str]:
    """Of which namespaces gateways have announced other rules than those of the settings."""
    announced = await redis.calls.call(Call(("HGETALL", keys.namespaces)))
    found = []
    for field, rules in pairs_of(announced):
        name = field.decode()
        if name in namespaces and (told := as_announced(name, rules)) != (
            own := as_text(namespaces[name])
        ):
            found.append(
                f"namespace {name!r}: gateways announce {told.decode(errors='backslashreplace')}, and these settings say "
                f"{own.decode()}; give all gateways the same GATEWAY_NAMESPACES"
            )
    return found


def _versions(infos: Iterable[Mapping[str, str]]) -> str | None:
    return ", ".join(sorted(filter(None, set(map(_version, infos))))) or None


def _version(info: Mapping[str, str]) -> str | None:
    return info.get("valkey_version") or info.get("redis_version")


def _lost(address: str, error: Unavailable) -> str:
    """What to say of a primary of a cluster that does not answer, or lets nobody in."""
    told = f"Redis: {address}: {explained(error.reason, 0)}"
    return f"{told} ({_LOST})" if error.retryable else told


async def _infos(redis: Redis) -> tuple[dict[str, dict[str, str]], dict[str, Unavailable]]:
    """What each server says about itself; and of those that do not answer, or let nobody in, why."""
    infos: dict[str, dict[str, str]] = {}
    silent: dict[str, Unavailable] = {}

    async def ask(address: str, pipeline: Pipeline) -> None:
        try:
            infos[address] = await _info(pipeline)
        except Unavailable as error:
            silent[address] = error

    await asyncio.gather(*(ask(*each) for each in redis.servers.items()))
    return infos, silent


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
    if not info:
        return [_INFO_FORBIDDEN]
    found = []
    if info.get("maxmemory_policy", "noeviction") != "noeviction":
        found.append("Redis may evict messages: set maxmemory-policy to noeviction")
    if info.get("aof_enabled") == "0":
        found.append("Redis keeps no append-only file: a restart loses the log (appendonly yes)")
    return found


async def _coverage(primary: Pipeline) -> list[str]:
    """What a primary of a cluster does when another one is lost, where that is not to answer."""
    (answer,) = await primary.round_trip([("CONFIG", "GET", _COVERAGE)])
    if isinstance(answer, ResponseError):
        return [_COVERAGE_UNKNOWN]
    return [_ALL_STOP] if b"yes" in answer else []


def _explained_opening(reason: str, connector: Connector) -> str:
    """The same where not even a connection came about: a server that waits for a command sees none in TLS."""
    told = explained(reason, connector.database)
    hint = (_hint_with_tls if connector.tls else _hint_without_tls)(reason)
    return f"{told} ({hint})" if hint else told


def _hint_with_tls(reason: str) -> str:
    # What is said of a certificate was said in TLS.
    if "in time" in reason or (
        "SSL" in reason and "CERTIFICATE" not in reason and "_ALERT_" not in reason
    ):
        return _NO_TLS
    return _ITS_CERTIFICATE if _CLOSED.search(reason) else ""


def _hint_without_tls(reason: str) -> str:
    return _ONLY_TLS if _CLOSED.search(reason) else ""
