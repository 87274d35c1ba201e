"""What a client's bytes are before the handshake: a request of HTTP, perhaps behind a header of the PROXY protocol."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from ipaddress import ip_address
from itertools import accumulate
from typing import Final, TypeVar

from hypothesis import strategies as st

from gateway.core.access import TokenRejected
from gateway.core.addresses import TrustedProxies, block_of
from gateway.core.handshake import Agreement, agree
from gateway.core.header_lists import cookies
from gateway.core.http import MAX_HEAD_BYTES, Head, Malformed, read_head
from gateway.core.origins import AllowedOrigins
from gateway.core.proxy_protocol import read_proxy_header
from gateway.web.auth import find_token, query_parameters, wants_batches
from tests.fuzz.mutating import pieces
from tests.support.requests import UPGRADE, cases, handshake, request

T = TypeVar("T")

_PEER: Final = "127.0.0.1"
_PROXIES: Final = TrustedProxies(["127.0.0.0/8", "2001:db8::/32"])
_ORIGINS: Final = (
    AllowedOrigins([]),
    AllowedOrigins(["https://*.example.org", "http://localhost:*", "null", "https://[::1]:8443"]),
)
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_CRLF: Final = b"\r\n"
_LINE: Final = re.compile(rb"[A-Za-z-]+: [ -~]*")
_ORIGIN_CASES: Final = [each["origin"] for each in cases("origins.json") if each.get("origin")]

_HEADS: Final = [
    handshake("a.b.c"),
    handshake("a.b.c", "Origin: https://app.example.org"),
    handshake("a.b.c", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
    handshake(
        "x",
        'Sec-WebSocket-Extensions: a; b="c\\"d", permessage-deflate; server_max_window_bits=10',
        "Sec-WebSocket-Protocol: realtime, bearer.a.b.c",
    ),
    handshake("x", "X-Forwarded-For: 1.2.3.4, [2001:db8::1]:80, 127.0.0.1"),
    handshake("x", 'Forwarded: for="[2001:db8:cafe::17%25e]:4711";proto=https, for=_hidden'),
    handshake("x", "Authorization: Bearer a.b.c", "Cookie: a=b; token=a.b.c"),
    request("GET / HTTP/1.1", *UPGRADE, "Origin: null", "Cookie: a=b; token=a.b.c; c"),
    request("GET / HTTP/1.1", *UPGRADE, "Origin: null", "Cookie: token=1", "Cookie: x; token=2"),
    request("GET http://rt.example/ws?token=a&batch=true HTTP/1.1", *UPGRADE),
    request("GET /healthz HTTP/1.0"),
    request("POST / HTTP/1.1", "Host: x", "Content-Length: 5"),
    b"\r\n" + request("GET / HTTP/1.1", "Host: [::1]:80"),
    request("GET / HTTP/1.1", "Host: x", "A: " + "a" * 8_187),
    request(f"GET /?token={'t' * 8_170} HTTP/1.1", "Host: x"),
    request("GET / HTTP/1.1", "Host: x", *(f"A{number}: b" for number in range(1_500))),
    *(handshake("x", f"Origin: {origin}") for origin in _ORIGIN_CASES if origin.isascii()),
]
_PROXY_HEADERS: Final = [
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
    b"PROXY UNKNOWN\r\n",
    _SIGNATURE + b"\x21\x11\0\x0c" + bytes(range(12)),
    _SIGNATURE + b"\x21\x21\0\x24" + bytes(range(36)),
    _SIGNATURE + b"\x20\0\0\0",
]


class Heads:
    """A head is read in the same way however it is cut, and what is answered has the form of an answer."""

    name = "heads"
    corpus = (*_HEADS, *_PROXY_HEADERS, *(each + _HEADS[0] for each in _PROXY_HEADERS))
    words = (
        *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\t", b": ", b"\0", b"\x80", b"GET ", b"HTTP/1.1"),
        *(
            b"Host: x\r\n",
            b"Host: ",
            b"Origin: ",
            b"Cookie: token=",
            b"; token=",
            b"Upgrade: h2c, websocket\r\n",
        ),
        *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n", b"Connection: close\r\n"),
        *(b"permessage-deflate", b"; ", b", ", b'"', b"\\", b'"\\"', b"=", b"%", b"&token=", b"?"),
        *(b"https://", b"127.0.0.1", b"::ffff:1.2.3.4", b"fe80::1%eth0", b"unknown", b"for="),
        *(_SIGNATURE, b"PROXY ", b"\x16\x03", b"PRI * HTTP/2.0\r\n", b"a" * 8_190, b"bearer."),
    )
    structured = st.builds(
        lambda first, fields, end: "\r\n".join([first, *fields, "", end]).encode("latin-1"),
        st.builds(
            "{} {} HTTP/{}".format,
            st.sampled_from(["GET", "get", "POST", "G T"]),
            st.sampled_from(["/", "/ws?token=a.b.c", "*", "http://x/?a=%zz", "//x", "/#"]),
            st.sampled_from(["1.1", "1.0", "1.9", "2.0", "1.10"]),
        ),
        st.lists(
            st.sampled_from([*UPGRADE, *UPGRADE, *UPGRADE])
            | st.builds(
                "{}: {}".format,
                st.sampled_from(
                    [
                        *("Host", "Origin", "Cookie", "Authorization", "Forwarded", "Upgrade"),
                        *("X-Forwarded-For", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"),
                    ]
                ),
                st.text(st.characters(min_codepoint=9, max_codepoint=255), max_size=40),
            ),
            max_size=12,
        ),
        st.sampled_from(["", "x"]),
    )

    def take(self, data: bytes, dice: random.Random) -> None:
        """Let it read an input."""
        parts = pieces(data, dice)
        proxied = _verdict(lambda: _read_proxy_header(parts))
        assert proxied == _verdict(lambda: _read_proxy_header([data]))
        if isinstance(proxied, tuple) and proxied[0] is not None:
            ip_address(proxied[0])
        found = _verdict(lambda: _read(parts))
        assert found == _verdict(lambda: _read([data]))
        if isinstance(found, tuple):
            head, end = found
            assert end <= MAX_HEAD_BYTES
            _serve(head, compression=dice.random() < 0.8)


def _verdict(read: Callable[[], T]) -> T | None:
    """What is read; ``None`` for what is malformed, as for what is not whole."""
    try:
        return read()
    except Malformed as malformed:
        assert re.fullmatch("[a-z_0-9]+", malformed.cause)
        return None


def _read(parts: list[bytes]) -> tuple[Head, int] | None:
    seen = 0
    for end, so_far in _growing(parts):
        if (found := read_head(so_far, seen)) is not None:
            return found
        seen = end
    return None


def _read_proxy_header(parts: list[bytes]) -> tuple[str | None, int] | None:
    for _, so_far in _growing(parts):
        if (found := read_proxy_header(so_far)) is not None:
            return found
    return None


def _growing(parts: list[bytes]) -> list[tuple[int, bytes]]:
    data = b"".join(parts)
    return [(end, data[:end]) for end in accumulate(map(len, parts))]


def _serve(head: Head, *, compression: bool) -> None:
    """What is asked of every head."""
    answer = agree(head, compression=compression)
    if isinstance(answer, Agreement):
        assert answer.answer.startswith(b"HTTP/1.1 101 ")
        assert answer.window_bits in {0, *range(9, 16)}
        _check_answer(answer.answer)
    else:
        body = _check_answer(answer.answer)
        assert json.loads(body)["error"]["code"] == answer.code
    parameters = query_parameters(head)
    wants_batches(parameters)
    try:
        token = find_token(head, parameters, "token")
    except TokenRejected:
        assert len(cookies(head.fields["cookie"], "token")) > 1
    else:
        assert token is None or token
    for origins in _ORIGINS:
        origins.allow(head.get("origin"))
    client = _PROXIES.client(_PEER, head)
    if client.address is not None:
        assert str(ip_address(client.address)) == client.address
        block_of(client.address)


def _check_answer(answer: bytes) -> bytes:
    """The body of an answer whose head nobody can have written into."""
    head, _, body = answer.partition(_CRLF * 2)
    for line in head.split(_CRLF)[1:]:
        assert _LINE.fullmatch(line), line
    return body
