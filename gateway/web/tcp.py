"""What the system knows of a TCP connection and the event loop does not tell: which bytes have arrived, at either end."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Final, NamedTuple

if sys.platform == "linux":
    import fcntl
    import termios

_INFO: Final = struct.Struct("=52xI64xQQ")
"""Where ``tcp_info``, which begins with ``tcpi_state``, has ``tcpi_last_data_recv`` (milliseconds), ``tcpi_bytes_acked`` and
``tcpi_bytes_received`` (linux/tcp.h, since 4.1). Nothing in it ever moves."""

_ESTABLISHED: Final = 1


def acknowledged(transport: asyncio.BaseTransport) -> int | None:
    """Bytes that the other end has acknowledged; ``None`` where the system does not tell."""
    info = _info(transport)
    return None if info is None else info.acknowledged


def arrived(transport: asyncio.BaseTransport) -> int | None:
    """Bytes that have come, also those that are not read yet; ``None`` where the system does not tell."""
    info = _info(transport)
    return None if info is None else info.arrived


def quiet(transport: asyncio.BaseTransport) -> float | None:
    """Seconds since bytes came, also ones that are not read yet; ``None`` where the system does not tell."""
    info = _info(transport)
    return None if info is None else info.quiet / 1000


def ended(raw: socket.socket) -> bool:
    """Whether an end of an open connection has closed its side, also where nothing is read; ``False`` where the system
    does not tell.
    """
    state = _ask(raw, 1)
    return state is not None and state[0] != _ESTABLISHED


def unacknowledged(transport: asyncio.BaseTransport) -> int:
    """Bytes that the system holds because the other end has not acknowledged them; 0 where it does not tell."""
    raw = _socket(transport)
    if raw is None or sys.platform != "linux":
        return 0
    try:
        # SIOCOUTQ (tcp(7)), which has this number too.
        return int.from_bytes(fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


class _Info(NamedTuple):
    quiet: int
    acknowledged: int
    arrived: int


def _info(transport: asyncio.BaseTransport) -> _Info | None:
    raw = _socket(transport)
    info = None if raw is None else _ask(raw, _INFO.size)
    return None if info is None else _Info(*_INFO.unpack(info))


def _ask(raw: socket.socket, size: int) -> bytes | None:
    """So much of ``tcp_info`` from its beginning; ``None`` where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
    except OSError:  # a Unix socket
        return None
    return info if len(info) == size else None


def _socket(transport: asyncio.BaseTransport) -> socket.socket | None:
    # The number of a closed file may be another connection's by now. Under TLS closing takes a while, and there is no
    # socket any more when it is over.
    if transport.is_closing() and transport.get_extra_info("sslcontext") is None:
        return None
    found: socket.socket | None = transport.get_extra_info("socket")
    return found
