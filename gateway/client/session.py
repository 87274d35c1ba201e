"""One connection of a receiver: what is said to the gateway, and what becomes of what it says."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import orjson
from websockets.asyncio.client import ClientConnection

from gateway.client.errors import NOTHING, SubscriptionEnded, Told
from gateway.client.subscription import Message, Subscription
from gateway.client.tokens import NoToken, Token, fresh, renewed_in

log = logging.getLogger(__name__)

_QUIET_SECONDS: Final = 25.0
"""After so long without a message the gateway is asked whether it is there."""

_ANSWER_SECONDS: Final = 10.0
_LONGEST_ANSWER_SECONDS: Final = 120.0

_ACKS_PER_SECOND: Final = 50
"""Half of what a connection may send (docs/protocol.md, "What a client may cost")."""

_ACK_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 30.0
_FAREWELL_SECONDS: Final = 2.0

_PASSING: Final = frozenset({"channel_full", "internal_error", "token_key_unknown"})
"""Why a channel cannot be had at the moment."""

_REFUSALS: Final = frozenset({"forbidden", "expired", "revoked", "grant_lost"})
"""What a grant puts right (docs/protocol.md, "When a refused channel is granted")."""

_ASKED_AGAIN_SECONDS: Final = 240.0
"""A node remembers a refusal for five minutes, and tells of a grant until then."""

_OLD_TOKEN: Final = frozenset({"expired", "token_expired", "token_not_yet_valid"})
_NEW_SECONDS: Final = 5.0
"""A channel token that has been asked for so lately is not old: another one would be no better."""


@dataclass
class Patience:
    """How long an answer is waited for. Twice as long after each wait in vain: it comes behind what was sent before."""

    seconds: float = _ANSWER_SECONDS

    def lengthen(self) -> None:
        """An answer did not come."""
        self.seconds = min(2 * self.seconds, _LONGEST_ANSWER_SECONDS)

    def renew(self) -> None:
        """An answer came."""
        self.seconds = _ANSWER_SECONDS


class Silent(Exception):
    """The gateway has not answered; the line is dead."""


class Session:
    """A connection from its greeting to its end.

    Args:
        socket: open.
        subscriptions: the receiver's, by channel; the session ends those that the gateway ends.
        patience: the receiver's.
        greeted: told when the gateway has let the client in, and of the user.
        renew: a new token for the connection, or ``None`` where there is none.
    """

    def __init__(
        self,
        socket: ClientConnection,
        subscriptions: dict[str, Subscription],
        patience: Patience,
        greeted: Callable[[str], None],
        renew: Callable[[], Awaitable[str]] | None,
    ) -> None:
        self._socket = socket
        self._subscriptions = subscriptions
        self._patience = patience
        self._greeted = greeted
        self._renew = renew
        self._open = False
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._live: set[str] = set()
        self._leaving: Counter[str] = Counter()
        self._acks: dict[str, int] = {}
        self._acks_due = asyncio.Event()
        # When each channel is subscribed to again, and since when its token has been shown.
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._shown: dict[str, float] = {}
        self.error = NOTHING
        """The last error message that named no channel: why the connection ends, if it does."""

    # -- what the receiver wants ----------------------------------------------------------------

    def subscribe(self, subscription: Subscription) -> None:
        """Ask for a channel, now or after the greeting."""
        if not self._open or subscription.ended:
            return
        if subscription.access.token is None:
            self._ask_for(subscription)
        else:
            self._spawn(self._ask_with(subscription, subscription.access.token))

    def unsubscribe(self, channel: str) -> None:
        """Leave a channel. What still comes of it is nobody's, until that is answered."""
        self._forget(channel)
        if self._open:
            self._leaving[channel] += 1
            self._outbox.put_nowait({"type": "unsubscribe", "channel": channel})

    def acknowledge(self, channel: str, message_id: int) -> None:
        """Tell the gateway soon that everything up to this id has been processed."""
        if channel in self._live:
            self._acks[channel] = message_id
            self._acks_due.set()

    async def run(self) -> None:
        """Serve until the connection ends.

        Raises:
            ConnectionClosed: it has ended.
            Silent: nothing is heard any more.
        """
        self._spawn(self._write())
        self._spawn(self._acknowledge())
        try:
            while True:
                received = orjson.loads(await self._receive())
                for message in received if isinstance(received, list) else [received]:
                    await self._hear(message)
        finally:
            for timer in self._later.values():
                timer.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def say_farewell(self) -> None:
        """Send what was processed and has not been acknowledged."""
        self._put_acks()
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._outbox.join()
        except TimeoutError:
            pass  # it was received, and comes again if the gateway does not know

    # -- what the gateway says ------------------------------------------------------------------

    async def _receive(self) -> bytes:
        try:
            async with asyncio.timeout(_QUIET_SECONDS):
                return await self._socket.recv(decode=False)
        except TimeoutError:
            self._outbox.put_nowait({"type": "heartbeat"})
        try:
            async with asyncio.timeout(self._patience.seconds):
                return await self._socket.recv(decode=False)
        except TimeoutError:
            self._patience.lengthen()
            self._socket.transport.abort()  # its close would be waited for in vain
            raise Silent from None

    async def _hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"type": "connected", "userId": str(user)}:
                self._open = True
                self._greeted(user)
                for subscription in [*self._subscriptions.values()]:
                    self.subscribe(subscription)
            case {"type": "heartbeat"}:
                self._patience.renew()
            case {"type": "token_expiring"}:
                if self._renew is not None:
                    self._spawn(self._refresh(self._renew))
            case {"type": kind, "channel": str(channel)}:
                await self._hear_of_channel(kind, channel, message)
            case {"type": "error"}:
                self.error = Told.of(message)

    async def _hear_of_channel(self, kind: str, channel: str, message: dict[str, Any]) -> None:
        if self._leaving[channel]:
            if kind == "unsubscribed":
                self._leaving[channel] -= 1
            return
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            self._unread(kind, channel)
            return
        match kind:
            case "subscribed":
                self._live.add(channel)
                if message.get("recovered") is False:
                    self._acks.pop(channel, None)
                subscription.answer(message.get("recovered"), message.get("position"))
            case "granted":
                self._forget(channel)
                self.subscribe(subscription)
            case "unsubscribed":
                self._ended(subscription, str(message.get("reason", "")))
            case "error":
                self._failed(subscription, str(message.get("code")), Told.of(message))
            case _ if "data" in message:
                await subscription.put(
                    Message(channel, message["data"], message["timestamp"], message.get("id"), kind)
                )

    def _unread(self, kind: str, channel: str) -> None:
        """Leave a channel that a late answer has opened: its subscription has ended while the request was on its way."""
        if kind == "subscribed":
            self.unsubscribe(channel)

    def _failed(self, subscription: Subscription, code: str, told: Told) -> None:
        if code == "messages_lost":
            self._acks.pop(subscription.channel, None)
            subscription.lose()
        elif subscription.channel in self._live:
            # A new token is refused; the subscription goes on by the one before (docs/protocol.md, "Channel tokens").
            log.warning(
                "channel_token_refused channel=%r code=%s told=%r",
                subscription.channel,
                code,
                str(told),
            )
            self._subscribe_soon(subscription)
        else:
            self._ended(subscription, code, told)

    def _ended(self, subscription: Subscription, code: str, told: Told = NOTHING) -> None:
        channel = subscription.channel
        self._forget(channel)
        if code in _PASSING:
            self._subscribe_soon(subscription)
        elif code in _OLD_TOKEN and self._has_newer_token(subscription):
            self.subscribe(subscription)
        elif code in _REFUSALS and subscription.access.wait_for_grant:
            self._subscribe_in(_ASKED_AGAIN_SECONDS, subscription)
        else:
            del self._subscriptions[channel]
            subscription.end(SubscriptionEnded(channel, code, told))

    def _has_newer_token(self, subscription: Subscription) -> bool:
        shown = self._shown.get(subscription.channel, -math.inf)
        now = asyncio.get_running_loop().time()
        return callable(subscription.access.token) and now - shown > _NEW_SECONDS

    def _forget(self, channel: str) -> None:
        self._live.discard(channel)
        self._acks.pop(channel, None)
        if (timer := self._later.pop(channel, None)) is not None:
            timer.cancel()

    # -- asking for a channel -------------------------------------------------------------------

    def _ask_for(self, subscription: Subscription, **token: str) -> None:
        message: dict[str, Any] = {
            "type": "subscribe",
            "channel": subscription.channel,
            **token,
        }
        # One that is live gets a new token, and nothing again.
        if subscription.position.since is not None and subscription.channel not in self._live:
            message["since"] = subscription.position.since
        self._outbox.put_nowait(message)

    async def _ask_with(self, subscription: Subscription, source: Token) -> None:
        try:
            token = await fresh(source)
        except NoToken as error:
            if not subscription.ended:
                self._failed(subscription, "token_missing", Told(str(error)))
            return
        except Exception as error:  # noqa: BLE001 - whatever keeps a login from answering may pass
            log.warning("token_unavailable channel=%r error=%r", subscription.channel, error)
            self._subscribe_soon(subscription)
            return
        if subscription.ended:
            return
        self._shown[subscription.channel] = asyncio.get_running_loop().time()
        self._ask_for(subscription, token=token)
        if callable(source) and (seconds := renewed_in(token, time.time())) is not None:
            self._subscribe_in(max(seconds, _NEW_SECONDS), subscription)

    def _subscribe_soon(self, subscription: Subscription) -> None:
        self._subscribe_in(_AGAIN_SECONDS * random.random(), subscription)  # noqa: S311 - no secret

    def _subscribe_in(self, seconds: float, subscription: Subscription) -> None:
        channel = subscription.channel
        if (timer := self._later.pop(channel, None)) is not None:
            timer.cancel()
        self._later[channel] = asyncio.get_running_loop().call_later(
            seconds, self.subscribe, subscription
        )

    # -- what takes its time --------------------------------------------------------------------

    async def _refresh(self, renew: Callable[[], Awaitable[str]]) -> None:
        while True:
            try:
                token = await renew()
                break
            except Exception as error:  # noqa: BLE001 - whatever keeps a login from answering may pass
                log.warning("token_unavailable error=%r", error)
            await asyncio.sleep(_AGAIN_SECONDS * random.random())  # noqa: S311 - no secret
        self._outbox.put_nowait({"type": "refresh", "token": token})

    async def _acknowledge(self) -> None:
        while True:
            await self._acks_due.wait()
            self._acks_due.clear()
            await asyncio.sleep(max(_ACK_SECONDS, self._put_acks() / _ACKS_PER_SECOND))

    def _put_acks(self) -> int:
        acks, self._acks = self._acks, {}
        for channel, message_id in acks.items():
            self._outbox.put_nowait({"type": "ack", "channel": channel, "id": message_id})
        return len(acks)

    async def _write(self) -> None:
        while True:
            message = await self._outbox.get()
            await self._socket.send(orjson.dumps(message), text=True)
            self._outbox.task_done()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a connection that is closed is noticed where it is read
