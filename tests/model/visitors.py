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
import jwt

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
from tests.support.tokens import SECRET, make_token

_HANDSHAKE_SECONDS: Final = 10.0
_REFRESH_SECONDS: Final = 30.0
"""While Redis is away nobody can say whether a token is revoked."""
_LOOK_SECONDS: Final = 0.005
_MILLISECONDS: Final = 0.002
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
        self._shown_for: dict[str, tuple[Token, bool]] = {}
        # The ends of the tokens that were shown, and that it was not told of yet.
        self._shown = [token.ends]
        self._heartbeat = asyncio.Event()

    @property
    def here(self) -> bool:
        """Whether the connection is open."""
        return self.visit.ended == math.inf

    # -- what it says -------------------------------------------------------------------------

    async def subscribe(
        self,
        channel: str,
        since: int | None = None,
        token: Token | None = None,
        *,
        good: bool = True,
    ) -> None:
        """Ask for a channel, with a token for it that is ``good``, or is not."""
        more: dict[str, Any] = {} if since is None else {"since": since}
        self.pending[channel] = now = self._now()
        if token is not None:
            more["token"] = token.text
            self._shown_for[channel] = token, good
        elif since is not None:
            # It may begin anew without the token that was shown before.
            self._record.ways.doubt(self.visit.showing, channel, now)
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
        if accepted or not (self.here or revoked):
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
                told = [each for each in self._shown if abs(each - ends) <= _MILLISECONDS]
                if told:
                    self._shown.remove(told[0])
                else:
                    self.visit.odd.append("was told of the end of a token that it has not shown")
            case _:
                self._hear(channel, now, message)

    def _begin(self, channel: str, now: float) -> None:
        asked = self.pending.pop(channel, now)
        token, good = self._shown_for.pop(channel, (None, True))
        if token is not None:
            note_pass(self._record, self.visit, channel, token, asked, now)
            if not good:
                self.visit.odd.append(f"was let into {channel} by a token that is no good")
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
        asked = None
        if reason is None or session is None:
            # Else what was asked for meanwhile has an answer of its own.
            asked = self.pending.pop(channel, None)
        self._anew.discard(channel)
        if reason is None:
            self._shown_for.pop(channel, None)
        self.visit.passes.pop(channel, None)
        self._record.ways.end(self.visit.showing, channel, now, now)
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
            self._shown_for.pop(channel, None)
            self.visit.refusals.append(Refusal(channel, asked, now, code))
            if channel in self._anew and (session := self.visit.session(channel)) is not None:
                # What there was before was left when that was asked for.
                session.ended = now
            self._anew.discard(channel)
        elif channel in self._shown_for and code in _REJECTED:
            self._refused(channel, code)
        elif not channel and (self._rejections or self.visit.refreshing) and code in _REJECTED:
            # That is also said of a good token which ran out, or was revoked, while Redis was asked.
            self._rejections = max(0, self._rejections - (code != "token_revoked"))
        elif not channel:
            # It is about to be closed.
            self.visit.why = code
        else:
            self.visit.odd.append(f"was told {code} of {channel}")

    def _refused(self, channel: str, code: str) -> None:
        """A token for a channel was refused; what there was before goes on."""
        self.pending.pop(channel, None)
        token, good = self._shown_for.pop(channel)
        revoked = any(each.is_about(token) for each in self._record.revocations)
        ended = token.ends <= time.time()
        # One whose revocation has not returned yet is not told apart.
        if good and not (revoked or ended or code == "token_revoked"):
            self.visit.odd.append(f"was told {code} of a good token for {channel}")


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
    claims = _claims(record, lasts)
    text = make_token(user, list(channels), **claims)
    token = _recorded(record, text, user, channels, claims)
    record.tokens.append(token)
    return token


def pass_of(record: Record, user: str, channel: str, lasts: float) -> Token:
    """A token for one channel."""
    claims = _claims(record, lasts)
    text = jwt.encode(
        {"sub": user, "channel": channel, **claims}, SECRET, "HS256", {"typ": "channel+jwt"}
    )
    return _recorded(record, text, user, (channel,), claims)


def _claims(record: Record, lasts: float) -> dict[str, Any]:
    now, number = time.time(), record.made
    record.made += 1
    said: dict[str, Any] = {"exp": round(now + lasts, 3)}
    if number % 3:
        said["jti"] = f"token-{number}"
    if number % 4:
        said["iat"] = round(now, 3)
    return said


def _recorded(
    record: Record, text: str, user: str, channels: tuple[str, ...], claims: dict[str, Any]
) -> Token:
    token = Token(text, user, channels, claims["exp"], claims.get("jti"), claims.get("iat"))
    record.issued.append(token)
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
        if each.is_about(token) and done == math.inf:
            # Perhaps the one before it was in force until the end.
            record.ways.doubt(visit, OPEN, asked)
        elif each.is_about(token):
            record.ways.end_last(visit, OPEN, each.asked, each.done)


def note_pass(
    record: Record, visit: Visit, channel: str, token: Token, asked: float, done: float
) -> None:
    """A token for a channel is in force."""
    visit.passes[channel] = token
    record.ways.begin(visit.showing, channel, asked, done)
    ends = asyncio.get_running_loop().time() + token.ends - time.time()
    record.ways.last_until(visit.showing, channel, ends)
    for each in record.revocations:
        if each.is_about(token):
            record.ways.end_last(visit.showing, channel, each.asked, each.done)


def note_revocation(record: Record, revocation: Revocation) -> None:
    """Tokens are revoked, and the connections end that were let in with one."""
    record.revocations.append(revocation)
    for visit in record.visits:
        for channel, token in visit.passes.items():
            if revocation.is_about(token):
                record.ways.end(visit.showing, channel, revocation.asked, revocation.done)
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
