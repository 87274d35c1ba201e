"""Making good what a live channel has missed.

Every logged message names the one before it. One that names an id the node has not seen is held back
while the gap is read from the log, so that what was missed goes out first. After the pub/sub connection
was lost every channel is checked at once: the next message, which would reveal the gap, may be hours away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Final

from gateway.core import frames, protocol
from gateway.core.access import keeps_log
from gateway.core.reader import goes_on_at, splice, unbroken
from gateway.node.connection import LiveChannel
from gateway.node.hub import Hub
from gateway.node.ports import Log
from gateway.node.stats import Stats
from gateway.node.tasks import Retry, Tasks
from publisher.contract.channels import Namespace
from publisher.contract.message import LogPage

log = logging.getLogger(__name__)

_PAGE: Final = 100
_AT_ONCE: Final = 500
_NOBODY: Final = ""


class Repair:
    """Reads from the log what did not come live."""

    def __init__(
        self,
        hub: Hub,
        history: Log,
        namespaces: Mapping[str, Namespace],
        tasks: Tasks,
        stats: Stats,
        retry: Retry,
    ) -> None:
        self._hub = hub
        self._log = history
        self._namespaces = namespaces
        self._tasks = tasks
        self._stats = stats
        self._retry = retry

    def begin(self, channel: LiveChannel) -> None:
        """Hold a channel's live messages back and read what is missing before them."""
        if channel.held is None:
            channel.hold_back()
            self._tasks.spawn(self._mend(channel), f"repair {channel.name}")

    async def check_all(self) -> None:
        """Compare every logged channel with its log, after the connection was lost."""
        channels = [
            channel
            for channel in self._hub.channels.values()
            if keeps_log(channel.namespace, self._namespaces)
        ]
        log.info("repair_started channels=%d", len(channels))
        unchecked = iter(channels)
        await asyncio.gather(*(self._check_each(unchecked) for _ in channels[:_AT_ONCE]))

    async def _check_each(self, unchecked: Iterator[LiveChannel]) -> None:
        """Check channels until none is left. One that cannot be read holds up no more than this."""
        for channel in unchecked:
            try:
                await self._check(channel)
            except Exception:
                log.exception("repair_failed channel=%s", channel.name)

    async def _check(self, channel: LiveChannel) -> None:
        for subscription in channel.joining:
            if subscription.reading:
                # What it has read may be from before the outage, what it holds has a gap.
                subscription.overflowed = True
        if not channel.members:
            followed = channel.followed_from()
            if followed is None:
                return
            channel.last = max(channel.last, followed)
        if channel.held is None:
            await self._mend(channel)
        else:
            # The same is true of a repair that is under way.
            channel.overflowed = True

    async def _mend(self, channel: LiveChannel) -> None:
        try:
            await self._read_on(channel)
        finally:
            # Whatever stopped it: a channel that goes on holding back would be mute.
            channel.held = None

    async def _read_on(self, channel: LiveChannel) -> None:
        complete = False
        while not complete and self._hub.channels.get(channel.name) is channel:
            while self._hub.held_up:  # noqa: ASYNC110 - it is over in some turns
                await asyncio.sleep(0)  # each turn writes a part of the page before this one
            # What came before this read is in the log by now.
            came = channel.hold_back()
            page = await self._read(channel, channel.last)
            self._tell_followers(channel, page)
            # One that has read the log on its own may have moved the channel on meanwhile.
            start = goes_on_at(channel.last, page)
            if start != channel.last:
                self._note_loss(channel)
                self._hub.send_all(channel.name, _told(channel))
                channel.last = start
            complete = (
                page.complete
                and not channel.overflowed
                and unbroken(channel.last, page.messages, came)
            )
            held = came if complete else []
            for message in splice(channel.last, page.messages, held):
                self._stats.messages_repaired += 1
                self._hub.accept(channel, message)

    async def _read(self, channel: LiveChannel, since: int) -> LogPage:
        return await self._retry(lambda: self._log.read(channel.name, _NOBODY, since, _PAGE))

    def _tell_followers(self, channel: LiveChannel, page: LogPage) -> None:
        """Tell of a loss those who are not live yet: they may be ahead of what has come live."""
        told = False
        starts: dict[int, int] = {}
        for subscription in channel.joining:
            position = subscription.position
            if subscription.reading:
                continue  # it will find out itself
            if position not in starts:
                starts[position] = goes_on_at(position, page)
            if starts[position] != position:
                told = True
                self._hub.send(subscription.connection, _told(channel))
                subscription.position = starts[position]
        if told:
            self._note_loss(channel)

    def _note_loss(self, channel: LiveChannel) -> None:
        self._stats.losses_reported += 1
        log.warning("messages_lost channel=%s", channel.name)


def _told(channel: LiveChannel) -> bytes:
    return frames.text(protocol.messages_lost(channel.name))
