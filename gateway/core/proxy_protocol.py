"""The header with which a proxy begins a connection to tell whose it is (PROXY protocol, versions 1 and 2)."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.core.addresses import address_of
from gateway.core.http import PROXY_1, PROXY_2, Malformed

_LONGEST_LINE: Final = 107  # §2.1
_LINE: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [ -~]*)?|TCP[46] ([0-9A-Fa-f.:]+) [0-9A-Fa-f.:]+ \d+ \d+)\r\n"
)

_FIXED_BYTES: Final = 16  # §2.2: signature, version and command, family, length
_LOCAL, _PROXY = 0x20, 0x21
_LONGEST_REST: Final = 4_096
_FAMILIES: Final[dict[int, tuple[type[IPv4Address | IPv6Address], int]]] = {
    0x11: (IPv4Address, 12),
    0x21: (IPv6Address, 36),
}
"""The class of an address, and the bytes of two addresses and two ports."""


def read_proxy_header(data: bytes) -> tuple[str | None, int] | None:
    """The client's address, and where the header ends; ``None`` while it is not whole.

    The address is ``None`` where the proxy speaks for itself, as in its health checks, or does not know it.

    Raises:
        Malformed: there is no such header. One must not guess (§2).
    """
    return _version_2(data) if data[:1] == b"\r" else _version_1(data)


def _version_1(data: bytes) -> tuple[str | None, int] | None:
    line, ended, _ = data[:_LONGEST_LINE].partition(b"\n")
    if not ended:
        if not (line.startswith(PROXY_1) or PROXY_1.startswith(line)) or len(data) >= _LONGEST_LINE:
            raise Malformed("proxy_protocol_missing")
        return None
    parts = _LINE.fullmatch(line + ended)
    if parts is None:
        raise Malformed("proxy_protocol_missing")
    end = len(line) + len(ended)
    if parts[1] is None:
        return None, end
    source = address_of(parts[1].decode())
    if source is None:
        raise Malformed("proxy_protocol_missing")
    return source, end


def _version_2(data: bytes) -> tuple[str | None, int] | None:
    if not (data.startswith(PROXY_2) or PROXY_2.startswith(data)):
        raise Malformed("proxy_protocol_missing")
    if len(data) < _FIXED_BYTES:
        return None
    command, family = data[12], data[13]
    rest = int.from_bytes(data[14:16])
    kind, needed = _FAMILIES.get(family, (None, 0)) if command == _PROXY else (None, 0)
    if command not in {_LOCAL, _PROXY} or not needed <= rest <= _LONGEST_REST:
        raise Malformed("proxy_protocol_missing")
    end = _FIXED_BYTES + rest
    if len(data) < end:
        return None
    if kind is None:
        return None, end
    size = kind(0).max_prefixlen // 8
    return address_of(str(kind(data[_FIXED_BYTES : _FIXED_BYTES + size]))), end
