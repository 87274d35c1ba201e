"""Attackers that have a token: requests that are all in order, far more of them than anybody needs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from publisher import EVERYBODY
from tests.attacks.bystander import USER as BYSTANDER
from tests.attacks.floods import HEARTBEAT, said
from tests.attacks.target import Ended, Line, Target
from tests.support.client_frames import BINARY, PING, client_frame
from tests.support.waiting import until

_SESSIONS = "run-results"
_LOGGED_BYTES = 750
_PATIENCE_SECONDS = 20.0

# Of a bucket of 1,000 into which 100 come back in a second (GATEWAY_CLIENT_MESSAGE_BURST, …_PER_SECOND).
_AT_ONCE = 450
_PAUSE_SECONDS = 0.2
_IN_A_PAUSE = 18

# Of a bucket of 200,000: what spends most of it, and what is asked for with the rest.
_MISTAKES = 7_200
_REPEATS = 40_000


def _user(number: int) -> str:
    return f"attacker-{number}"


def _own(number: int) -> str:
    return f"notifications/{_user(number)}"


async def _fill_logs(target: Target, size: int = _LOGGED_BYTES) -> list[int]:
    """Fill each attacker's log; returns the ids of the first one's messages."""
    ids: list[int] = []
    for number in range(target.size.clients):
        messages = [(_own(number), {"text": "m" * size}) for _ in range(target.size.messages)]
        published = await target.publisher.publish_many(messages)
        ids = ids or [each.id or 0 for each in published]  # type: ignore[union-attr]
    return ids


async def insist(
    target: Target,
    requests: Callable[[int], Iterator[bytes]],
    channels: list[str] | None = None,
    subscribed: Sequence[str] = (),
) -> None:
    """Let clients ask as much as they may and are not closed for it: a crowd of requests, and then a steady stream.

    Args:
        target: the node.
        requests: an attacker's, in their order and over again, by its number.
        channels: those that its token names.
        subscribed: those to which it has subscribed before.
    """

    async def once(number: int) -> None:
        frames = itertools.cycle(requests(number))
        async with target.client(_user(number), channels) as line:
            if subscribed:
                await line.send(
                    b"".join(said(type="subscribe", channel=each) for each in subscribed)
                )
                await line.until(b'"subscribed"', len(subscribed))
            reading = asyncio.create_task(line.until_ended())
            try:
                await line.send(b"".join(itertools.islice(frames, _AT_ONCE)))
                while not reading.done():
                    await asyncio.sleep(_PAUSE_SECONDS)
                    await line.send(b"".join(itertools.islice(frames, _IN_A_PAUSE)))
            finally:
                reading.cancel()

    await target.for_some_time(once, target.size.clients)


def _ever_other(template: str) -> Iterator[str]:
    return (template.format(number) for number in itertools.count())


# -- what Redis has to do -------------------------------------------------------------------------


async def replays_from_the_beginning(target: Target) -> None:
    await _fill_logs(target)
    await insist(
        target, lambda number: iter([said(type="subscribe", channel=_own(number), since=0)])
    )


async def subscribing_and_leaving(target: Target) -> None:
    await insist(
        target,
        lambda number: (
            said(type=each, channel=_own(number)) for each in ("subscribe", "unsubscribe")
        ),
    )


async def ever_other_channels(target: Target) -> None:
    """Each is a SUBSCRIBE in Redis, and an UNSUBSCRIBE a second later."""
    names = _ever_other(_SESSIONS + "/{}")
    kinds = ("subscribe", "unsubscribe")
    await insist(
        target,
        lambda _: (said(type=each, channel=name) for name in names for each in kinds),
        [f"{_SESSIONS}/*"],
    )


async def channels_without_a_message(target: Target) -> None:
    """Redis keeps for weeks that a user has begun in each; and the first subscribes of a connection are free."""
    names = _ever_other(_SESSIONS + "/{}")
    for _ in range(15):
        async with target.client(_user(0), [f"{_SESSIONS}/*"]) as line:
            some = itertools.islice(names, 100)
            await line.send(b"".join(said(type="subscribe", channel=name) for name in some))
            await line.until(b'"subscribed"', 100)
    await asyncio.sleep(target.size.seconds)


async def denied_channels(target: Target) -> None:
    """Redis is asked about each, and tells of grants of those that are remembered."""
    names = _ever_other(_SESSIONS + "/{}")
    await insist(target, lambda _: (said(type="subscribe", channel=name) for name in names))


async def channels_of_others(target: Target) -> None:
    names = _ever_other("notifications/" + "o" * 200 + "{}")
    await insist(target, lambda _: (said(type="subscribe", channel=name) for name in names))


async def acks(target: Target) -> None:
    ids = await _fill_logs(target, 10)

    def requests(number: int) -> Iterator[bytes]:
        yield said(type="subscribe", channel=_own(number))
        yield from (said(type="ack", channel=_own(number), id=each) for each in ids)

    await insist(target, requests)


async def subscribes_that_wait(target: Target) -> None:
    """One client asks for the same channel again and again, and holds its budget so low that none is answered yet.

    The caller gives clients much at once, so that a moment is enough, and makes the first two subscribes free.
    """
    # As JSON each backslash has two bytes, so that no answer is longer.
    first, second, waits = (f"{_SESSIONS}/{letter}" + "\\" * 240 for letter in "fsw")

    def answer(channel: str) -> bytes:
        return b'"subscribed","channel":%b' % json.dumps(channel).encode()

    async with target.client(_user(0), [f"{_SESSIONS}/*"]) as line:
        for channel in (first, second):
            await line.send(said(type="subscribe", channel=channel))
            await line.past(answer(channel))
            await line.send(said(type="unsubscribe", channel=channel))
        reading = asyncio.create_task(line.past(answer(waits)))
        await line.send(client_frame(BINARY, b"x") * _MISTAKES)
        await line.send(said(type="subscribe", channel=first))
        await line.send(said(type="subscribe", channel=waits) * _REPEATS)
        await reading


async def subscriptions_by_the_thousand(target: Target) -> None:
    """As many clients as there may be, each with as many subscriptions as it gets."""
    limit = 100
    names = (f"{_SESSIONS}/{number}" for number in itertools.count())

    @contextlib.asynccontextmanager
    async def one(number: int) -> AsyncIterator[Line]:
        async with target.client(_user(number), [f"{_SESSIONS}/*"]) as line:
            some = itertools.islice(names, limit + 1)
            await line.send(b"".join(said(type="subscribe", channel=name) for name in some))
            await line.until(b"too_many_subscriptions")
            yield line

    await target.hold([one(number) for number in range(target.size.crowd // 10)])


# -- who is there ---------------------------------------------------------------------------------

ROOMS = {"namespaces": json.dumps({"rooms": {"presence": {"announce": True}}})}
"""Settings of a node that tells who is in a room, and who comes and goes."""
_ROOM = "rooms/1"


@contextlib.asynccontextmanager
async def _members(target: Target) -> AsyncIterator[None]:
    """A crowd in the room, who are told what happens there."""
    async with contextlib.AsyncExitStack() as stack:
        hearing = []
        for number in range(target.size.crowd // 4):
            line = await stack.enter_async_context(target.client(f"member-{number}", [_ROOM]))
            await line.send(said(type="subscribe", channel=_ROOM))
            await line.until(b'"subscribed"')
            hearing.append(asyncio.create_task(line.until_ended()))
        try:
            yield
        finally:
            for each in hearing:
                each.cancel()
            await asyncio.gather(*hearing, return_exceptions=True)


async def asking_who_is_there(target: Target) -> None:
    async with _members(target):
        await insist(
            target, lambda _: iter([said(type="presence", channel=_ROOM)]), [_ROOM], [_ROOM]
        )


async def coming_and_going(target: Target) -> None:
    """Each time all in the room may have to be told."""
    kinds = ("subscribe", "unsubscribe")
    async with _members(target):
        await insist(target, lambda _: (said(type=each, channel=_ROOM) for each in kinds), [_ROOM])


async def connecting_to_come_and_go(target: Target) -> None:
    """With connections, which have a budget each."""

    async def once(number: int) -> None:
        async with target.client(_user(number), [_ROOM]) as line:
            await line.send(said(type="subscribe", channel=_ROOM))
            await line.until(b'"subscribed"')

    async with _members(target):
        await target.for_some_time(once, target.size.clients)


# -- tokens and connections -----------------------------------------------------------------------


async def refreshes_with_a_bad_token(target: Target) -> None:
    bad = target.token("attacker-0")[:-3] + "AAA"
    await insist(target, lambda _: iter([said(type="refresh", token=bad)]))


async def refreshes_with_a_valid_token(target: Target) -> None:
    await insist(
        target, lambda number: iter([said(type="refresh", token=target.token(_user(number)))])
    )


async def reconnecting(target: Target) -> None:
    async def once(number: int) -> None:
        async with target.client(_user(number)) as line:
            await line.until(b"connected")

    await target.for_some_time(once, target.size.clients)


async def reconnecting_with_subscriptions(target: Target) -> None:
    await _fill_logs(target)

    async def once(number: int) -> None:
        async with target.client(_user(number)) as line:
            await line.send(said(type="subscribe", channel=_own(number), since=0))
            await line.until(b"subscribed")

    await target.for_some_time(once, target.size.clients)


async def sixth_connections(target: Target) -> None:
    """The caller gives the node room for few others."""

    async def once(_number: int) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(10):
                with contextlib.suppress(Ended):
                    line = await stack.enter_async_context(target.client("attacker"))
                    await line.until(b"connection_limit")

    async with contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            line = await stack.enter_async_context(target.client("attacker"))
            await line.until(b"connected")
        await target.for_some_time(once, target.size.clients)


# -- clients that never read ----------------------------------------------------------------------


async def until_given_up(target: Target, count: int) -> None:
    await until(
        lambda: target.node.output.count("event=slow_consumer ") >= count, _PATIENCE_SECONDS
    )


async def _unread(target: Target, data: bytes) -> None:
    """The caller gives clients so much to spend that only their not reading can end them."""

    async def one(number: int) -> None:
        async with target.client(_user(number), reads=False) as line:
            await line.flood_unread(data)

    sending = [asyncio.create_task(one(number)) for number in range(target.size.clients)]
    await until_given_up(target, target.size.clients)
    for task in sending:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)


async def heartbeats_unread(target: Target) -> None:
    await _unread(target, HEARTBEAT * 20)


async def pings_unread(target: Target) -> None:
    await _unread(target, client_frame(PING, b"p" * 125) * 20)


async def messages_unread(target: Target) -> None:
    channel = f"{_SESSIONS}/unread"
    async with contextlib.AsyncExitStack() as stack:
        for number in range(target.size.clients):
            line = await stack.enter_async_context(
                target.client(_user(number), [channel], reads=False)
            )
            await line.send(said(type="subscribe", channel=channel, since=0))
        for _ in range(target.size.messages // 10):
            await target.publisher.publish(channel, "m" * 10_000)
        await until_given_up(target, target.size.clients)


# -- ids ------------------------------------------------------------------------------------------


async def the_user_whose_id_is_a_star(target: Target) -> None:
    """It is a user like any other: it hears what is everybody's and its own, and its grants are nobody else's."""
    of_star, of_all = f"{_SESSIONS}/of-star", f"{_SESSIONS}/of-all"
    await target.publisher.grant(of_star, "*")
    await target.publisher.grant(of_all, EVERYBODY)
    denied = (f"notifications/{BYSTANDER}", f"{_SESSIONS}/1")
    async with target.client("*") as star, target.client("other") as other:
        for line, channels in ((other, (of_star,)), (star, denied)):
            for channel in channels:
                await line.send(said(type="subscribe", channel=channel))
                assert b'"forbidden"' in await line.until(channel.encode())
        for channel in ("notifications/*", of_star, of_all):
            await star.send(said(type="subscribe", channel=channel))
            assert b'"subscribed"' in await star.until(channel.encode())
        await asyncio.sleep(target.size.seconds)
        await target.publisher.publish(of_all, "the last")
        heard = await star.until(b"the last")
        assert BYSTANDER.encode() not in heard
