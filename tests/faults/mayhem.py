"""All faults at random: two hands at once, one busy with Redis, the other with nodes, backends and lines."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults import (
    cluster_faults,
    process_faults,
    redis_faults,
    sentinel_faults,
    way_faults,
)
from tests.faults.allowance import Allowance
from tests.faults.world import World
from tests.support import topology

Fault = Callable[[World, random.Random, float], Awaitable[None]]

# A node that is away longer than its lease gives its users' places to others.
LONGEST_FREEZE_SECONDS: Final = 13.0

_ANYWHERE: Final[list[Fault]] = [
    redis_faults.redis_ends_pubsub,
    redis_faults.redis_ends_normal_connections,
    redis_faults.redis_forgets_scripts,
]
_OF_ONE_SERVER: Final[list[Fault]] = [
    redis_faults.redis_killed,
    redis_faults.redis_hangs,
    redis_faults.redis_is_paused,
    redis_faults.redis_is_out_of_memory,
    redis_faults.redis_lacks_replicas,
    redis_faults.redis_becomes_a_replica,
    redis_faults.redis_is_busy_with_a_script,
    redis_faults.redis_is_full_of_clients,
    redis_faults.redis_fails_over,
    redis_faults.redis_fails_over_and_loses_writes,
    way_faults.redis_refuses_a_node,
    way_faults.redis_accepts_and_never_answers,
    way_faults.redis_resets_while_opening,
    way_faults.our_bytes_vanish,
    way_faults.their_bytes_vanish,
    way_faults.connections_are_half_open,
    way_faults.pubsub_goes_silent,
    way_faults.redis_is_far_away,
    way_faults.publishers_lose_their_replies,
    way_faults.publishers_lose_their_commands,
    way_faults.publishers_are_reset_while_opening,
]
_OF_SENTINEL: Final[list[Fault]] = [
    sentinel_faults.primary_killed,
    sentinel_faults.primary_hangs,
    sentinel_faults.planned_failover,
    sentinel_faults.sentinel_killed,
    sentinel_faults.sentinel_hangs,
]
_OF_A_CLUSTER: Final[list[Fault]] = [
    cluster_faults.shard_killed,
    cluster_faults.shard_hangs,
    cluster_faults.shard_fails_over_as_planned,
    cluster_faults.slot_moves_away_and_back,
    cluster_faults.primary_added_and_removed,
]
# By topology.
REDIS_FAULTS: Final = {
    topology.SINGLE: [*_ANYWHERE, *_OF_ONE_SERVER],
    topology.SENTINEL: [*_ANYWHERE, *_OF_SENTINEL],
    topology.CLUSTER: [*_ANYWHERE, *_OF_A_CLUSTER],
}
OTHER_FAULTS: Final[list[Fault]] = [
    process_faults.node_killed,
    process_faults.node_replaced,
    process_faults.node_frozen,
    process_faults.publisher_killed,
    process_faults.publisher_frozen,
    process_faults.lines_break,
    process_faults.everybody_reconnects,
    process_faults.lines_choke_and_break,
    process_faults.clients_vanish,
    process_faults.lines_are_slow,
]

FAULTS: Final = [*_ANYWHERE, *_OF_ONE_SERVER, *_OF_SENTINEL, *_OF_A_CLUSTER, *OTHER_FAULTS]

# Short, so that in a minute everything happens more than once.
SETTINGS: Final = {
    "ping_interval_seconds": 5,
    "pong_timeout_seconds": 5,
    "drain_delay_seconds": 0.5,
    "drain_seconds": 2,
}
# Whose place others got, because its node was frozen or Redis lost it, has to go.
ALLOWED: Final = Allowance(evictions=True)


def lasting(fault: Fault, dice: random.Random) -> float:
    """Seconds that a fault lasts this time."""
    if fault is process_faults.node_frozen:
        return dice.choice((dice.uniform(0.2, 3), LONGEST_FREEZE_SECONDS))
    return dice.uniform(0.2, 5)


async def mayhem(w: World, seed: int, seconds: float) -> Counter[str]:
    """Inject faults for ``seconds`` (and until the last is over); returns how many of which kind."""
    done: Counter[str] = Counter()
    ends_at = asyncio.get_running_loop().time() + seconds

    async def hand(faults: list[Fault], dice: random.Random) -> None:
        while asyncio.get_running_loop().time() < ends_at:
            # Every kind comes once before any comes again.
            for fault in dice.sample(faults, len(faults)):
                if asyncio.get_running_loop().time() >= ends_at:
                    return
                await fault(w, dice, lasting(fault, dice))
                done[fault.__name__] += 1
                await asyncio.sleep(dice.uniform(0.2, 2))

    # Each hand has dice of its own: what one does must not depend on how quick the other was.
    async with asyncio.TaskGroup() as hands:
        hands.create_task(hand(REDIS_FAULTS[topology.chosen()], random.Random(f"{seed} Redis")))
        hands.create_task(hand(OTHER_FAULTS, random.Random(f"{seed} other")))
    return done
