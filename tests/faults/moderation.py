"""Backends that give access and take it back, a client that follows, and what nobody may hear meanwhile."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

import aiohttp

from publisher import AsyncPublisher, Unavailable
from tests.faults.backend import Backend
from tests.faults.plain_client import PlainClient
from tests.faults.trace import AccessChange, Session, Trace

T = TypeVar("T")

REVOKED_SECONDS: Final = 1.0
"""So long after ``revoke`` has returned a message that is published then may still be heard (docs/publisher.md)."""
_TTL_SECONDS: Final = 3_600
_RETRY_SECONDS: Final = 0.2
_ASK_AGAIN_SECONDS: Final = 0.3


async def until_done(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call that fails until it has succeeded, as a backend's job queue would; returns its result."""
    while True:
        try:
            return await call()
        except Unavailable:
            await asyncio.sleep(_RETRY_SECONDS)


class Moderator(Backend):
    """Grants and revokes by turns until it is stopped; in the end the user is let in."""

    def __init__(
        self, publisher: AsyncPublisher, channel: str, user: str, trace: Trace, dice: random.Random
    ) -> None:
        super().__init__()
        self._publisher = publisher
        self._channel = channel
        self._user = user
        self._trace = trace
        self._dice = dice

    async def run(self) -> None:
        """Go on until stopped."""
        allowed = True
        while True:
            await self._change(allowed=allowed)
            if self._stopping.is_set() and allowed:
                return
            stopped = await self._stopped_within(self._dice.uniform(1.5, 4))
            allowed = stopped or not allowed

    async def _change(self, *, allowed: bool) -> None:
        asked_at = time.monotonic()
        if allowed:
            call = partial(self._publisher.grant, self._channel, self._user, _TTL_SECONDS)
        else:
            call = partial(self._publisher.revoke, self._channel, self._user)
        await until_done(call)
        done = AccessChange(self._channel, self._user, allowed, asked_at, time.monotonic())
        self._trace.access.append(done)


class PersistentClient(PlainClient):
    """Asks again for what it is refused, or what is taken from it, until it is let in."""

    def take(self, session: Session, message: dict[str, Any]) -> None:
        """Record a message; refusals are no mistakes of this client's."""
        kind, channel = message["type"], message.get("channel", "")
        if kind == "granted":
            return  # it asks again by itself
        refused = kind == "error" and message.get("code") == "forbidden"
        if not refused and kind != "unsubscribed":
            super().take(session, message)
            return
        session.answered.pop(channel, None)
        asyncio.get_running_loop().call_later(_ASK_AGAIN_SECONDS, self._ask_again, channel)

    def _ask_again(self, channel: str) -> None:
        socket = self.socket
        if socket is not None and not socket.closed:
            self._asking.add(task := asyncio.create_task(_ask(socket, channel)))
            task.add_done_callback(self._asking.discard)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._asking: set[asyncio.Task[None]] = set()


async def _ask(socket: aiohttp.ClientWebSocketResponse, channel: str) -> None:
    try:
        await socket.send_json({"type": "subscribe", "channel": channel})
    except (aiohttp.ClientError, OSError):
        return  # it connects again, and asks then


def overheard(trace: Trace, revoked_seconds: float = REVOKED_SECONDS) -> Iterator[str]:
    """What somebody heard that was published after their access had ended, and before it began again."""
    for begin, end, user, channel in _closed(trace):
        published = {
            each.id: each
            for each in trace.publications
            if each.channel == channel and each.asked_at > begin + revoked_seconds
        }
        for device in trace.devices:
            if device.user != user:
                continue
            for session in device.sessions:
                for each in session.arrivals:
                    if each.channel == channel and each.at < end and each.id in published:
                        late = published[each.id].asked_at - begin
                        yield (
                            f"overheard: {device.name} got {channel} #{each.number}, which was "
                            f"published {late:.1f} s after revoke() had returned"
                        )


def _closed(trace: Trace) -> Iterator[tuple[float, float, str, str]]:
    """From when to when a user had no access to a channel."""
    by_user: dict[tuple[str, str], list[AccessChange]] = {}
    for each in trace.access:
        by_user.setdefault((each.user, each.channel), []).append(each)
    for (user, channel), changes in by_user.items():
        ends = [*(each.asked_at for each in changes[1:]), math.inf]
        for change, end in zip(changes, ends, strict=True):
            if not change.allowed and not trace.undone_on_purpose(change):
                yield change.done_at, end, user, channel
