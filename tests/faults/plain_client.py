"""A client that knows the first protocol and nothing else: no ids, no acks, no ``since``.

It reconnects as the protocol's own document tells clients to (``WebSocketClient.handleReconnect``): after
1, 2, 4, 8 and 16 seconds, from the beginning again once a connection has opened; then it subscribes again.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any, Final

import aiohttp

from tests.faults.trace import Arrival, Device, LossReport, Session, Token
from tests.support.tokens import make_token

RECONNECT_DELAY_SECONDS: Final = 1.0
MAX_RECONNECT_ATTEMPTS: Final = 5
_HANDSHAKE_SECONDS: Final = 10.0


class PlainClient:
    """Connects, subscribes, records what comes, and comes back after every break.

    Args:
        device: where everything is recorded.
        reload_seconds: after how long somebody loads the page anew that has given up; ``None`` for never.
        named: whether its token names its channels; one that does not needs grants.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        device: Device,
        reload_seconds: float | None = None,
        *,
        named: bool = True,
    ) -> None:
        self._reload_seconds = reload_seconds
        self._session = session
        self._url = url
        self.device = device
        self._channels = list(device.channels) if named else None
        self.show_another_token()
        self.socket: aiohttp.ClientWebSocketResponse | None = None
        self._attempts = 0

    def show_another_token(self) -> None:
        """Show another token when it connects from now on."""
        self.token = Token(secrets.token_hex(8), time.time())
        claims = {"jti": self.token.id, "iat": self.token.issued_at}
        signed = make_token(self.device.user, self._channels, **claims)
        self._address = f"{self._url}/?token={signed}"

    @property
    def local_port(self) -> int | None:
        """Its end of the connection that is open now."""
        if self.socket is None or self.socket.closed:
            return None
        name = self.socket.get_extra_info("sockname")
        return None if name is None else int(name[1])

    @property
    def subscribed(self) -> bool:
        """Whether it is connected and everything it asked for has been answered."""
        sessions = self.device.sessions
        return (
            self.local_port is not None
            and bool(sessions)
            and sessions[-1].ended_at is None
            and sessions[-1].answered.keys() >= set(self.device.channels)
        )

    def describe(self) -> str:
        """What keeps it from hearing everything."""
        now, device = time.monotonic(), self.device
        last = device.sessions[-1] if device.sessions else None
        answered = sorted(last.answered) if last else None
        ended = f"{now - last.ended_at:.1f} s ago" if last and last.ended_at else "no"
        refused = [f"{now - at:.1f}" for at in device.refusals[-8:]]
        return (
            f"{device.user} gave up: {device.gave_up}, attempts: {self._attempts}, "
            f"turned away: {device.turned_away}, last session: answered {answered}, ended {ended}, "
            f"refused {', '.join(refused)} s ago"
        )

    async def run(self) -> None:
        """Go on until cancelled, or until the document says to give up."""
        while True:
            await self._connect()
            if self._attempts == MAX_RECONNECT_ATTEMPTS:
                if self._reload_seconds is None:
                    self.device.gave_up = True
                    return
                self.device.reloads += 1
                self._attempts = 0
                await asyncio.sleep(self._reload_seconds)
                continue
            self._attempts += 1
            await asyncio.sleep(RECONNECT_DELAY_SECONDS * 2 ** (self._attempts - 1))

    async def _connect(self) -> None:
        asked_at, token = time.monotonic(), self.token
        try:
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                socket = await self._session.ws_connect(self._address, max_msg_size=0)
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.device.refusals.append(time.monotonic())
            return
        self._attempts = 0
        self.socket = socket
        try:
            await self._listen(socket, asked_at, token)
        finally:
            self.socket = None
            await socket.close()

    async def _listen(
        self, socket: aiohttp.ClientWebSocketResponse, asked_at: float, token: Token
    ) -> None:
        session: Session | None = None
        try:
            async for frame in socket:
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    break
                message = json.loads(frame.data)
                if session is None and message["type"] == "connected":
                    session = Session(time.monotonic(), asked_at=asked_at, token=token)
                    self.device.sessions.append(session)
                    await self._subscribe(socket)
                elif session is not None:
                    self.take(session, message)
                else:
                    self.turned_away(message)
        except (aiohttp.ClientError, OSError):
            pass
        finally:
            if session is not None:
                session.ended_at = time.monotonic()
                session.close_code = socket.close_code

    async def _subscribe(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        for channel in self.device.channels:
            await socket.send_json({"type": "subscribe", "channel": channel})

    def turned_away(self, message: dict[str, Any]) -> None:
        """Record why it was not let in."""
        if message.get("code") == "connection_limit":
            self.device.turned_away += 1

    def take(self, session: Session, message: dict[str, Any]) -> None:
        """Record a message."""
        now, channel = time.monotonic(), message.get("channel", "")
        match message["type"]:
            case "subscribed":
                session.answered[channel] = now
                if message.get("recovered") is False:
                    session.reports.append(LossReport(now, channel))
            case "error" if message.get("code") == "messages_lost":
                session.reports.append(LossReport(now, channel))
            case "error":
                session.errors.append(f"{message.get('code')} {channel}".strip())
            case _:
                number = message["data"]["number"]
                session.arrivals.append(Arrival(now, channel, message["id"], number))
