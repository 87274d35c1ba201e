"""``python -m tests.networks.receivers``: users with ``gateway.client.Receiver``, as lines of JSON say.

``{"url": …, "tokens": {user: token}}`` begins; what each user receives is written as ``{"user", "n", "at"}``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from gateway.client import Receiver


async def _receive(url: str, user: str, token: str) -> None:
    async with Receiver(url, token=token) as receiver:
        async for message in receiver.subscribe(f"notifications/{user}"):
            said = {"user": user, "n": message.data["n"], "at": time.time()}
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()


async def _run() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set[asyncio.Task[None]]()
    while line := await reader.readline():
        wanted = json.loads(line)
        for user, token in wanted["tokens"].items():
            tasks.add(asyncio.create_task(_receive(wanted["url"], user, token)))
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(_run())
