"""Receipts around failovers: whoever is said to have a message that the failover has kept was sent it.

Real servers, as in ``test_failover.py``. At random messages come before the replica is cut off and behind that, on either server, some
without that a node hears them, and some are taken out again. Devices of two users come and go at two nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import redis

from publisher import AsyncPublisher, Unavailable
from tests.integration.conftest import StartNode
from tests.integration.test_failover import Cluster
from tests.publisher.replicated import replicated_redis
from tests.support.client import connected
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL: Final = "run-results/s"
USERS: Final = ("ann", "ben")
_LATE_SECONDS: Final = 0.3
"""A client here takes note of a message so long after its WebSocket has answered for it."""
_LOOK: Final = "return {redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), redis.call('ZRANGE', KEYS[2], 0, -1)}"


@pytest.fixture
def cluster(tmp_path: Path, prefix: str) -> Iterator[Cluster]:
    with replicated_redis(tmp_path) as pair:
        yield Cluster(pair, prefix, CHANNEL)


@pytest.fixture
def redis_url(cluster: Cluster) -> str:
    return cluster.url


def ids_of(entries: list[bytes]) -> frozenset[int]:
    return frozenset(int(each.split(b":")[0]) for each in entries)


class Scene:
    """``came`` is when a message came to a user; ``said`` is up to where they had everything at a time, and what the log held then."""

    def __init__(self, cluster: Cluster, nodes: list[Node], dice: random.Random) -> None:
        self.cluster, self.nodes, self.dice = cluster, nodes, dice
        self.came: dict[tuple[str, int], float] = {}
        self.said: list[tuple[float, str, int, frozenset[int]]] = []
        self.held: dict[str, int] = {}

    async def device(self, user: str) -> None:
        """Comes and goes, as plain clients do or with the id that the user has last."""
        while True:
            node = self.dice.choice(self.nodes)
            request: dict[str, object] = {"type": "subscribe", "channel": CHANNEL}
            if user in self.held and self.dice.random() < 0.3:
                request["since"] = self.held[user]
            # What ends it makes no difference: a refusal, its time, or the node.
            with contextlib.suppress(Exception):
                async with (
                    asyncio.timeout(self.dice.choice([0.05, 0.3, 10.0])),
                    connected(node.url, make_token(user)) as client,
                ):
                    await client.send(request)
                    while True:
                        message = await client.receive()
                        if "data" in message:
                            now = asyncio.get_running_loop().time()
                            self.came.setdefault((user, message["id"]), now)
                            self.held[user] = message["id"]
            await asyncio.sleep(0.01)

    async def watch(self) -> None:
        """Note what a backend would be told now."""
        keys = self.cluster.key("confirmed"), self.cluster.key("log")
        while True:
            with contextlib.suppress(redis.RedisError):
                positions, entries = await asyncio.to_thread(
                    self.cluster.pair.primary.eval, _LOOK, 2, *keys
                )
                now, ids = asyncio.get_running_loop().time(), ids_of(entries)
                for user, position in zip(positions[::2], positions[1::2], strict=True):
                    self.said.append((now, user.decode(), int(position), ids))
            await asyncio.sleep(0.005)

    async def publish(self, publisher: AsyncPublisher, server: redis.Redis) -> None:
        """Up to three messages, heard or not, of which some are taken out."""
        for _ in range(self.dice.randrange(4)):
            with contextlib.suppress(redis.RedisError, Unavailable):
                if self.dice.random() < 0.3:
                    self.cluster.publish_unheard("unheard", server)
                else:
                    sent = await publisher.publish(CHANNEL, "heard")
                    if self.dice.random() < 0.4:
                        await publisher.delete(CHANNEL, sent.id)
            await asyncio.sleep(self.dice.choice([0, 0.002, 0.05, 0.3]))

    def wrong(self) -> Iterator[str]:
        """Of whom it was said that they had what they had not, and what is in the log in the end."""
        kept = ids_of(self.cluster.pair.primary.zrange(self.cluster.key("log"), 0, -1))
        for at, user, position, ids in self.said:
            for each in kept & ids:
                came_at = self.came.get((user, each))
                came = came_at is not None and came_at <= at + _LATE_SECONDS
                if each <= position and not came:
                    yield f"{user} was said to have {each}, by {position}, at {at:.3f}, and it came at {came_at}"


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", range(3))
async def test_who_is_said_to_have_what_the_failover_has_kept_was_sent_it(
    cluster: Cluster, start_node: StartNode, publisher: AsyncPublisher, prefix: str, seed: int
) -> None:
    pair, dice = cluster.pair, random.Random(seed)
    nodes = [await start_node(confirm_interval_seconds=0.02) for _ in range(2)]
    scene = Scene(cluster, nodes, dice)
    for user in USERS:
        await publisher.grant(CHANNEL, user)
    tasks = [asyncio.create_task(scene.device(user)) for user in USERS for _ in range(2)]
    tasks.append(asyncio.create_task(scene.watch()))
    # Whoever begins later is owed nothing that was there before.
    await until(lambda: all(node.gateway.hub.channels for node in nodes))
    async with AsyncPublisher.from_url(cluster.replica_url, prefix=prefix) as promoted:
        for _ in range(4):
            await scene.publish(publisher, pair.primary)
            cluster.cut_the_replica_off()
            both = [(publisher, pair.primary), (promoted, pair.replica)]
            for each in dice.sample(both * 2, 4):
                await scene.publish(*each)
            await asyncio.gather(scene.publish(publisher, pair.primary), cluster.fail_over())
            await scene.publish(publisher, pair.primary)
            for node in nodes:
                await until(node.gateway.ready)
            await cluster.follow()
    await asyncio.sleep(0.5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(scene.said) > 100
    assert len(scene.came) > 10
    assert list(scene.wrong()) == []
