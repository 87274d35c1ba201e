"""Peers that cannot be measured: each costs its own row, and its reason is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

Made = TypeVar("Made")

PATIENCE: Final = 120.0
"""Seconds that a peer may take for a load of which no server needs a tenth."""


class FailedPeers:
    """Which peers are not measured, and why (``reasons``, by name).

    Args:
        tell: hears each reason as it becomes known.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.reasons: dict[str, str] = {}
        self._tell = tell

    def note(self, name: str, error: BaseException) -> None:
        """A peer is left out from here on; its first reason is kept."""
        if name not in self.reasons:
            self.reasons[name] = str(error) or type(error).__name__
            self._tell(f"without {name}: {self.reasons[name]}")

    @contextlib.asynccontextmanager
    async def noting(self, name: str) -> AsyncIterator[None]:
        """A block whose failure is only this peer's."""
        try:
            yield
        except TimeoutError:
            self.note(name, TimeoutError("it took too long"))
        except Exception as error:  # noqa: BLE001 - other people's programs fail in every way
            self.note(name, error)

    async def enter(
        self,
        stack: contextlib.AsyncExitStack,
        name: str,
        context: contextlib.AbstractAsyncContextManager[Made],
    ) -> Made | None:
        """Enter what belongs to a peer; ``None`` when that fails. That it is left again fails nobody."""
        async with self.noting(name):
            made = await context.__aenter__()
            stack.push_async_callback(_leave, context)
            return made
        return None


async def _leave(context: contextlib.AbstractAsyncContextManager[object]) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(PATIENCE):
            await context.__aexit__(None, None, None)
