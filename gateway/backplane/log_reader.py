"""Reading the retained messages and the grants of channels."""

from __future__ import annotations

import logging

from gateway.backplane.batching import Batcher
from gateway.node.stats import Stats
from publisher import scripts
from publisher.exchange import Call
from publisher.keys import Keys
from publisher.message import LogPage
from publisher.operations import parse_log, read_log

log = logging.getLogger(__name__)


class LogReader:
    """Implements ``ports.Log``."""

    def __init__(self, batcher: Batcher, keys: Keys, stats: Stats) -> None:
        self._batcher = batcher
        self._keys = keys
        self._stats = stats

    async def read(self, channel: str, user: str, since: int | None, limit: int) -> LogPage:
        """At most ``limit`` messages after ``since``, or after what ``user`` has confirmed."""
        call = read_log(self._keys, channel, user, since, limit)
        page = parse_log(await self._batcher.call(call))
        if page.unreadable:
            self._stats.messages_invalid += page.unreadable
            log.warning("log_unreadable channel=%s entries=%d", channel, page.unreadable)
        return page


class GrantReader:
    """Implements ``ports.Grants``."""

    def __init__(self, batcher: Batcher, keys: Keys) -> None:
        self._batcher = batcher
        self._keys = keys

    async def granted(self, channel: str, user: str) -> bool:
        """Whether ``user``, or everybody, holds a grant."""
        call = Call.run(scripts.GRANTED, [self._keys.grant(channel)], user)
        return bool(await self._batcher.call(call))
