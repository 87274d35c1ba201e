"""Hearing what is published, from a moment that is certain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis
from redis.client import PubSub


@contextlib.contextmanager
def listening(server: redis.Redis, channel: str) -> Iterator[PubSub]:
    """Subscribed to ``channel``: ``get_message(timeout=10)`` is then the next message."""
    with server.pubsub() as pubsub:
        pubsub.subscribe(channel)
        confirmation = pubsub.get_message(timeout=10)
        assert confirmation is not None
        assert confirmation["type"] == "subscribe"
        yield pubsub
