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

_BYTES: Final = struct.Struct("=QQ")
_BYTES_AT: Final = 120
"""Where ``tcp_info`` has ``tcpi_bytes_acked`` and ``tcpi_bytes_received`` (linux/tcp.h, since 4.1). Nothing in it ever moves."""
_SIZE: Final = _BYTES_AT + _BYTES.size


def acknowledged(transport: asyncio.BaseTransport) -> int | None:
    """Bytes that the other end has acknowledged; ``None`` where the system does not tell."""
    counted = _bytes(transport)
    return None if counted is None else counted[0]


def arrived(transport: asyncio.BaseTransport) -> int | None:
    """Bytes that have come, also those that are not read yet; ``None`` where the system does not tell."""
    counted = _bytes(transport)
    return None if counted is None else counted[1]


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


def _bytes(transport: asyncio.BaseTransport) -> tuple[int, int] | None:
    """Those acknowledged, and those arrived."""
    raw = _socket(transport)
    if raw is None or sys.platform != "linux":
        return None
    try:
        info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    except OSError:  # a Unix socket
        return None
    return _BYTES.unpack_from(info, _BYTES_AT) if len(info) == _SIZE else None


def _socket(transport: asyncio.BaseTransport) -> socket.socket | None:
    # The number of a closed file may be another connection's by now.
    return None if transport.is_closing() else transport.get_extra_info("socket")
