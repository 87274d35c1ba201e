"""What the system knows of a TCP connection and the event loop does not tell: which bytes have arrived, at either end."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Final

if sys.platform == "linux":
    import fcntl
    import termios

_INFO: Final = struct.Struct("=52xI64xQQ")
"""Where ``tcp_info`` has ``tcpi_last_data_recv`` (milliseconds), ``tcpi_bytes_acked`` and ``tcpi_bytes_received``
(linux/tcp.h, since 4.1). Nothing in it ever moves."""


def acknowledged(transport: asyncio.BaseTransport) -> int | None:
    """Bytes that the other end has acknowledged; ``None`` where the system does not tell."""
    info = _info(transport)
    return None if info is None else info[1]


def arrived(transport: asyncio.BaseTransport) -> int | None:
    """Bytes that have come, also those that are not read yet; ``None`` where the system does not tell."""
    info = _info(transport)
    return None if info is None else info[2]


def quiet(transport: asyncio.BaseTransport) -> float | None:
    """Seconds since bytes came, also ones that are not read yet; ``None`` where the system does not tell."""
    info = _info(transport)
    return None if info is None else info[0] / 1000


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


def _info(transport: asyncio.BaseTransport) -> tuple[int, int, int] | None:
    """For how long no bytes have come, how many were acknowledged, and how many have come."""
    raw = _socket(transport)
    if raw is None or sys.platform != "linux":
        return None
    try:
        info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except OSError:  # a Unix socket
        return None
    return _INFO.unpack(info) if len(info) == _INFO.size else None


def _socket(transport: asyncio.BaseTransport) -> socket.socket | None:
    # The number of a closed file may be another connection's by now.
    return None if transport.is_closing() else transport.get_extra_info("socket")
