"""Attackers that have a token and no WebSocket: event streams, polls, and what is said to streams of others."""

from __future__ import annotations

import contextlib
import secrets

from tests.attacks.askers import until_given_up
from tests.attacks.target import Ended, Target
from tests.support.event_stream import address
from tests.support.requests import request

_CHANNEL = "run-results/streamed"


def _get(target: str) -> bytes:
    return request(f"GET {target} HTTP/1.1", "Host: x")


async def event_streams_unread(target: Target) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for number in range(target.size.clients):
            token = target.token(f"attacker-{number}", [_CHANNEL])
            asked = _get(address("/sse", token, [_CHANNEL]))
            await stack.enter_async_context(target.line(asked, reads=False))
        for _ in range(target.size.messages // 10):
            await target.publisher.publish(_CHANNEL, "m" * 10_000)
        await until_given_up(target, target.size.clients)


async def words_for_other_streams(target: Target) -> None:
    """Names that are made up, of nodes that are made up: each has to be asked for over Redis, until that is too often."""
    tokens = [target.token(f"attacker-{number}") for number in range(target.size.clients)]
    body = b'{"type":"unsubscribe","channel":"run-results/streamed"}'

    async def once(number: int) -> None:
        asked = request(
            f"POST /sse/{secrets.token_hex(20)} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {tokens[number % len(tokens)]}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        with contextlib.suppress(Ended):
            async with target.line(asked + body):
                pass

    await target.for_some_time(once, target.size.clients * 3)


async def bodies_that_never_come(target: Target) -> None:
    """They hold no place of the user, but a file each."""
    asked = request(
        f"POST /sse/{secrets.token_hex(20)} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {target.token('attacker')}",
        "Content-Type: application/json",
        "Content-Length: 16000",
    )
    await target.hold([target.line(asked + b"{") for _ in range(target.size.crowd)])
