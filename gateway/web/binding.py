"""Taking the TCP ports that a node listens on, alone or together with its siblings."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Final

BACKLOG: Final = 4096
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


async def open_listener(host: str, port: int, setting: str, *, shared: bool) -> socket.socket:
    """A socket that listens.

    Args:
        host: address or name of the interface.
        port: 0 for a free one.
        setting: the setting that names the port, for the error.
        shared: whether others, too, listen on the port, which ``reserve`` holds for them all
            (``SO_REUSEPORT``, socket(7)); else nobody else may.

    Raises:
        CannotListen: the port is in use, or not ours to take.
    """
    try:
        family, address = await _resolve(host, port)
        listener = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=shared)
    except OSError as error:
        raise CannotListen(host, port, setting, error) from None
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # Inherited by every connection that is accepted.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    return listener


async def reserve(host: str, port: int, setting: str) -> socket.socket:
    """Hold a port for processes that will share it; nobody connects to a socket that does not listen.

    While it is open, the user's processes that ask to share the port may listen on it, whether or not
    one of them does at the moment, and whoever wants it alone is told that it is in use.

    Raises:
        CannotListen: the port is in use, or not ours to take.
    """
    try:
        family, address = await _resolve(host, port)
        # Those who share a port are not told of each other: first see whether it can be had alone.
        with _bound(family, address, socket.SO_REUSEADDR) as alone:
            address = alone.getsockname()[:2]
        held = _bound(family, address, socket.SO_REUSEADDR, socket.SO_REUSEPORT)
    except OSError as error:
        raise CannotListen(host, port, setting, error) from None
    # It was for connections of former listeners, which linger. Left on, it would let somebody else
    # bind the port while none of ours listens.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return held


async def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _bound(family: socket.AddressFamily, address: tuple[str, int], *options: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            # As ``socket.create_server`` has it: the IPv4 port of this number is another one.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound
