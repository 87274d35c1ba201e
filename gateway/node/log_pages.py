"""Pages of a channel's log, and whether what comes before them is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.core.reader import Verdict
from gateway.node.confirmation import Confirmation
from gateway.node.log_readers import NOBODY, Audience
from gateway.node.ports import Log
from gateway.node.tasks import Retry
from publisher.contract.message import NO_POSITION, LogPage

PAGE: Final = 100
"""Messages read from the log at a time."""


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

    async def next(self, audience: Audience) -> tuple[LogPage, int, bool]:
        """A page that the audience goes on with, where it stood, and whether something before it is lost.

        Raises:
            Unavailable: Redis has answered with an error that does not pass.
        """
        reader, name = audience.reader, audience.channel.name
        while True:
            asked = audience.asks_from()
            page = await self._page(name, audience.user, asked)
            if asked is None:
                asked = max(page.position, audience.remembered)
                if asked == NO_POSITION:
                    # Who has not been here before cannot have lost anything.
                    begins_at = page.messages[0].prev if page.messages else page.newest
                    self._confirmation.begins(name, audience.user, begins_at)
                    reader.begin_anew(page)
                    return page, begins_at, False
            if asked <= page.newest:
                reader.position = max(reader.position, asked)
            if reader.judge_page(page, asked) is Verdict.NEXT:
                return page, asked, False
            known = await self._is_known(audience, asked)
            page = await self._page(name, NOBODY, asked if known else 0)
            if reader.position > asked:
                continue  # it has heard more meanwhile, and is judged by that
            lost = not (known and reader.was_told(page, asked))
            if not known and page.is_behind(asked):
                reader.position = 0
                audience.forget_positions()
            reader.begin_anew(page)
            return page, asked, lost

    async def _is_known(self, audience: Audience, position: int) -> bool:
        """Whether the log holds the message at a position behind which something is missing.

        If not, it was trimmed away with all before it, or a failover has lost it. Then the log may hold messages
        with lower ids that nobody has, so everything that is retained is read again; and new messages get ids
        above all that was ever sent. What only a client claims does not count for that.
        """
        if position <= 0:
            return False
        channel = audience.channel
        page = await self._page(channel.name, NOBODY, position - 1, 1)
        if position > page.newest and audience.claimed is None:
            highest = max(position, channel.position)
            await self._retry(lambda: self._log.raise_last(channel.name, highest))
        return bool(page.messages) and page.messages[0].id == position

    async def _page(
        self, name: str, user: str, since: int | None, limit: int | None = None
    ) -> LogPage:
        return await self._retry(lambda: self._log.read(name, user, since, limit or PAGE))
