"""Hearing what is published, from a moment that is certain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis
from redis.client import PubSub

from tests.support.topology import Looking


@contextlib.contextmanager
def listening(server: Looking, channel: str) -> Iterator[PubSub]:
    """Subscribed to ``channel``: ``get_message(timeout=10)`` is then the next message."""
    with contextlib.ExitStack() as stack:
        one = server
        if isinstance(server, redis.RedisCluster):
            node = server.get_node_from_key(channel)
            one = stack.enter_context(redis.Redis(node.host, node.port))
        pubsub = stack.enter_context(one.pubsub())
        # What all nodes are to hear has no slot.
        if one is server or "{" not in channel:
            pubsub.subscribe(channel)
        else:
            pubsub.ssubscribe(channel)
        confirmation = pubsub.get_message(timeout=10)
        assert confirmation is not None
        assert confirmation["type"] in ("subscribe", "ssubscribe")
        yield pubsub
