"""A client on one connection: it says what it is told to, and writes down what it hears."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Sequence
from typing import Any, Final

import aiohttp

from tests.model.record import OPEN, Arrival, Record, Refusal, Session, Visit
from tests.support.tokens import make_token

_HANDSHAKE_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 10.0


class NotLetIn(Exception):
    """The node takes nobody in at the moment, or the token has run out on the way."""


class Visitor:
    """``pending`` are the channels that it has asked for, and when, while there is no answer."""

    def __init__(
        self, record: Record, visit: Visit, socket: aiohttp.ClientWebSocketResponse
    ) -> None:
        self.visit = visit
        self.pending: dict[str, float] = {}
        self.leaving: set[str] = set()
        self._record = record
        self._socket = socket
        self._now = asyncio.get_running_loop().time
        self._heartbeat = asyncio.Event()
        self._rejections = 0
        self._expiring: set[int] = set()

    def shown(self, ends: float) -> None:
        """It has shown a token that ends so many seconds after 1970."""
        self._expiring.add(int(ends * 1_000))

    @property
    def here(self) -> bool:
        """Whether the connection is open."""
        return self.visit.ended == math.inf

    # -- what it says -------------------------------------------------------------------------

    async def subscribe(self, channel: str, since: int | None = None) -> None:
        """Ask for a channel."""
        more = {} if since is None else {"since": since}
        self.pending[channel] = self._now()
        session = self.visit.session(channel)
        if since is not None and session is not None:
            # It begins anew.
            session.ended = self._now()
        await self._send({"type": "subscribe", "channel": channel, **more})

    async def unsubscribe(self, channel: str) -> None:
        """Leave a channel."""
        self.leaving.add(channel)
        await self._send({"type": "unsubscribe", "channel": channel})

    async def refresh(self, channels: Sequence[str], lasts: float) -> None:
        """Show another token, and wait until it is in force."""
        asked = self._now()
        token, ends = token_of(self.visit.user, channels, lasts)
        self.shown(ends)
        await self._send({"type": "refresh", "token": token})
        if await self._answered():
            note_token(self._record, self.visit, channels, asked, self._now(), ends)
        else:
            # Nobody knows which one was in force when the connection ended.
            note_token(self._record, self.visit, channels, asked, math.inf, ends)

    async def refresh_badly(self, token: str) -> None:
        """Show a token that is not accepted."""
        self._rejections += 1
        await self._send({"type": "refresh", "token": token})

    async def leave(self) -> None:
        """End the connection."""
        self.visit.left = True
        await self._socket.close()

    async def _answered(self) -> bool:
        """Whether all that was said before has been served."""
        self._heartbeat.clear()
        await self._send({"type": "heartbeat"})
        waiting = asyncio.create_task(self._heartbeat.wait())
        try:
            await asyncio.wait_for(waiting, _ANSWER_SECONDS)
        except TimeoutError:
            if self.here:
                self.visit.odd.append("got no answer to a heartbeat")
        return self.here

    async def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            await self._socket.send_json(message)

    # -- what it hears ------------------------------------------------------------------------

    async def listen(self) -> None:
        """Write down what comes, until the connection ends."""
        async for frame in self._socket:
            if frame.type is aiohttp.WSMsgType.TEXT:
                self._take(json.loads(frame.data), self._now())
        self.visit.ended = self._now()
        self.visit.why = self.visit.why or str(self._socket.close_code)
        self.pending.clear()
        self._heartbeat.set()

    def _take(self, message: dict[str, Any], now: float) -> None:
        channel = message.get("channel", "")
        match message["type"]:
            case "subscribed":
                self.pending.pop(channel, None)
                if self.visit.session(channel) is None:
                    self.visit.sessions.append(Session(channel, now))
                if message.get("recovered") is False:
                    self.visit.odd.append(f"was told of a loss in {channel}")
            case "unsubscribed":
                self._end(channel, now, message.get("reason"))
            case "error":
                self._err(channel, now, message["code"])
            case "heartbeat":
                self._heartbeat.set()
            case "granted":
                pass
            case "token_expiring":
                # Of each token once, and of no other.
                try:
                    self._expiring.remove(message["expiresAt"])
                except KeyError:
                    self.visit.odd.append("was told of the end of a token that it has not shown")
            case _:
                self._hear(channel, now, message)

    def _hear(self, channel: str, now: float, message: dict[str, Any]) -> None:
        session = self.visit.session(channel)
        if session is None:
            self.visit.odd.append(f"got a message of {channel} without a subscription")
        else:
            session.arrivals.append(Arrival(message["data"]["number"], now, message.get("id")))

    def _end(self, channel: str, now: float, reason: str | None) -> None:
        session = self.visit.session(channel)
        asked = self.pending.pop(channel, None)
        if session is not None:
            session.ended = now
        since = session.answered if session is not None else asked
        if reason is None:
            self.leaving.discard(channel)
        elif since is not None:
            self.visit.refusals.append(Refusal(channel, since, now, reason))

    def _err(self, channel: str, now: float, code: str) -> None:
        if channel in self.pending and code == "forbidden":
            asked = self.pending.pop(channel)
            self.visit.refusals.append(Refusal(channel, asked, now, code))
        elif not channel and self._rejections and code in {"token_invalid", "token_expired"}:
            self._rejections -= 1
        elif not channel:
            # It is about to be closed.
            self.visit.why = code
        else:
            self.visit.odd.append(f"was told {code} of {channel}")


async def visitor(
    record: Record,
    session: aiohttp.ClientSession,
    node: int,
    url: str,
    user: str,
    channels: Sequence[str],
    lasts: float,
) -> Visitor:
    """Connect with a token that names ``channels`` and lasts so many seconds.

    Raises:
        NotLetIn: nobody is let in now.
    """
    now = asyncio.get_running_loop().time
    asked = now()
    token, ends = token_of(user, channels, lasts)
    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            socket = await session.ws_connect(
                url, headers={"Authorization": f"Bearer {token}"}, max_msg_size=0
            )
            first = await socket.receive()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise NotLetIn from error
    if first.type is not aiohttp.WSMsgType.TEXT or json.loads(first.data)["type"] != "connected":
        await socket.close()
        raise NotLetIn
    visit = Visit(len(record.visits), user, node, now())
    record.visits.append(visit)
    note_token(record, visit, channels, asked, now(), ends)
    one = Visitor(record, visit, socket)
    one.shown(ends)
    return one


def token_of(user: str, channels: Sequence[str], lasts: float) -> tuple[str, float]:
    """A token, and when it ends in seconds since 1970."""
    # A fraction that is the same in milliseconds.
    ends = math.ceil(4 * (time.time() + lasts)) / 4
    return make_token(user, list(channels), exp=ends), ends


def note_token(
    record: Record, visit: Visit, channels: Sequence[str], asked: float, done: float, ends: float
) -> None:
    """A token is shown that names ``channels`` and ends then; it takes the place of the one before."""
    # Only in a token a star stands for a whole namespace; as an id it is one like any other.
    named = (each.removesuffix("/*") for each in channels)
    opened = (OPEN, f"notifications/{visit.user}", *named)
    by_the_loop = asyncio.get_running_loop().time() + ends - time.time()
    for what in opened:
        record.ways.begin(visit, what, asked, done)
        record.ways.last_until(visit, what, by_the_loop)
    record.ways.end_others(visit, opened, asked, done)
