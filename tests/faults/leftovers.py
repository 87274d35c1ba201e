"""What may be in Redis after everybody has left: what the contract names, and little that stays for ever."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import redis.asyncio

from publisher.contract import keys
from publisher.contract.keys import DEFAULT_PREFIX, Keys
from tests.faults.trace import KeyLeft, Trace

_ROW: Final = re.compile(
    r"^``(rt1:\S+)``\s+(sorted set|string|hash|set|list|stream)\b", re.MULTILINE
)
# One of each in a deployment. Everything else is many, and must end by itself.
STAYING: Final = frozenset({"nodes", "namespaces", "lifetimes", "before", "marker", "events"})
_NOTES_OF_NODES: Final = frozenset({"/beat", "/grace"})


def contract() -> list[tuple[re.Pattern[str], str]]:
    """The keys that the contract's own table names, and Redis' word for their type."""
    found = []
    for name, kind in _ROW.findall(keys.__doc__ or ""):
        rest = re.escape(name.removeprefix(f"{DEFAULT_PREFIX}:"))
        pattern = re.compile(re.sub(r"<\w+>", r".+", rest), re.DOTALL)
        found.append((pattern, "zset" if kind == "sorted set" else kind))
    return found


async def keys_left(client: redis.asyncio.Redis, prefix: str) -> list[KeyLeft]:
    """All that is in Redis, with the members of places and node leases."""
    left = []
    async for key in client.scan_iter(count=1_000):
        name, kind = key.decode(), (await client.type(key)).decode()
        members: tuple[str, ...] = ()
        if kind == "zset" and (name == Keys(prefix).nodes or name.startswith(f"{prefix}:conn:")):
            members = tuple(each.decode() for each in await client.zrange(key, 0, -1))
        ttl = await client.pttl(key)
        if ttl != -2:  # it has ended meanwhile
            # The prefix stands in a hash tag besides.
            name = name.removeprefix(f"{prefix}:").replace(f"{{{prefix}:", f"{{{DEFAULT_PREFIX}:")
            left.append(KeyLeft(name, kind, ttl, members))
    return left


def leftovers(trace: Trace) -> Iterator[str]:
    """Places, node leases, keys without a name in the contract, and keys that never end."""
    named = contract()
    for key in trace.keys_left:
        noun = key.name.partition(":")[0]
        if not any(each.fullmatch(key.name) and kind == key.kind for each, kind in named):
            yield f"leftover: the contract names no {key.kind} {key.name}"
        if key.ttl < 0 and noun not in STAYING:
            yield f"leftover: {key.name} never ends"
        for member in key.members:
            node = member.rpartition("/")[0] if noun == "conn" else member
            if noun == "conn" and _was_brought_back(trace, key.name):
                continue  # until its lease ends, or until the user is at the limit (docs/delivery.md)
            if member not in _NOTES_OF_NODES and node not in trace.dead_nodes:
                yield f"leftover: {member} in {key.name} after everybody has left"


def _was_brought_back(trace: Trace, name: str) -> bool:
    """Whether a place may have been given back at a primary that lost what it wrote then."""
    return any(
        each.begin - trace.unnoticed_seconds <= session.lasted_until(trace.ended_at) <= each.end
        for device in trace.devices
        if name == f"conn:{{{device.user}}}"
        for session in device.sessions
        for each in trace.losses
    )
