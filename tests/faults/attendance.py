"""Who is in a channel: clients that come and go, a backend that asks, and what it may be told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from publisher import AsyncPublisher
from tests.faults.backend import Backend
from tests.faults.moderation import until_done
from tests.faults.plain_client import PlainClient
from tests.faults.trace import Present, Session, Trace
from tests.support.waiting import until

NODE_LEASE_SECONDS: Final = 10.0
LEFT: Final = "left"
"""What ``Session.ended_as`` says where the client has left by itself."""
_WRITTEN_SECONDS: Final = 1.0
"""Nodes gather for a quarter of a second who comes and goes; the rest is for the machine."""
_UNHEARD: Final = {"clients_vanish", "lines_choke_and_break", "lines_are_slow"}
"""What may keep a client from learning that its connection is over, and a node from learning it of a client."""
_ENDS: Final = {"node_killed", "node_replaced"}
"""Faults that leave those who are elsewhere as they were."""
_ASKED_SECONDS: Final = 0.25
_SETTLED_SECONDS: Final = NODE_LEASE_SECONDS + 5


class Member(PlainClient):
    """Is told who comes and goes."""

    def take(self, session: Session, message: dict[str, Any]) -> None:
        """Record a message, but for those of who comes and goes."""
        if message["type"] not in {"joined", "left"}:
            super().take(session, message)


class RestlessClient(Member):
    """Leaves by itself after a while, and then, or when its connection breaks, stays away for a while.

    Args:
        stays: at most so many seconds.
        away: so many seconds, or half of them at least.
    """

    def __init__(
        self, *arguments: Any, dice: random.Random, stays: float, away: float, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._dice = dice
        self._stays = stays
        self._away = away

    async def _connect(self) -> None:
        leaving = asyncio.create_task(self._leave())
        try:
            await super()._connect()
        finally:
            leaving.cancel()
        await asyncio.sleep(self._dice.uniform(self._away / 2, self._away))

    async def _leave(self) -> None:
        await asyncio.sleep(self._dice.uniform(0, self._stays))
        socket, sessions = self.socket, self.device.sessions
        if socket is not None and sessions:
            sessions[-1].ended_as = LEFT
            await socket.close()


class Watcher(Backend):
    """Asks again and again who is in a channel."""

    def __init__(self, publisher: AsyncPublisher, channel: str, trace: Trace) -> None:
        super().__init__()
        self._publisher = publisher
        self._channel = channel
        self._trace = trace

    async def run(self) -> None:
        """Go on until stopped."""
        while not await self._stopped_within(_ASKED_SECONDS):
            await self._ask()

    async def _ask(self, *, settled: bool = False) -> frozenset[str]:
        while True:
            asked_at = time.monotonic()
            users = frozenset(await until_done(partial(self._publisher.presence, self._channel)))
            answered_at = time.monotonic()
            if answered_at - asked_at < _WRITTEN_SECONDS:
                break
        told = Present(self._channel, users, asked_at, answered_at, settled)
        self._trace.present.append(told)
        return users

    async def settle(self, there: Callable[[], set[str]]) -> None:
        """Wait until the answer is who is ``there``, and note the last one."""

        async def exact() -> bool:
            before = there()
            return await self._ask() == before == there()

        try:
            await until(exact, _SETTLED_SECONDS)
        except TimeoutError:
            await self._ask(settled=True)


def seen_wrongly(trace: Trace) -> Iterator[str]:
    """Who was said to be there long after they had gone, and who was not though they had been there for a while."""
    for told in trace.present:
        if told.settled:
            yield f"presence: {told.channel} was said to have {sorted(told.users)} in the end, and had not settled"
        users = {each.user for each in trace.devices if told.channel in each.channels}
        for user in sorted(told.users - users):
            yield f"presence: {user} was said to be in {told.channel}, who has never been there"
        for user in sorted(users):
            of_user = list(_stays(trace, told.channel, user))
            if user in told.users:
                yield from _gone(trace, told, user, of_user)
            else:
                yield from _there(trace, told, user, of_user)


Stay = tuple[float, Session]
"""When somebody's subscribe was answered, and on which connection."""


def _stays(trace: Trace, channel: str, user: str) -> Iterator[Stay]:
    for device in trace.devices:
        if device.user == user:
            for session in device.sessions:
                if channel in session.answered:
                    yield session.answered[channel], session


def _gone(trace: Trace, told: Present, user: str, stays: list[Stay]) -> Iterator[str]:
    """By a node that was killed they are gone when its lease is; by another one at once, as soon as it notices."""
    begun = [each for each in stays if each[1].opened_at <= told.answered_at]
    last = max((session.lasted_until(trace.ended_at) for _, session in begun), default=0.0)
    late = told.asked_at - last
    killed = any(last - 2 <= at <= told.asked_at for at in trace.killed.values())
    lingers = _lingers(trace, last - _WRITTEN_SECONDS, last + _WRITTEN_SECONDS) or any(
        session.ended_as != LEFT
        and last - trace.unnoticed_seconds <= session.lasted_until(trace.ended_at)
        for _, session in begun
    )
    allowed = NODE_LEASE_SECONDS if killed else trace.unnoticed_seconds if lingers else 0.0
    # After trouble with Redis a node writes anew who is there, and all others run out.
    calm_since = max(last, told.asked_at - NODE_LEASE_SECONDS - trace.unnoticed_seconds)
    calm = not _troubled(trace, calm_since - _WRITTEN_SECONDS, told.answered_at)
    if late > allowed + _WRITTEN_SECONDS and calm:
        yield f"presence: {user} was said to be in {told.channel} {late:.1f} s after they had gone"


def _troubled(trace: Trace, begin: float, end: float) -> bool:
    """Whether a node was without Redis, or stood still, or Redis was losing writes."""
    return any(each.begin <= end and begin <= each.end for each in trace.losses) or any(
        each.nodes
        and each.name not in _ENDS
        and each.begun_at <= end
        and begin <= each.recovered_at
        for each in trace.occurrences
    )


def _lingers(trace: Trace, begin: float, end: float) -> bool:
    return any(
        each.name in _UNHEARD and each.begun_at <= end and each.ended_at >= begin
        for each in trace.occurrences
    )


def _there(trace: Trace, told: Present, user: str, stays: list[Stay]) -> Iterator[str]:
    since = told.asked_at - 2 * _WRITTEN_SECONDS
    unheard = _lingers(trace, since - trace.unnoticed_seconds, told.answered_at)
    if unheard or _troubled(trace, since - _WRITTEN_SECONDS, told.answered_at):
        return
    for answered_at, session in stays:
        if answered_at < since and session.lasted_until(trace.ended_at) > told.answered_at:
            yield (
                f"presence: {user} had been in {told.channel} for {told.asked_at - answered_at:.1f} s at {told.asked_at:.2f}, "
                "and was said not to be there"
            )
            return
