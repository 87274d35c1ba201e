"""What is read as a request, and when it is known to be none."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gateway.core import http
from gateway.core.http import MAX_HEAD_BYTES, Malformed, read_head, takes_gzip

GET = b"GET /ws?token=a%2Eb HTTP/1.1\r\nHost: x\r\n"


def test_a_request_is_read_and_what_follows_is_left_alone() -> None:
    data = GET + b"Accept: a\r\nX-Y:\t b \r\naccept: c\r\n\r\nrest"
    found = read_head(data)
    assert found is not None
    head, end = found
    assert data[end:] == b"rest"
    assert (head.method, head.path, head.query, head.version) == (
        "GET",
        "/ws",
        "token=a%2Eb",
        "1.1",
    )
    assert head.get("accept") == "a, c"
    assert head.get("x-y") == "b"
    assert head.get("missing") is None
    assert head.tokens("accept") == {"a", "c"}


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/?", "/", ""),
        (b"/a/b?c?d", "/a/b", "c?d"),
        (b"http://rt.example:1?x=1", "/", "x=1"),
        (b"HTTPS://rt.example/ws", "/ws", ""),
    ],
)
def test_a_target_has_a_path_and_a_query(target: bytes, path: str, query: str) -> None:
    found = read_head(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert found is not None
    assert (found[0].path, found[0].query) == (path, query)


@pytest.mark.parametrize("size", range(len(GET) + 2))
def test_a_beginning_is_waited_for(size: int) -> None:
    assert read_head((GET + b"\r\n")[:size]) is None


def test_one_empty_line_before_a_request_is_ignored() -> None:
    assert read_head(b"\r") is None
    assert read_head(b"\r\n") is None
    found = read_head(b"\r\n" + GET + b"\r\n")
    assert found is not None
    assert found[1] == len(GET) + 4


MALFORMED = {
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "tls"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2"),
    "the PROXY protocol, version 1": (b"PROXY TCP4 1.2.3.4", "proxy_protocol"),
    "the PROXY protocol, version 2": (b"\r\n\r\n\0\r\nQUIT\n\x21", "proxy_protocol"),
    "no letters": (b"\0\0", "request_line"),
    "a method that is none": ("GËT / HTTP/1.1\r\n".encode("latin-1"), "request_line"),
    "no target": (b"GET HTTP/1.1\r\n", "request_line"),
    "two spaces": (b"GET  / HTTP/1.1\r\n", "request_line"),
    "a target that is no path": (b"GET x HTTP/1.1\r\n", "request_line"),
    "a target for a server": (b"OPTIONS * HTTP/1.1\r\n", "request_line"),
    "a target for a proxy": (b"CONNECT a:80 HTTP/1.1\r\n", "request_line"),
    "a query without a path": (b"GET ?token=a HTTP/1.1\r\n", "request_line"),
    "a target of another scheme": (b"GET ws://x/ HTTP/1.1\r\n", "request_line"),
    "a target without a host": (b"GET http:///ws HTTP/1.1\r\n", "request_line"),
    "two CRs": (b"\r\r", "request_line"),
    "two CRs behind a field": (GET + b"A: b\r\r", "header"),
    "a fragment": (b"GET /#a HTTP/1.1\r\n", "request_line"),
    "letters above ASCII in the target": ("GET /é HTTP/1.1\r\n".encode(), "request_line"),
    "a version of HTTP/0.9": (b"GET /\r\n", "request_line"),
    "a version that is none": (b"GET / HTTP/9.x\r\n", "request_line"),
    "a version to come": (b"GET / HTTP/9.9\r\n", "version"),
    "a line that ends with LF": (b"GET / HTTP/1.1\n", "request_line"),
    "a field that ends with LF": (GET + b"A: b\n", "header"),
    "a lone CR": (GET + b"A: b\rc\r\n", "header"),
    "a NUL": (GET + b"A: b\0", "header"),
    "a space in a name": (GET + b"Bad Name: x\r\n\r\n", "header"),
    "a space behind a name": (GET + b"Name : x\r\n\r\n", "header"),
    "a folded line": (GET + b"A: b\r\n c\r\n\r\n", "header"),
    "a line without a colon": (GET + b"A\r\n\r\n", "header"),
    "no name": (GET + b": a\r\n\r\n", "header"),
    "no host": (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", "host"),
    "two hosts": (GET + b"Host: y\r\n\r\n", "host"),
    "two hosts in HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", "host"),
    "a host with a path": (b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", "host"),
    "a host with a user": (b"GET / HTTP/1.1\r\nHost: a@x\r\n\r\n", "host"),
    "a host with a space": (b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n", "host"),
    "a host with a port that is none": (b"GET / HTTP/1.1\r\nHost: x:y\r\n\r\n", "host"),
    "a long request line": (b"GET /" + b"a" * 9_000, "head_too_large"),
    "a long field": (GET + b"A: " + b"a" * 9_000, "head_too_large"),
    "a long field in a whole head": (GET + b"A: " + b"a" * 9_000 + b"\r\n\r\n", "head_too_large"),
    "many fields": (GET + b"A: b\r\n" * 3_000, "head_too_large"),
    "a head that ends too late": (GET + b"A: b\r\n" * 3_000 + b"\r\n", "head_too_large"),
}


@pytest.mark.parametrize(("data", "cause"), MALFORMED.values(), ids=MALFORMED)
def test_what_cannot_become_a_request_is_known_as_soon_as_possible(data: bytes, cause: str) -> None:
    with pytest.raises(Malformed) as malformed:
        read_head(data)
    assert malformed.value.cause == cause


@pytest.mark.parametrize(
    "host", ["", "x", "rt.example:3001", "127.0.0.1:", "[::1]:80", "[fe80::1%25eth0]", "a_b", "%41"]
)
def test_a_host_is_a_name_or_an_address_and_a_port(host: str) -> None:
    assert read_head(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()) is not None


@pytest.mark.parametrize("odd", ["\xa0", "\x85"])
def test_what_is_no_space_in_http_belongs_to_the_word(odd: str) -> None:
    found = read_head(GET + f"Connection: close,{odd}Upgrade\r\n\r\n".encode("latin-1"))
    assert found is not None
    assert found[0].tokens("connection") == {"close", f"{odd}upgrade"}


# -- however it is cut ----------------------------------------------------------------------------


def outcome(data: bytes, seen: int) -> object:
    try:
        return read_head(data, seen)
    except Malformed as malformed:
        return malformed.cause


PIECES = st.sampled_from(
    [GET, b"\r\n", b"\r", b"\n", b"A: b", b"A: b\r\n", b"\0", b" ", b"PROXY ", b"\x16\x03"]
)


@given(st.lists(PIECES, max_size=8).map(b"".join))
def test_a_request_that_comes_byte_by_byte_is_judged_like_one_that_comes_at_once(
    data: bytes,
) -> None:
    for size in range(1, len(data) + 1):
        judged = outcome(data[:size], size - 1)
        assert judged == outcome(data[:size], 0)
        if judged is not None:
            break


@pytest.mark.parametrize("size", [8_188, 8_189, 8_190, 8_191])
@pytest.mark.parametrize("first", [True, False], ids=["the request line", "a field"])
def test_a_line_has_the_same_limit_wherever_it_is_cut(size: int, *, first: bool) -> None:
    start, end = (b"GET /", b" HTTP/1.1") if first else (b"A: ", b"")
    line = start + b"a" * (size - len(start) - len(end)) + end + b"\r\n"
    data = line + b"Host: x\r\n\r\n" if first else GET + line + b"\r\n"
    expected = "head_too_large" if size > 8_190 else None
    assert isinstance(outcome(data, 0), str) == bool(expected)
    for cut in range(data.index(line) + size - 3, data.index(line) + size + 2):
        assert outcome(data[:cut], 0) in {None, expected}


def test_a_head_that_comes_byte_by_byte_is_looked_through_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines, looked_through = http._LINES, 0

    class Counting:
        def fullmatch(self, data: bytes, start: int = 0, end: int = MAX_HEAD_BYTES) -> object:
            nonlocal looked_through
            looked_through += end - start
            return lines.fullmatch(data, start, end)

    monkeypatch.setattr(http, "_LINES", Counting())
    data = GET + (b"A: " + b"a" * 4_000 + b"\r\n") * 3
    for size in range(1, len(data) + 1):
        assert read_head(data[:size], size - 1) is None
    assert looked_through < 1.1 * len(data)


def test_a_head_may_be_as_large_as_said() -> None:
    filler = b"A: " + b"a" * 4_000 + b"\r\n"
    head = GET + filler * 4
    assert len(head) > MAX_HEAD_BYTES - 400
    assert read_head(head + b"\r\n") is not None


@given(st.binary(max_size=80))
def test_whatever_comes_is_a_beginning_a_request_or_malformed(data: bytes) -> None:
    for whole in (data, GET + data, GET + data + b"\r\n\r\n"):
        try:
            found = read_head(whole)
        except Malformed as malformed:
            event(malformed.cause)
        else:
            event("request" if found else "beginning")


# -- beside the parser of aiohttp ---------------------------------------------------------------


def read_by_aiohttp(data: bytes) -> Any:
    async def read() -> Any:
        loop = asyncio.get_running_loop()
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        messages, _, _ = parser.feed_data(data)
        return messages[0][0]

    return asyncio.run(read())


NAMES = st.text("abcXY-_1", min_size=1, max_size=6)
VALUES = st.text("ab,;=\" \t'é(", max_size=12)


@given(
    st.sampled_from(["/", "/ws", "/a%20b", "/x?token=a.b&c=d", "/?a=%C3%A9"]),
    st.lists(st.tuples(NAMES, VALUES), max_size=5),
)
def test_what_is_accepted_is_read_as_aiohttp_reads_it(
    target: str, fields: list[tuple[str, str]]
) -> None:
    lines = [f"GET {target} HTTP/1.1", "Host: x", *(f"{n}: {v}" for n, v in fields), "", ""]
    data = "\r\n".join(lines).encode("latin-1")
    found = read_head(data)
    assert found is not None
    head, end = found
    assert end == len(data)
    other = read_by_aiohttp(data)
    assert f"{head.path}?{head.query}".removesuffix("?") == other.path
    theirs: dict[str, list[bytes]] = {}
    for name, value in other.raw_headers:
        theirs.setdefault(name.decode().lower(), []).append(value.strip())
    ours = {name: [v.encode("latin-1") for v in values] for name, values in head.fields.items()}
    assert ours == theirs


# -- beside h11, which reads by the letter of RFC 9112, and forgives line ends -------------------------

GOOD_LINES = [b"A: b", b"A:b", b"a:", b"A: \xe9", b"Host:", b"Connection: close, Upgrade"]
ODD_LINES = [
    b"A : b", b" A: b", b"\tb", b"A", b":", b"A: \x0b", b"A: \0", b"A: b\rc", b"A: b\nB: c", b"Host: y", b"A\xe9: b"
]  # fmt: skip
LINES = st.builds(
    lambda good, odd: [b"Host: x", *good, *odd],
    st.lists(st.sampled_from(GOOD_LINES), max_size=3),
    st.sampled_from([[], [], *([line] for line in ODD_LINES)]),
).flatmap(st.permutations)
FIRST_LINES = st.sampled_from(
    [b"GET /a?b HTTP/1.1"] * 9
    + [b"get / HTTP/1.0", b"OPTIONS http://x/ HTTP/1.1", b"X http://x?a HTTP/1.1", b"GET /%e9 HTTP/1.1"]
    + [b"G@T / HTTP/1.1", b" / HTTP/1.1", b"GET * HTTP/1.1", b"GET ?a HTTP/1.1", b"GET  HTTP/1.1"]
    + [b"GET /\xe9 HTTP/1.1", b"GET / b HTTP/1.1", b"GET / http/1.1", b"GET / HTTP/1.10", b"GET /"]
)  # fmt: skip
ENDS = st.sampled_from([[], [], [], [b"\n"], [b"\r\n", b"\n"], [b"\r"], [b"\r\n", b"\r"]])


@settings(max_examples=300)
@given(FIRST_LINES, LINES, ENDS)
def test_what_is_accepted_is_what_h11_accepts_and_reads(
    first: bytes, more: list[bytes], ends: list[bytes]
) -> None:
    lines = [first, *more, b""]
    ends = [*ends, *[b"\r\n"] * len(lines)]
    data = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    found = outcome(data, 0)
    event(found if isinstance(found, str) else type(found).__name__)
    if not isinstance(found, tuple):
        return
    head, end = found
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data[:end])
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    method, target, version = first.split(b" ")
    assert (head.method.encode(), f"HTTP/{head.version}".encode()) == (method, version)
    assert (request.method, request.target) == (method, target)
    theirs: dict[str, list[str]] = {}
    for name, value in request.headers:
        theirs.setdefault(name.decode(), []).append(value.decode("latin-1"))
    assert head.fields == theirs


def test_an_answer_has_its_status_and_fields() -> None:
    assert http.response(404, {"A": "b"}, b"body") == b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nbody"


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("gzip", True),
        ("br, GZIP ;q=0.5", True),
        ("gzip;q=0.001", True),
        ("*", True),
        ("gzip, *;q=0", True),
        ("", False),
        ("identity", False),
        ("x-gzipped, br", False),
        ("gzip;q=0", False),
        ("gzip ; Q = 0.000, deflate", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
    ],
)
def test_a_weight_of_zero_refuses_an_encoding(accepted: str, takes: bool) -> None:
    assert takes_gzip(accepted) is takes
