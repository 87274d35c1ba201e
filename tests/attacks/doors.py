"""Attackers at what controls access: tokens, keys, cookies, TLS, the rate of handshakes, and commands of backends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import jwt

from gateway.core.protocol import LONGEST_CHANNEL_TOKEN
from tests.attacks.askers import insist
from tests.attacks.floods import said
from tests.attacks.target import ELSEWHERE, MARK, Ended, Line, Target
from tests.support.identity_provider import TROUBLES, rsa_key
from tests.support.requests import UPGRADE, handshake, request
from tests.support.tokens import SECRET
from tests.support.waiting import until

_BYTE_SECONDS = 0.02
_ORIGIN = "Origin: https://app.example"
_FETCHES_AT_MOST = 4
"""Of keys, in some seconds: one in ten seconds, and one that begins with the attack."""
_AT_ONCE = 50
_SESSIONS = "run-results"
_CHANNELS = 90
_REVOKED_USERS = 100


# -- tokens ---------------------------------------------------------------------------------------


async def bad_tokens_from_many_addresses(target: Target) -> None:
    """All of 127.0.0.0/8 is this machine."""
    numbers = itertools.count(0x100)
    data = handshake(MARK)

    async def once(_number: int) -> None:
        number = next(numbers)
        source = f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255 or 1}"
        async with target.line(data, source=source) as line:
            await line.until(b"token_invalid")

    await target.for_some_time(once, target.size.strangers)


async def bad_tokens_by_the_thousand(target: Target) -> None:
    """Ten thousand, where the numbers are large, from the address that users come from too."""
    left = iter(range(target.size.messages * 10))
    head = handshake(f"eyJhbGciOiJIUzI1NiJ9.{MARK}.{MARK}")

    async def some() -> None:
        for _ in left:
            with contextlib.suppress(Ended):
                async with target.line(head) as line:
                    await line.head()

    await asyncio.gather(*(some() for _ in range(target.size.strangers)))


async def tokens_of_keys_that_nobody_published(target: Target) -> None:
    """Each makes the node ask for the keys, as often as it may, and the answer is none: it hangs, redirects, never ends.

    The caller lets the node fetch keys.
    """
    provider = target.provider
    assert provider is not None
    claims = {"sub": "attacker", "exp": 2**32, "iss": provider.issuer, "aud": "us"}
    tokens = [
        jwt.encode(claims, rsa_key("a"), "RS256", {"kid": f"made-up-{number}"})
        for number in range(20)
    ]
    target.tokens += tokens
    before, troubles, made_up = (
        len(provider.asked),
        itertools.cycle(TROUBLES),
        itertools.cycle(tokens),
    )

    async def once(_number: int) -> None:
        provider.trouble = next(troubles)
        async with target.line(handshake(next(made_up)), source=ELSEWHERE) as line:
            await line.until(b"token_key_unknown")

    await target.for_some_time(once, target.size.strangers)
    assert len(provider.asked) - before <= _FETCHES_AT_MOST


async def cookies_by_the_kilobyte(target: Target) -> None:
    """The caller names a cookie, and a list of origins."""
    pairs = "; ".join(f"token{number}={number}" for number in range(1_000))[:8_000]
    heads = itertools.cycle(
        request("GET / HTTP/1.1", *UPGRADE, _ORIGIN, f"Cookie: {cookies}", "Cookie: a=b")
        for cookies in (
            *(pairs, f"{pairs}; token={MARK}", f"token={MARK}; {pairs[:4_000]}; token={MARK}"),
            *(" ;" * 4_000, "token=" * 1_300, "=" * 8_000, f"token={MARK * 450}"),
        )
    )

    async def once(_number: int) -> None:
        async with target.line(next(heads), source=ELSEWHERE) as line:
            await line.until(b'"code":')

    await target.for_some_time(once, target.size.strangers)


def _channel_token(target: Target, user: str, channel: str, secret: str = SECRET) -> str:
    claims = {"sub": user, "channel": channel, "exp": int(time.time()) + 3_600}
    target.tokens.append(jwt.encode(claims, secret, "HS256", {"typ": "channel+jwt"}))
    return target.tokens[-1]


async def channel_tokens_that_are_bad(target: Target) -> None:
    """Somebody else's, of another channel, wrongly signed, and the connection's own."""
    channel = f"{_SESSIONS}/1"
    bad = itertools.cycle(
        (
            _channel_token(target, "somebody-else", channel),
            _channel_token(target, "attacker-0", f"{_SESSIONS}/2"),
            _channel_token(target, "attacker-0", channel, SECRET[::-1]),
            *(target.token("attacker-0"), "a.b.c", ""),
        )
    )
    requests = [said(type="subscribe", channel=channel, token=next(bad)) for _ in range(6)]
    await insist(target, lambda _: iter(requests))


async def good_channel_tokens(target: Target) -> None:
    """Ever other ones, for ever other channels, and for one that is open."""

    def requests(number: int) -> Iterator[bytes]:
        user = f"attacker-{number}"
        for each in range(_CHANNELS):
            for channel in (f"{_SESSIONS}/{each}", f"{_SESSIONS}/0"):
                token = _channel_token(target, user, channel)
                yield said(type="subscribe", channel=channel, token=token)
            yield said(type="unsubscribe", channel=f"{_SESSIONS}/{each - 1}")

    await insist(target, requests)


async def channel_tokens_that_wait(target: Target) -> None:
    """As long as they may be, for subscriptions that are there: the budget of a client lets few be looked at."""
    channels = [f"{_SESSIONS}/{each}" for each in range(_CHANNELS)]
    junk = "x" * LONGEST_CHANNEL_TOKEN

    requests = [said(type="subscribe", channel=each, token=junk) for each in channels]
    await insist(target, lambda _: iter(requests), [f"{_SESSIONS}/*"], channels)


# -- connections ----------------------------------------------------------------------------------


async def handshakes_beyond_the_rate(target: Target) -> None:
    """Of a crowd with tokens, who all come at once. The caller lets few in in a second."""

    async def one(number: int) -> None:
        with contextlib.suppress(Ended):
            async with target.client(f"attacker-{number}") as line:
                await line.until(b"connected")

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(target.size.seconds):
            await asyncio.gather(*map(one, range(target.size.crowd)))


async def tabs_that_replace_each_other(target: Target) -> None:
    """A user's clients that come again as soon as they are replaced. The caller lets the newest in."""

    async def once(number: int) -> None:
        async with target.client(f"attacker-{number % 2}") as line:
            await line.until(b"replaced")

    await target.for_some_time(once, 16)


# -- TLS ------------------------------------------------------------------------------------------


def _hello() -> bytes:
    """What a client begins TLS with."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def tls_wasted_at_the_address_of_users(target: Target) -> None:
    """A crowd that has begun with TLS goes away and begins again, behind the address from which users come too."""
    hello = _hello()

    async def once(_number: int) -> None:
        async with target.line(hello) as line:
            await line.until(b"\x16\x03\x03")

    await target.for_some_time(once, target.size.strangers)


async def beginnings_of_tls(target: Target) -> None:
    """Each costs the node a signature, and the attacker nothing. The caller lets the node serve TLS."""
    hello = _hello()

    async def once(_number: int) -> None:
        async with target.line(hello, source=ELSEWHERE) as line:
            await line.until(b"\x16\x03\x03")

    await target.for_some_time(once, target.size.strangers)


async def tls_and_no_request(target: Target) -> None:
    """The caller lets an address fail a few times only."""
    parts = urlsplit(target.url)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    async def once(_number: int = 0) -> None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port, ssl=trusting, local_addr=(ELSEWHERE, 0)
            )
            writer.transport.abort()

    async def once_more() -> bool:
        await once()
        return "connection_refused reason=too_many_failures" in target.node.output

    await target.for_some_time(once, target.size.strangers)
    await until(once_more)


async def halves_of_tls(target: Target) -> None:
    """A crowd that begins and says no more, or begins byte by byte."""
    hello = _hello()

    async def slowly(line: Line) -> None:
        with contextlib.suppress(Ended):
            for at in range(len(hello)):
                await line.send(hello[at : at + 1])
                await asyncio.sleep(_BYTE_SECONDS)

    async with contextlib.AsyncExitStack() as stack:
        trickling = []
        for number in range(target.size.crowd):
            with contextlib.suppress(Ended):
                data = hello if number % 2 else b""
                line = await stack.enter_async_context(target.line(data, source=ELSEWHERE))
                if number % 2 == 0:
                    trickling.append(asyncio.create_task(slowly(line)))
        await asyncio.sleep(target.size.seconds)
        for task in trickling:
            task.cancel()
        await asyncio.gather(*trickling, return_exceptions=True)


async def hellos_held_back(target: Target) -> None:
    """A crowd that says nothing, and then begins with TLS in the same moment; and again."""
    hello = _hello()

    async def once(_number: int) -> None:
        async with contextlib.AsyncExitStack() as stack:
            crowd = [
                await stack.enter_async_context(target.line(source=ELSEWHERE))
                for _ in range(target.size.crowd)
            ]
            for line in crowd:
                with contextlib.suppress(Ended):
                    await line.send(hello)
            with contextlib.suppress(Ended):
                await crowd[-1].until(b"\x16\x03\x03")

    await target.for_some_time(once, 2)


async def anything_but_tls(target: Target) -> None:
    hello = _hello()
    junk = itertools.cycle(
        (
            *(handshake(MARK), bytes(500), b"\x16\x03\x01\xff\xff" + bytes(500)),
            *(hello[:-1] + b"\xff" * 500, hello[:5] + b"\x01\xff\xff\xff" + hello[9:], hello * 3),
        )
    )

    async def once(_number: int) -> None:
        async with target.line(next(junk), source=ELSEWHERE) as line:
            await line.until_ended()

    await target.for_some_time(once, target.size.strangers)


# -- backends -------------------------------------------------------------------------------------


async def disconnects_by_the_thousand(target: Target) -> None:
    """A backend gone wrong ends connections that are not there, as fast as it can: every node hears of each."""
    users = itertools.cycle(f"nobody-{number}" for number in range(_REVOKED_USERS))

    async def once(_number: int) -> None:
        commands = (target.publisher.disconnect(next(users)) for _ in range(_AT_ONCE))
        await asyncio.gather(*commands)

    await target.for_some_time(once, target.size.clients)
