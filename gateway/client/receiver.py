"""The receiver: a client that stays connected."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from websockets.exceptions import WebSocketException

from gateway.client.connecting import check_url, connected, end_of
from gateway.client.errors import NOTHING, ReceiverError, Told
from gateway.client.reconnecting import End, Reconnecting
from gateway.client.session import Patience, Session, Silent
from gateway.client.subscription import Access, Subscription
from gateway.client.tokens import NoToken, Token, checked, fresh

log = logging.getLogger(__name__)

_POLICY_VIOLATION: Final = 1008
"""As a gateway closes where it was shown no token (docs/protocol.md, "Close codes")."""


class Receiver:
    """Receives channels for one user, over one connection that is made again whenever it is lost.

    ``async with Receiver(url, token=…) as receiver: async for message in receiver.subscribe(channel)``. Messages come
    in order and once. After a lost connection each channel goes on behind its last message; where the gateway does not
    have all of them any more, ``on_gap`` is told. What is promised, and what is not: docs/receiver.md.

    Args:
        url: ``ws://…`` or ``wss://…``.
        token: of the user. What is callable is asked before each attempt and before the token ends; a plain string
            lasts as long as it is valid.
        ack: tell the gateway of each message that was processed: when the next one is asked for.
        on_gap: called with the channel where messages are lost for this user, in the order of its messages. Without it
            that is logged.
        tls: for ``wss://``: whom to trust, if not those whom the system trusts.

    Raises:
        ValueError: the URL is none of a WebSocket, or there is no token.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token,
        ack: bool = False,
        on_gap: Callable[[str], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        check_url(url)
        self._url = url
        self._token = token if callable(token) else checked(token)
        self._ack = ack
        self._on_gap = on_gap if on_gap is not None else _log_gap
        self._tls = tls
        self._subscriptions: dict[str, Subscription] = {}
        self._session: Session | None = None
        self._patience = Patience()
        self._reconnecting = Reconnecting(random.random, renews=callable(token))
        self._task: asyncio.Task[None] | None = None
        self._failure: ReceiverError | None = None
        self.user: str | None = None
        """Whom the token names, once the gateway has said so."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; the loops over subscriptions end."""
        if self._task is not None:
            if self._session is not None:
                await self._session.say_farewell()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def subscribe(
        self,
        channel: str,
        *,
        since: int | None = None,
        token: Token | None = None,
        wait_for_grant: bool = False,
    ) -> Subscription:
        """Begin to receive a channel.

        Args:
            channel: its name.
            since: the id of the last message that you have; 0 for everything that is kept. Without it, what the user
                has not received yet comes first.
            token: a channel token (docs/protocol.md), shown with each subscribe. What is callable is asked each time, and
                before the token ends.
            wait_for_grant: where the user may not hear the channel, or not any more, wait until that is granted.

        Returns:
            The messages, for ``async for``. The loop raises :class:`SubscriptionEnded` where the user may not hear the
            channel, and :class:`ConnectionEnded` where the gateway does not let the client in.

        Raises:
            ValueError: the receiver has subscribed to the channel already.
        """
        if channel in self._subscriptions:
            raise ValueError(f"there is a subscription to {channel!r} already")
        subscription = Subscription(
            channel,
            since,
            Access(token, wait_for_grant),
            self._processed,
            self._on_gap,
            self._left,
        )
        if self._task is not None and self._task.done():
            subscription.end(self._failure)
            return subscription
        self._subscriptions[channel] = subscription
        if self._session is not None:
            self._session.subscribe(subscription)
        return subscription

    # -- told by subscriptions ------------------------------------------------------------------

    def _processed(self, channel: str, message_id: int) -> None:
        if self._ack and self._session is not None:
            self._session.acknowledge(channel, message_id)

    def _left(self, subscription: Subscription) -> None:
        if self._subscriptions.pop(subscription.channel, None) and self._session is not None:
            self._session.unsubscribe(subscription.channel)

    # -- one connection after the other ---------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                end = await self._connect()
                pause = self._reconnecting.pause(end, loop.time())
                log.info(
                    "receiver_disconnected code=%d reason=%r told=%r pause_seconds=%.1f",
                    end.status or end.code,
                    end.reason,
                    str(end.told),
                    pause,
                )
                await asyncio.sleep(pause)
        except ReceiverError as error:
            self._failure = error
        except Exception as error:
            # What a broken installation or gateway does: a loop that just ended would look like the end of the messages.
            log.exception("receiver_failed")
            self._failure = ReceiverError(f"the receiver has failed: {error!r}")
            self._failure.__cause__ = error
        finally:
            for subscription in self._subscriptions.values():
                subscription.end(self._failure)
            self._subscriptions.clear()

    async def _connect(self) -> End:
        """Be connected once, and return how that has ended."""
        try:
            token = await self._fresh_token()
        except NoToken as error:
            return End(_POLICY_VIOLATION, "token_missing", Told(str(error)))
        except Exception as error:  # noqa: BLE001 - whatever keeps a login from answering may pass
            log.warning("token_unavailable error=%r", error)
            return End(reason="token_unavailable", told=Told(str(error)))
        session = None
        try:
            async with connected(self._url, token, self._tls) as socket:
                renew = self._fresh_token if callable(self._token) else None
                session = Session(socket, self._subscriptions, self._patience, self._greeted, renew)
                self._session = session
                await session.run()
        except Silent:
            return End(reason="no_answer")
        except (WebSocketException, OSError, EOFError) as error:
            end = end_of(error)
            if session is not None and end.told == NOTHING:
                return End(end.code, end.reason, session.error)
            return end
        finally:
            self._session = None
        raise AssertionError("a session ends with an error")

    async def _fresh_token(self) -> str:
        return await fresh(self._token)

    def _greeted(self, user: str) -> None:
        self.user = user
        self._reconnecting.connected(asyncio.get_running_loop().time())


def _log_gap(channel: str) -> None:
    log.warning("messages_lost channel=%r", channel)
