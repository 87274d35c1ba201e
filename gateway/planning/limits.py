"""What comes to its end first when a load grows, and what to do then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.planning import costs
from gateway.planning.plan import Plan


@dataclass(frozen=True, slots=True)
class Limit:
    """One thing that cannot grow without end: ``used`` is the part of it that is used, above 1 where it is too small."""

    name: str
    used: float
    advice: str


def limits(planned: Plan) -> list[Limit]:
    """All limits of a plan, the one that comes first at the head."""
    return sorted(_limits(planned), key=lambda each: -each.used)


def _limits(planned: Plan) -> Iterator[Limit]:
    yield Limit(
        "hot channel",
        planned.load.busiest / planned.channel.most,
        "A channel is on one primary, whatever their number. Publish less often there (several events in a message), or "
        "split the channel (room/7-a, room/7-b) and publish to each part.",
    )
    yield Limit(
        "reconnect storm",
        planned.deploy.shortest_seconds / planned.load.window,
        "Give the deploy a longer window; or run more machines, and more primaries where Redis is what has no room.",
    )
    yield Limit(
        "control commands",
        planned.load.commands
        * planned.nodes.processes
        * costs.REDIS_FOLLOWER.value
        / 1e6
        / costs.BUSY,
        "Each command goes to every process. Let grants expire instead of revoking them, and use larger machines only "
        "where fewer processes follow from it.",
    )
    yield Limit(
        "connections to Redis",
        planned.redis.clients / costs.PRIMARY_CLIENTS,
        "Raise maxclients, and the limit of open files of Redis.",
    )
    yield from _limits_of_redis(planned)


def _limits_of_redis(planned: Plan) -> Iterator[Limit]:
    primaries = planned.redis.primaries
    if primaries > 1:
        yield Limit(
            "cluster bus",
            primaries * (1 + costs.REPLICAS) / costs.CLUSTER_SERVERS,
            "Split the users among several clusters, with gateways for each.",
        )
    # As many primaries as are needed are never short of either.
    if primaries == 1 or planned.load.primaries is not None:
        yield Limit(
            "CPU of Redis",
            planned.redis.busy / costs.BUSY,
            "Run more primaries, as a Redis Cluster: channels are spread over them.",
        )
        yield Limit(
            "memory of Redis",
            planned.redis.memory_gib / costs.PRIMARY_GIB,
            "Keep fewer messages, or for a shorter time; or run more primaries, as a Redis Cluster.",
        )
