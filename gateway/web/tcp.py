"""What the system knows of a TCP connection and the event loop does not tell: which bytes have arrived at the other end."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Final

if sys.platform == "linux":
    import fcntl
    import termios

_ACKNOWLEDGED: Final = struct.Struct("=Q")
_ACKNOWLEDGED_AT: Final = 120
"""Where ``tcp_info`` has ``tcpi_bytes_acked`` (linux/tcp.h, since 4.1). Nothing in it ever moves."""


def acknowledged(transport: asyncio.BaseTransport) -> int | None:
    """Bytes that the other end has acknowledged; ``None`` where the system does not tell."""
    raw = _socket(transport)
    if raw is None or sys.platform != "linux":
        return None
    size = _ACKNOWLEDGED_AT + _ACKNOWLEDGED.size
    try:
        info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
    except OSError:  # a Unix socket
        return None
    return int(_ACKNOWLEDGED.unpack_from(info, _ACKNOWLEDGED_AT)[0]) if len(info) == size else None


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


def _socket(transport: asyncio.BaseTransport) -> socket.socket | None:
    # The number of a closed file may be another connection's by now.
    return None if transport.is_closing() else transport.get_extra_info("socket")
