"""The least that publishes over HTTP: what the HTTP API is measured against. ``python -m tests.bench.bare_api URL PREFIX``.

``POST /publish`` reads a body and publishes what it says. ``POST /publish-many`` has the library publish the messages that
``POST /prepare`` has brought. It writes its port to standard output.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import orjson
import uvloop
from aiohttp import web

from publisher import AsyncPublisher


class Bare:
    """What it serves."""

    def __init__(self, publisher: AsyncPublisher) -> None:
        self._publisher = publisher

    async def publish(self, request: web.Request) -> web.Response:
        """One message."""
        told = orjson.loads(await request.read())
        made = await self._publisher.publish(told["channel"], told["data"])
        answer = {"id": made.id, "channel": made.channel}
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    async def prepare(self, request: web.Request) -> web.Response:
        """Take the messages over that are published next."""
        text = await request.read()
        self._messages: list[tuple[str, Any]] = [
            (each["channel"], each["data"]) for each in map(orjson.loads, text.splitlines())
        ]
        return web.Response()

    async def publish_many(self, _request: web.Request) -> web.Response:
        """The library's call for them."""
        for each in await self._publisher.publish_many(self._messages):
            if isinstance(each, Exception):
                raise each
        return web.Response()


async def main(url: str, prefix: str) -> None:
    """Serve until the process is ended."""
    async with AsyncPublisher.from_url(url, prefix=prefix) as publisher:
        bare = Bare(publisher)
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/publish", bare.publish)
        app.router.add_post("/prepare", bare.prepare)
        app.router.add_post("/publish-many", bare.publish_many)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        sys.stdout.write(f"{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
