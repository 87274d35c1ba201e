"""A client on one connection: it says what it is told to, and writes down what it hears.

Of a node it sees what clients see, but for one thing: when a token that it has shown is in force, which nobody is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from typing import Any, Final

import aiohttp

from gateway.node.connection import Connection
from gateway.node.hub import Hub
from tests.model.access import CLOCKS_SECONDS
from tests.model.record import (
    OPEN,
    Arrival,
    Disconnection,
    Record,
    Refusal,
    Revocation,
    Session,
    Token,
    Visit,
)
from tests.support.tokens import make_token

_HANDSHAKE_SECONDS: Final = 10.0
_REFRESH_SECONDS: Final = 30.0
"""While Redis is away nobody can say whether a token is revoked."""
_LOOK_SECONDS: Final = 0.005
_REJECTED: Final = {"token_invalid", "token_expired", "token_revoked"}


class NotLetIn(Exception):
    """The node takes nobody in at the moment, or the token has run out on the way."""


class Visitor:
    """``pending`` are the channels that it has asked for, and when, while there is no answer."""

    def __init__(
        self,
        record: Record,
        visit: Visit,
        token: Token,
        socket: aiohttp.ClientWebSocketResponse,
        inside: Connection,
    ) -> None:
        self.visit = visit
        self.pending: dict[str, float] = {}
        self.leaving: set[str] = set()
        self._record = record
        self._socket = socket
        self._inside = inside
        self._now = asyncio.get_running_loop().time
        self._rejections = 0
        self._anew: set[str] = set()
        # The ends of the tokens that were shown, and that it was not told of yet.
        self._shown = [token.ends]
        self._heartbeat = asyncio.Event()

    @property
    def here(self) -> bool:
        """Whether the connection is open."""
        return self.visit.ended == math.inf

    # -- what it says -------------------------------------------------------------------------

    async def subscribe(self, channel: str, since: int | None = None) -> None:
        """Ask for a channel."""
        more = {} if since is None else {"since": since}
        self.pending[channel] = self._now()
        if since is not None:
            self._anew.add(channel)
        await self._send({"type": "subscribe", "channel": channel, **more})

    async def unsubscribe(self, channel: str) -> None:
        """Leave a channel."""
        self.leaving.add(channel)
        await self._send({"type": "unsubscribe", "channel": channel})

    async def refresh(self, token: Token, *, revoked: bool = False) -> None:
        """Show another token, and wait until it is in force; or until it is refused, if it is ``revoked``."""
        asked = self._now()
        self.visit.refreshing = True
        self._shown.append(token.ends)
        self._heartbeat.clear()
        await self._send({"type": "refresh", "token": token.text})
        await self._send({"type": "heartbeat"})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REFRESH_SECONDS):
                await self._heartbeat.wait()
                # The node says nothing of a token that it has accepted.
                while self.here and self._inside.refreshing is not None:
                    await asyncio.sleep(_LOOK_SECONDS)
        self.visit.refreshing = False
        if self.here and self._inside.refreshing is not None:
            self.visit.odd.append("waits for ever for a token that it has shown")
        accepted = self._inside.identity.expires_at == token.ends
        if revoked and accepted:
            self.visit.odd.append("goes on with a revoked token")
        if accepted or not self.here:
            # Nobody knows which one was in force when a connection ended.
            done = self._now() if self.here else math.inf
            note_token(self._record, self.visit, token, asked, done)

    async def refresh_badly(self, token: str) -> None:
        """Show a token that is no good, and is refused at once."""
        self._rejections += 1
        await self._send({"type": "refresh", "token": token})

    async def leave(self) -> None:
        """End the connection."""
        self.visit.left = True
        await self._socket.close()

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
                self._begin(channel, now)
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
                ends = message["expiresAt"] / 1_000
                if ends in self._shown:
                    self._shown.remove(ends)
                else:
                    self.visit.odd.append("was told of the end of a token that it has not shown")
            case _:
                self._hear(channel, now, message)

    def _begin(self, channel: str, now: float) -> None:
        self.pending.pop(channel, None)
        session = self.visit.session(channel)
        if session is not None and channel in self._anew:
            session.ended = now
            session = None
        self._anew.discard(channel)
        if session is None:
            self.visit.sessions.append(Session(channel, now))

    def _hear(self, channel: str, now: float, message: dict[str, Any]) -> None:
        session = self.visit.session(channel)
        if session is None:
            self.visit.odd.append(f"got a message of {channel} without a subscription")
        else:
            session.arrivals.append(Arrival(message["data"]["number"], now, message.get("id")))

    def _end(self, channel: str, now: float, reason: str | None) -> None:
        session = self.visit.session(channel)
        asked = self.pending.pop(channel, None)
        self._anew.discard(channel)
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
        elif not channel and (self._rejections or self.visit.refreshing) and code in _REJECTED:
            self._rejections -= code != "token_revoked"
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
    hub: Hub,
    token: Token,
) -> Visitor:
    """Connect with a token.

    Raises:
        NotLetIn: nobody is let in now, or not with this token.
    """
    now = asyncio.get_running_loop().time
    asked = now()
    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            socket = await session.ws_connect(
                url, headers={"Authorization": f"Bearer {token.text}"}, max_msg_size=0
            )
            first = await socket.receive()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise NotLetIn from error
    if first.type is not aiohttp.WSMsgType.TEXT or json.loads(first.data)["type"] != "connected":
        await socket.close()
        raise NotLetIn
    visit = Visit(len(record.visits), token.user, node, now(), asked, shown=token)
    record.visits.append(visit)
    note_token(record, visit, token, asked, now())
    for each in record.disconnections:
        if each.user == token.user and asked <= each.done + CLOCKS_SECONDS:
            record.ways.doubt(visit, OPEN, asked)
    # The last of the user's: they come one after the other.
    inside = [each for each in hub.connections.values() if each.user == token.user][-1]
    return Visitor(record, visit, token, socket, inside)


def token_of(record: Record, user: str, channels: tuple[str, ...], lasts: float) -> Token:
    """A token; some have no id, and some do not say when they were made."""
    now = time.time()
    number = len(record.tokens)
    # A fraction that is the same in milliseconds, and of no other token.
    ends = math.ceil(4 * (now + lasts)) / 4 + (number % 128) / 8
    id_ = f"token-{number}" if number % 3 else None
    issued = round(now, 3) if number % 4 else None
    said = {name: value for name, value in (("jti", id_), ("iat", issued)) if value is not None}
    text = make_token(user, list(channels), exp=ends, **said)
    token = Token(text, user, channels, ends, id_, issued)
    record.tokens.append(token)
    return token


def note_token(record: Record, visit: Visit, token: Token, asked: float, done: float) -> None:
    """A token is shown, and takes the place of the one before."""
    visit.token = token
    # Only in a token a star stands for a whole namespace; as an id it is one like any other.
    named = (each.removesuffix("/*") for each in token.channels)
    opened = (OPEN, f"notifications/{visit.user}", *named)
    ends = asyncio.get_running_loop().time() + token.ends - time.time()
    for what in opened:
        record.ways.begin(visit, what, asked, done)
        record.ways.last_until(visit, what, ends)
    record.ways.end_others(visit, opened, asked, done)
    for each in record.revocations:
        if each.is_about(token):
            record.ways.end(visit, OPEN, each.asked, each.done)


def note_revocation(record: Record, revocation: Revocation) -> None:
    """Tokens are revoked, and the connections end that were let in with one."""
    record.revocations.append(revocation)
    for visit in record.visits:
        if visit.token is None:
            continue
        if visit.refreshing and visit.user == (revocation.user or visit.user):
            # Perhaps it is about the one, perhaps about the other.
            record.ways.doubt(visit, OPEN, revocation.asked)
        elif revocation.is_about(visit.token):
            record.ways.end(visit, OPEN, revocation.asked, revocation.done)


def note_disconnection(record: Record, disconnection: Disconnection) -> None:
    """The connections of a user end that were there before."""
    record.disconnections.append(disconnection)
    for visit in record.visits:
        if visit.user != disconnection.user:
            continue
        if disconnection.one or visit.opened >= disconnection.asked:
            record.ways.doubt(visit, OPEN, disconnection.asked)
        else:
            record.ways.end(visit, OPEN, disconnection.asked, disconnection.done)
