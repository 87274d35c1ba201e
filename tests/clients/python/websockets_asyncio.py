"""The asyncio client of the `websockets` package, which also pings the server."""

from __future__ import annotations

import asyncio
import sys

from lines import say
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError


async def main(compression: str, address: str) -> None:
    async with connect(
        address,
        compression="deflate" if compression == "on" else None,
        ping_interval=0.5,
        ping_timeout=20,
    ) as socket:
        say("open")
        reading = asyncio.create_task(read(socket))
        while line := await asyncio.to_thread(sys.stdin.readline):
            await socket.send(line.removesuffix("\n"))
        await socket.close()
        await reading


async def read(socket: ClientConnection) -> None:
    try:
        async for text in socket:
            say("message", text)
    except ConnectionClosedError:
        pass  # any code but 1000 and 1001
    say("close", socket.close_code, socket.close_reason)


asyncio.run(main(*sys.argv[1:]))
