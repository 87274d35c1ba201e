"""The header of the PROXY protocol, in both versions."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.http import Malformed
from gateway.core.proxy_protocol import read_proxy_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def version_2(family: int, addresses: bytes, command: int = 0x21) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(addresses).to_bytes(2) + addresses


IPV4 = socket.inet_aton("203.0.113.7") + socket.inet_aton("10.0.0.1") + b"\x1f\x90\x0b\xb9"
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + b"\x1f\x90\x0b\xb9"

HEADERS = {
    "version 1, IPv4": (b"PROXY TCP4 203.0.113.7 10.0.0.1 8080 3001\r\n", "203.0.113.7"),
    "version 1, IPv6": (b"PROXY TCP6 2001:DB8::1 ::1 8080 3001\r\n", "2001:db8::1"),
    "version 1, unknown": (b"PROXY UNKNOWN\r\n", None),
    "version 1, unknown with more": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "version 2, IPv4": (version_2(0x11, IPV4), "203.0.113.7"),
    "version 2, IPv6": (version_2(0x21, IPV6), "2001:db8::1"),
    "version 2, mapped": (version_2(0x21, bytes(10) + b"\xff\xff\x01\x02\x03\x04" * 2 + bytes(14)), "1.2.3.4"),
    "version 2, with more behind the addresses": (version_2(0x11, IPV4 + b"\x04\0\x02ab"), "203.0.113.7"),
    "version 2, a health check": (version_2(0x00, b"", 0x20), None),
    "version 2, a health check that names addresses": (version_2(0x11, IPV4, 0x20), None),
    "version 2, a Unix socket": (version_2(0x31, bytes(216)), None),
}  # fmt: skip


@pytest.mark.parametrize(("header", "source"), HEADERS.values(), ids=HEADERS)
def test_the_clients_address_is_read_however_the_header_is_cut(
    header: bytes, source: str | None
) -> None:
    for size in range(len(header)):
        assert read_proxy_header(header[:size]) is None
    assert read_proxy_header(header) == (source, len(header))
    assert read_proxy_header(header + b"GET / HTTP/1.1\r\n") == (source, len(header))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 203.0.113.7\r\n",
        b"PROXY TCP4 x 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 1.2.3.4.5 10.0.0.1 1 2\r\n",
        b"PROXY TCP6 :::: ::1 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY " + b"x" * 120,
        b"\r\n\r\nGET /",
        version_2(0x11, IPV4, 0x11),
        version_2(0x11, bytes(5_000))[:16],
        version_2(0x11, IPV4[:-1]),
        version_2(0x21, IPV6[:-1]),
        version_2(0x11, b""),
    ],
)
def test_one_does_not_guess(data: bytes) -> None:
    with pytest.raises(Malformed, match="proxy_protocol_missing"):
        read_proxy_header(data)


@given(st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21"]), st.binary(max_size=60))
def test_no_beginning_is_too_odd(beginning: bytes, rest: bytes) -> None:
    try:
        found = read_proxy_header(beginning + rest)
    except Malformed:
        return
    assert found is None or found[1] <= len(beginning + rest)
