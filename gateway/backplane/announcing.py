"""Telling the publishers which namespaces there are, and what they retain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import orjson

from gateway.backplane.batching import Batcher
from gateway.node.pausing import Backoff, Pause
from publisher.channels import Namespace
from publisher.errors import Unavailable
from publisher.exchange import Call
from publisher.keys import Keys

_INTERVAL_SECONDS: Final = 60.0


class Announcing:
    """Writes the namespaces to Redis again and again: it may lose its data.

    Args:
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        batcher: Batcher,
        keys: Keys,
        namespaces: Mapping[str, Namespace],
        jitter: Callable[[], float],
    ) -> None:
        self._batcher = batcher
        self._command = (
            "HSET",
            keys.namespaces,
            *(
                part
                for name, namespace in namespaces.items()
                for part in (name, orjson.dumps(namespace.to_dict()))
            ),
        )
        self._backoff = Backoff(jitter)
        self._pause = Pause()

    def at_once(self) -> None:
        """Write without waiting for the end of the interval."""
        self._pause.cut()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            try:
                await self._batcher.call(Call(self._command))
            except Unavailable:
                await self._pause(self._backoff.next())
            else:
                self._backoff.reset()
                await self._pause(_INTERVAL_SECONDS)
