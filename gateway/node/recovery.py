"""Pages of a channel's log, and whether what comes before them is lost."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from gateway.core.reader import Reader, Verdict
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Channel
from gateway.node.log_readers import NOBODY, Audience
from gateway.node.ports import Log
from gateway.node.tasks import Retry
from publisher.contract.message import NO_POSITION, LogPage

PAGE: Final = 100
"""Messages read from the log at a time."""


class Loss(Enum):
    """What is lost before a page."""

    NOTHING = auto()

    CLAIMED = auto()
    """What lies behind the position that a client claims, and is none of its user's: they have confirmed it, or
    were not here before."""

    UNCONFIRMED = auto()
    """What the user, or some member of a channel, has not confirmed."""


class _Found(Enum):
    """What has become of the message at a position behind which something is missing."""

    HELD = auto()
    """The log holds it, so that only what is behind it is missing."""

    GONE = auto()
    """It was trimmed away, with all before it."""

    ABOVE = auto()
    """Its id is above all that was ever logged: a failover has lost it, or a client has made it up."""


class Pages:
    """Reads logs page by page, and waits out Redis trouble.

    Args:
        jitter: a number from 0 to 1.
    """

    def __init__(
        self, history: Log, confirmation: Confirmation, jitter: Callable[[], float]
    ) -> None:
        self._log = history
        self._confirmation = confirmation
        self._retry = Retry(jitter)

    async def next(self, audience: Audience) -> tuple[LogPage, int, Loss]:
        """A page that the audience goes on with, where it stood, and what is lost before it.

        Raises:
            Unavailable: Redis has answered with an error that does not pass.
        """
        reader, channel = audience.reader, audience.channel
        while True:
            asked = audience.asks_from()
            page = await self._page(channel, audience.user, asked)
            if asked is None:
                asked = max(page.position, audience.remembered)
            if asked == NO_POSITION:
                return self._begin(audience, page)
            if asked <= page.newest:
                reader.position = max(reader.position, asked)
            if reader.judge_page(page, asked) is Verdict.NEXT:
                return page, asked, Loss.NOTHING

            found = await self._find(channel, asked)
            # What only a client claims was not lost by a failover.
            if found is _Found.ABOVE and audience.claimed is None:
                await self._raise_last(channel, asked)
            loss = await self._whose(audience)
            held = found is _Found.HELD
            # A log that does not hold that message may have others with lower ids, which nobody has.
            page = await self._page(channel, NOBODY, asked if held else 0)
            if reader.position <= asked:
                is_news = _go_on_behind(audience, page, asked, held=held)
                return page, asked, loss if is_news else Loss.NOTHING
            # It has heard more meanwhile, and is judged by that.

    def _begin(self, audience: Audience, page: LogPage) -> tuple[LogPage, int, Loss]:
        """Let a user begin who has not been here before, and so cannot have lost anything."""
        begins_at = page.messages[0].prev if page.messages else page.newest
        if page.newest:
            self._confirmation.begins(audience.channel.name, audience.user, begins_at)
        else:
            self._confirmation.awaits(audience.channel.name, audience.user)
        audience.reader.begin_anew(page)
        return page, begins_at, Loss.NOTHING

    async def _whose(self, audience: Audience) -> Loss:
        """Whose a loss is: one that follows from a client's own ``since`` may be none for its user."""
        if not audience.by_since:
            return Loss.UNCONFIRMED
        # As a subscribe without ``since`` would be judged; the first message behind the position tells.
        page = await self._page(audience.channel, audience.user, None, 1)
        position = max(page.position, audience.remembered)
        if position == NO_POSITION:
            return Loss.CLAIMED
        confirmed = Reader()
        confirmed.position = position
        is_lost = confirmed.judge_page(page, position) is Verdict.LOST
        return Loss.UNCONFIRMED if is_lost else Loss.CLAIMED

    async def _find(self, channel: Channel, position: int) -> _Found:
        """Look for the message at ``position``."""
        if position <= 0:
            return _Found.GONE
        page = await self._page(channel, NOBODY, position - 1, 1)
        first = page.messages[0] if page.messages else None
        if first and (first.id == position or first.stands_for(position)):
            return _Found.HELD
        return _Found.ABOVE if position > page.newest else _Found.GONE

    async def _raise_last(self, channel: Channel, lost: int) -> None:
        """Let new messages have ids above all that was ever sent."""
        highest = max(lost, channel.position)
        await self._retry(lambda: self._log.raise_last(channel.name, highest))

    async def _page(
        self, channel: Channel, user: str, since: int | None, limit: int | None = None
    ) -> LogPage:
        return await self._retry(lambda: self._log.read(channel.name, user, since, limit or PAGE))


def _go_on_behind(audience: Audience, page: LogPage, asked: int, *, held: bool) -> bool:
    """Let an audience go on with a page that does not follow ``asked``.

    Returns whether it has lost something, and was not told of it yet.
    """
    reader = audience.reader
    lost = not (held and reader.was_told(page, asked))
    if not held and page.is_behind(asked):
        reader.position = 0
        audience.forget_positions()
    reader.begin_anew(page)
    return lost
