"""A program that is nothing but a client of some library.

It takes an address and perhaps options, connects, sends each line of its standard input as a message, and closes
when the input ends. It writes ``open``, ``message TEXT`` and ``close CODE REASON``, each in a line.
"""

from __future__ import annotations

import json
from typing import Any

from tests.support.line_program import LineProgram


class ClientProgram(LineProgram):
    """One connection; every message that arrives is JSON."""

    async def send(self, message: Any) -> None:
        """Send a message, or text as it is."""
        await self.write_line(message if isinstance(message, str) else json.dumps(message))

    async def opened(self) -> None:
        """Return when the handshake is over."""
        await self._event("open")

    async def receive(self) -> Any:
        """The next message."""
        return json.loads(await self._event("message"))

    async def expect(self, **fields: Any) -> Any:
        """The next message, which must have these fields."""
        message = await self.receive()
        assert {name: message.get(name) for name in fields} == fields, message
        return message

    async def closed(self) -> tuple[int, str]:
        """Close code and reason; nothing else may come before."""
        code, _, reason = (await self._event("close")).partition(" ")
        return int(code), reason

    async def close(self) -> tuple[int, str]:
        """Let it close, and return what it tells of that."""
        self.end_input()
        return await self.closed()

    async def subscribe(self, channel: str) -> None:
        """Subscribe, and see the answer."""
        await self.send({"type": "subscribe", "channel": channel})
        await self.expect(type="subscribed", channel=channel)

    async def sync(self, **fields: Any) -> None:
        """Return when the server has served all that was sent; nothing else may arrive meanwhile."""
        await self.send({"type": "heartbeat", **fields})
        await self.expect(type="heartbeat")

    async def _event(self, expected: str) -> str:
        event, _, rest = (await self.read_line()).partition(" ")
        assert event == expected, (event, rest)
        return rest
