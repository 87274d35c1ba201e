"""The client of aiohttp."""

from __future__ import annotations

import asyncio
import sys

import aiohttp
from lines import say


async def main(compression: str, address: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address, compress=15 if compression == "on" else 0) as socket,
    ):
        say("open")
        reading = asyncio.create_task(read(socket))
        while line := await asyncio.to_thread(sys.stdin.readline):
            await socket.send_str(line.removesuffix("\n"))
        first = not socket.closed
        await socket.close()
        await reading
        if first:
            say("close", socket.close_code)


async def read(socket: aiohttp.ClientWebSocketResponse) -> None:
    while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
        say("message", message.data)
    if message.type is aiohttp.WSMsgType.CLOSE:
        # The server has closed first.
        say("close", message.data, message.extra)


asyncio.run(main(*sys.argv[1:]))
