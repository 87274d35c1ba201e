"""Attackers that have a token and no WebSocket: event streams, polls, and what is said to streams of others."""

from __future__ import annotations

import contextlib
import re
import secrets

from tests.attacks.askers import until_given_up
from tests.attacks.target import Ended, Target
from tests.support.event_stream import address
from tests.support.requests import request

_CHANNEL = "run-results/streamed"
_POLL = re.compile(rb'"poll":"(\w+)"')
_SINCE = re.compile(rb'"since":"([^"]+)"')


def _user(number: int) -> str:
    return f"attacker-{number}"


def _get(target: str) -> bytes:
    return request(f"GET {target} HTTP/1.1", "Host: x")


async def event_streams_unread(target: Target) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for number in range(target.size.clients):
            token = target.token(_user(number), [_CHANNEL])
            asked = _get(address("/sse", token, [_CHANNEL]))
            await stack.enter_async_context(target.line(asked, reads=False))
        for _ in range(target.size.messages // 10):
            await target.publisher.publish(_CHANNEL, "m" * 10_000)
        await until_given_up(target, target.size.clients)


async def words_for_other_streams(target: Target) -> None:
    """Names that are made up, of nodes that are made up: each has to be asked for over Redis, until that is too often."""
    tokens = [target.token(_user(number)) for number in range(target.size.clients)]
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


async def polls_without_a_pause(target: Target) -> None:
    """Pages that ask again as soon as they are answered, several times at once, and never wait for a message."""
    await target.publisher.publish(_CHANNEL, "m")
    asked = []
    for number in range(target.size.clients):
        token = target.token(_user(number), [_CHANNEL])
        async with target.line(_get(address("/poll", token, [_CHANNEL], since="0"))) as line:
            told = await line.until(b'"}]')
        (name,), (since,) = _POLL.findall(told), _SINCE.findall(told)
        more = {"poll": name.decode(), "since": since.decode(), "wait": "0"}
        asked.append(_get(address("/poll", token, [_CHANNEL], **more)))

    async def once(number: int) -> None:
        async with target.line(asked[number % len(asked)]) as line:
            await line.until_ended()

    await target.for_some_time(once, target.size.clients * 3)
    await _end_all(target)


async def polls_begun_and_left(target: Target) -> None:
    """Whoever begins is sent all that is kept, so each gives its place back and begins anew."""
    tokens = [target.token(_user(number), [_CHANNEL]) for number in range(target.size.clients)]
    messages = [(_CHANNEL, {"text": "m" * 750}) for _ in range(target.size.messages)]
    await target.publisher.publish_many(messages)

    async def once(number: int) -> None:
        token = tokens[number]
        async with target.line(_get(address("/poll", token, [_CHANNEL], since="0"))) as line:
            told = await line.until(b'"}]')
        await _give_back(target, token, told)

    await target.for_some_time(once, target.size.clients)
    await _end_all(target)


async def answers_to_polls_untaken(target: Target) -> None:
    """Whoever gives the place back while the answer is on its way has a connection beside all places."""
    token = target.token(_user(0), [_CHANNEL])
    asked = _get(address("/poll", token, [_CHANNEL], since="0", wait="0"))
    for _ in range(target.size.messages // 20):
        await target.publisher.publish(_CHANNEL, "m" * 60_000)
    async with contextlib.AsyncExitStack() as stack:

        async def once(_number: int) -> None:
            line = await stack.enter_async_context(target.line(asked, reads=False))
            await _give_back(target, token, await line.until(b'"}'))

        await target.for_some_time(once, target.size.clients)
    await _end_all(target)


async def _give_back(target: Target, token: str, told: bytes) -> None:
    """Give back the place of the poll that was answered so."""
    for name in _POLL.findall(told):
        left = address(f"/poll/{name.decode()}", token)
        async with target.line(request(f"DELETE {left} HTTP/1.1", "Host: x")) as line:
            await line.head()


async def _end_all(target: Target) -> None:
    """What polls keeps its place for a while."""
    for number in range(target.size.clients):
        await target.publisher.disconnect(_user(number))


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
