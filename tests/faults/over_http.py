"""A backend that publishes over the gateways' HTTP API, and where that fails at another gateway, or with the library."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

import aiohttp

from publisher import Published, Unavailable
from tests.faults.numbered import NumberedPublisher
from tests.support.api import KEY

_ANSWER_SECONDS: Final = 5.0
_EVERY: Final = 4
_IMPATIENT: Final = 0.3
_SHORT_SECONDS: Final = 0.015


class ApiPublisher(NumberedPublisher):
    """Asks the gateways by turns, and each fourth time Redis, always with the message's ``Idempotency-Key``. Now and then it loses its
    patience before the answer comes.

    Args:
        urls: of the gateways' APIs.
    """

    def __init__(self, *arguments: Any, urls: list[str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._urls = urls
        self._turn = count()

    async def _once(self, number: int) -> Published:
        turn = next(self._turn)
        if turn % _EVERY == 0:
            return await super()._once(number)
        return await self._ask(self._urls[turn % len(self._urls)], number)

    async def _ask(self, url: str, number: int) -> Published:
        headers = {
            "Authorization": f"Bearer {KEY}",
            "Idempotency-Key": f"{self._channel}/{number}",
        }
        body = {"channel": self._channel, "data": {"number": number}}
        impatient = self._dice.random() < _IMPATIENT
        seconds = self._dice.uniform(0.001, _SHORT_SECONDS) if impatient else _ANSWER_SECONDS
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(f"{url}/v1/publish", json=body, headers=headers) as answer,
            ):
                told = await answer.json(content_type=None)
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(str(error), maybe_sent=False) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable(str(error), maybe_sent=True) from error
        if answer.status != 200:
            assert answer.status in {502, 503, 504}, told
            raise Unavailable(told["code"], told["maybe_sent"])
        return Published(told["id"], told["channel"], told["duplicate"])
