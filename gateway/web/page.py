"""The test page that development mode serves."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

PATH: Final = "/dev"

_STATIC: Final = Path(__file__).parent / "static"

_HEADERS: Final = {
    # Nothing but the page's own files. Not every browser takes a WebSocket for 'self'.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # A page of yesterday's gateway must not talk to today's.
    hdrs.CACHE_CONTROL: "no-cache",
}


def add_to(app: web.Application) -> None:
    """Serve the page at ``/dev`` and its files below it."""
    app.router.add_get(PATH, _file("index.html"))
    for file in _STATIC.iterdir():
        app.router.add_get(f"{PATH}/{file.name}", _file(file.name))
    app.router.add_get(f"{PATH}/publisher.json", _publisher)


def _file(name: str) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(_STATIC / name, headers=_HEADERS)

    return handler


async def _publisher(_request: web.Request) -> web.Response:
    return web.json_response({"command": publisher_command()}, headers=_HEADERS)


def publisher_command() -> str:
    """The ``publisher`` installed with this gateway, ready for a shell in the current folder."""
    installed = Path(sys.executable).parent / "publisher"
    return shlex.quote(os.path.relpath(installed)) if installed.exists() else "publisher"
