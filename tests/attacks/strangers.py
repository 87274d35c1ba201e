"""Attackers that have no token: what they send before anybody knows who they are."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from tests.attacks.target import ELSEWHERE, MARK, Ended, Target
from tests.support.requests import UPGRADE, handshake, request
from tests.support.waiting import until

MIB = 2**20
_ZEROS = bytes(4 * MIB)
_OTHER_VERSION = handshake(MARK).replace(b"Version: 13", b"Version: 12")
_BYTE_SECONDS = 0.02

PROXY = "127.0.0.2"
"""Where the attacks of ``from_a_trusted_proxy`` come from; the bystander comes from 127.0.0.1."""


async def _again_and_again(target: Target, data: bytes, source: str | None = None) -> None:
    async def once(_number: int) -> None:
        async with target.line(data, source=source) as line:
            await line.until_ended()

    await target.for_some_time(once, target.size.strangers)


# -- requests -------------------------------------------------------------------------------------


async def another_version_and_zeros(target: Target) -> None:
    await _again_and_again(target, _OTHER_VERSION + _ZEROS)


async def a_bad_token_and_zeros(target: Target) -> None:
    await _again_and_again(target, handshake(MARK) + _ZEROS, ELSEWHERE)


async def a_bad_token_of_60_kb(target: Target) -> None:
    await _again_and_again(target, handshake(f"a.{MARK * 3_700}.b"), ELSEWHERE)


async def no_request(target: Target) -> None:
    await _again_and_again(target, b"\xff" * 1_000)


async def malformed_requests(target: Target) -> None:
    await _again_and_again(target, request(f"GET /?token={MARK} HTTP/1.1", "A b: c"))


async def long_heads(target: Target) -> None:
    await _again_and_again(target, request("GET / HTTP/1.1", "A: " + "a" * 70_000))


async def requests_without_an_upgrade(target: Target) -> None:
    await _again_and_again(target, request(f"GET /?token={MARK} HTTP/1.1", "Host: x"))


async def foreign_origins(target: Target) -> None:
    numbers = itertools.count()

    async def once(_number: int) -> None:
        origin = f"https://{next(numbers)}.{'a' * 2_000}.example"
        async with target.line(handshake(MARK, f"Origin: {origin}")) as line:
            await line.until_ended()

    await target.for_some_time(once, target.size.strangers)


async def tls_and_http2(target: Target) -> None:
    hellos = itertools.cycle((b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))

    async def once(_number: int) -> None:
        async with target.line(next(hellos) + bytes(500)) as line:
            await line.until_ended()

    await target.for_some_time(once, target.size.strangers)


async def requests_behind_a_refused_upgrade(target: Target) -> None:
    await _again_and_again(target, _OTHER_VERSION + handshake(MARK) * 5_000)


async def requests_behind_a_page(target: Target) -> None:
    await _again_and_again(target, request("GET /healthz HTTP/1.1", "Host: x") * 5_000)


async def an_endless_body_for_a_page(target: Target) -> None:
    head = request("POST /healthz HTTP/1.1", "Host: x", "Transfer-Encoding: chunked")
    chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"

    async def once(_number: int) -> None:
        async with target.line(head) as line:
            await line.flood(chunk)

    await target.for_some_time(once, target.size.strangers)


async def a_page_that_nobody_reads(target: Target) -> None:
    data = request("GET /healthz HTTP/1.1", "Host: x")
    crowd = range(target.size.crowd)
    await target.hold([target.line(data, reads=False) for _ in crowd])


# -- connections ----------------------------------------------------------------------------------


async def idle_connections_beyond_the_files(target: Target) -> None:
    """The caller gives the node 400 files."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(600):
            await stack.enter_async_context(target.line())
        await until(lambda: "connection_refused reason=unauthenticated_limit" in target.node.output)
        for path in ("/healthz", "/readyz"):
            assert (await target.node.get(path))[0] == 200
        await asyncio.sleep(target.size.seconds)


async def idle_connections_from_one_address(target: Target) -> None:
    """The caller lets an address have a few; the bystander has another one."""
    crowd = range(target.size.crowd)
    await target.hold([target.line(source=PROXY) for _ in crowd])
    assert "connection_refused reason=address_limit" in target.node.output


async def slow_heads(target: Target) -> None:
    head = handshake(MARK, *(f"X-{number}: {number}" for number in range(1_000)))

    async def one() -> None:
        with contextlib.suppress(Ended):
            async with target.line() as line:
                for at in range(len(head)):
                    await line.send(head[at : at + 1])
                    await asyncio.sleep(_BYTE_SECONDS)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(target.size.seconds):
            await asyncio.gather(*(one() for _ in range(target.size.crowd)))


async def heads_that_wait_at_their_limit(target: Target) -> None:
    lines = b"".join(b"%c: %s\r\n" % (name, b"x" * 8_000) for name in b"AB")
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + lines
    await target.hold([target.line(head) for _ in range(target.size.crowd)])


async def junk_from_a_trusted_proxy(target: Target) -> None:
    """The caller trusts ``PROXY`` to use the PROXY protocol."""
    signature = b"\r\n\r\n\0\r\nQUIT\n"
    junk = itertools.cycle(
        (
            b"PROXY TCP4 " + b"9" * 200 + b"\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n",
            signature + b"\x21\x11\xff\xff" + bytes(65_535),
            signature + b"\xff\xff\0\x0c" + bytes(12),
            signature * 10,
            handshake(MARK),
        )
    )

    async def once(_number: int) -> None:
        async with target.line(next(junk), source=PROXY) as line:
            await line.until_ended()

    await target.for_some_time(once, target.size.strangers)


# -- secrets --------------------------------------------------------------------------------------

_ESCAPED = MARK.replace("-", "%2D").replace("e", "%65")
_SECRETS = tuple(
    (*lines, *UPGRADE) if upgraded else lines
    for upgraded in (True, False)
    for lines in (
        (f"GET /?token=eyJhbGciOiJIUzI1NiJ9%2E{MARK}%2E{MARK} HTTP/1.1",),
        (f"GET /?token={MARK} HTTP/1.1", f"token: {MARK}", f"X-{MARK}: 1"),
        (f"GET /?Token={MARK}&to%6Ben={MARK} HTTP/1.1", f"Authorization: Bearer {MARK}"),
        (f"GET /?a={MARK}#token={MARK} HTTP/1.1", f"Cookie: token={MARK}; {MARK}={MARK}"),
        ("GET / HTTP/1.1", f"Sec-WebSocket-Protocol: realtime, bearer.{MARK}"),
        ("GET / HTTP/1.1", f"Sec-WebSocket-Protocol: {MARK}, {MARK}"),
        ("GET / HTTP/1.1", f"Sec-WebSocket-Extensions: {MARK}; {MARK}={MARK}"),
        ("GET / HTTP/1.1", f"Sec-WebSocket-Key: {MARK}", f"Sec-WebSocket-Version: {MARK}"),
        ("GET / HTTP/1.1", f"Authorization : Bearer {MARK}"),
        ("GET / HTTP/1.1", f"Authorization: Bearer \x00{MARK}"),
        ("GET / HTTP/1.1", f"Authorization: Basic {MARK}", f"Proxy-Authorization: {MARK}"),
        ("GET / HTTP/1.1", f"Referer: https://x/?token={MARK}", f"User-Agent: {MARK}"),
        (f"GET /?token={MARK} HTTP/9.9",),
        (f"GET /?token={MARK}", f"Host: {MARK} {MARK}"),
        (f"GET /?token={MARK} {MARK} HTTP/1.1",),
        (f"{MARK} /?token={MARK} HTTP/1.1",),
        (f"GET http://x/?token={MARK} HTTP/1.1",),
        (f"GET /{MARK}?token={MARK} HTTP/1.1",),
        (f"GET /healthz?token={MARK} HTTP/1.1", f"Content-Length: {MARK}"),
        (f"GET /healthz?token={MARK} HTTP/1.1", f"Transfer-Encoding: {MARK}"),
        (f"GET /healthz?token={MARK} HTTP/1.1", f"Expect: {MARK}"),
        (f"GET /?token={_ESCAPED} HTTP/1.1", f"Cookie : {MARK}", f" {MARK}"),
        (f"GET /?token=ä{MARK} HTTP/1.1", f"Authorization: Bearer ä{MARK}"),
    )
)


async def secrets_in_odd_places(target: Target) -> None:
    async def one(lines: tuple[str, ...]) -> None:
        async with target.line(request(*lines)) as line:
            await line.until_ended()

    before = len(target.node.output)
    await asyncio.gather(*map(one, _SECRETS))
    assert target.drawn
    assert _ESCAPED not in target.node.output[before:]
