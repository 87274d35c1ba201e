"""Messages as they come, by whichever way, and the end behind them."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Generic, TypeVar

import orjson

from gateway.conformance.verdicts import Failed

End = TypeVar("End")


class Receiving(Generic[End]):
    """What a client has been sent, and not looked at yet.

    Attributes:
        patience: seconds that an answer may take, where nothing else is said.
        ended: how it has ended, once it has.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def put(self, message: dict[str, Any]) -> None:
        """One has come."""
        self._messages.put_nowait(message)

    def unread(self) -> list[dict[str, Any]]:
        """Take what has come, and was not looked at."""
        return [self._messages.get_nowait() for _ in range(self._messages.qsize())]

    async def receive(self, seconds: float | None = None) -> dict[str, Any]:
        """The next message.

        Raises:
            Failed: none comes in time, or the connection has ended.
        """
        seconds = self.patience if seconds is None else seconds
        getting = asyncio.create_task(self._messages.get())
        ended = asyncio.create_task(asyncio.wait([self.ended]))
        await asyncio.wait([getting, ended], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if getting.done():
            return getting.result()
        getting.cancel()
        if not self._messages.empty():
            return self._messages.get_nowait()
        if self.ended.done():
            raise Failed(f"the connection has ended ({self.ended.result()})")
        raise Failed(f"nothing came for {seconds:g} s")

    async def next(self, *types: str, seconds: float | None = None) -> dict[str, Any]:
        """The next message of one of these types; others are passed over.

        Raises:
            Failed: none comes in time.
        """
        seconds = self.patience if seconds is None else seconds
        end = time.monotonic() + seconds
        try:
            while (message := await self.receive(max(0.0, end - time.monotonic())))[
                "type"
            ] not in types:
                pass
        except Failed as error:
            raise Failed(f"no {' or '.join(types)} came: {error}") from None
        return message

    async def until(self, *types: str, never: str) -> dict[str, Any]:
        """The next message of one of these types, before which none of the type ``never`` may come.

        Raises:
            Failed: one has come, or none of these comes in time.
        """
        message = await self.next(*types, never)
        if message["type"] == never:
            raise Failed(f"a {never} came, which must not: {orjson.dumps(message).decode()[:200]}")
        return message

    async def quiet(self, kind: str, seconds: float) -> None:
        """See that no message of this type comes.

        Raises:
            Failed: one has come.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                message = await self.receive(left)
            except Failed:
                return
            if message["type"] == kind:
                raise Failed(
                    f"a {kind} came, which must not: {orjson.dumps(message).decode()[:200]}"
                )

    async def end(self, seconds: float | None = None) -> End:
        """How the server ends the connection.

        Raises:
            Failed: it does not in time.
        """
        seconds = self.patience if seconds is None else seconds
        try:
            return await asyncio.wait_for(asyncio.shield(self.ended), seconds)
        except TimeoutError:
            raise Failed(f"the connection is still open after {seconds:g} s") from None
