"""Opening the ports that a node listens on."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Final

from aiohttp import web

_BACKLOG: Final = 4096
_REQUEST_SECONDS: Final = 10.0
_UNSENT_BYTES: Final = 128 * 1024
"""What the kernel may hold unsent for a client (``TCP_NOTSENT_LOWAT``, tcp(7)).

Without a bound it takes over megabytes for each client that reads slowly: the node would learn of it
late, and everything behind them, pings among it, would be as late.
"""


class CannotListen(Exception):
    """A port cannot be listened on; the message says which setting chooses another."""

    def __init__(self, host: str, port: int, setting: str, error: OSError) -> None:
        reason = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        super().__init__(
            f"cannot listen on {host} port {port}: {reason}; "
            f"GATEWAY_{setting.upper()} chooses another port"
        )
        self.in_use = error.errno == errno.EADDRINUSE


async def listen(
    app: web.Application, host: str, port: int, setting: str
) -> tuple[web.AppRunner, tuple[str, int]]:
    """Serve ``app``; returns what to clean up at the end, and the address with the port chosen.

    Args:
        app: what is served.
        host: address or name of the interface.
        port: 0 for a free one.
        setting: the setting that names the port, for the error.

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
    try:
        listener = await _open(host, port)
    except OSError as error:
        raise CannotListen(host, port, setting, error) from None
    await runner.setup()
    await web.SockSite(runner, listener, backlog=_BACKLOG).start()
    address = listener.getsockname()
    return runner, (address[0], address[1])


async def _open(host: str, port: int) -> socket.socket:
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    kind, _, _, _, address = found[0]
    listener = socket.create_server(address[:2], family=kind, backlog=_BACKLOG)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # Inherited by every connection that is accepted.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    return listener
