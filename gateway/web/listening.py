"""Serving what a node answers on a port."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway.web.binding import BACKLOG, open_listener

_REQUEST_SECONDS: Final = 10.0


async def listen(
    app: web.Application, host: str, port: int, setting: str, *, shared: bool = False
) -> tuple[web.AppRunner, tuple[str, int]]:
    """Serve ``app``; returns what to clean up at the end, and the address with the port chosen.

    Args:
        app: what is served.
        host: address or name of the interface.
        port: 0 for a free one.
        setting: the setting that names the port, for the error.
        shared: whether other processes serve on the same port.

    Raises:
        CannotListen: the port is in use, or not ours to take.
    """
    # aiohttp's access log would write the query string, and with it the token.
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=1.0,
        # Also how long a client may take over its request: it holds a file, and counts nowhere.
        keepalive_timeout=_REQUEST_SECONDS,
    )
    listener = await open_listener(host, port, setting, shared=shared)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=BACKLOG).start()
    address = listener.getsockname()
    return runner, (address[0], address[1])
