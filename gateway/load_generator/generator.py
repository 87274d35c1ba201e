"""Connections and publishes of a load, against a deployment that is there."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.client import Message, Receiver, ReceiverError, Subscription
from gateway.load_generator.tally import Result, Tally
from publisher import AsyncPublisher, PublisherError

_LOOK_SECONDS: Final = 0.005
_CONNECTING: Final = 100
"""Handshakes at a time."""

_MOST_UNDERWAY: Final = 2_000
"""Publishes that wait for Redis; what is due meanwhile is published later, and its latency says so."""

_MOST_REMOVED: Final = 1_000_000
"""Messages that are taken out of the logs at the end, the last ones: no log keeps so many of each channel."""

_REMOVING: Final = 50
"""Removals at a time: somebody else may use this Redis."""


Published: TypeAlias = deque[tuple[str, int]]
"""Channels and ids of what is in the logs."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a deployment: ``rate`` messages a second in all, one user after the other.

    ``patience`` seconds after the last arrival, what has not come counts as lost.
    """

    url: str
    connections: int
    rate: float
    seconds: float
    message_bytes: int
    patience: float


class CannotLoad(Exception):
    """A connection was refused for good, or Redis cannot be used; nothing can be said of the load."""


async def generate(
    load: Load, redis_url: str, prefix: str, token_of: Callable[[str], str]
) -> Result:
    """Connect, publish, wait for what is on its way, and count.

    Each connection is a user's of its own, ``gateway-load-0`` and on, who hears ``notifications/<user>``. In the end the
    messages are taken out of these channels' logs, also where the run is broken off.

    Args:
        load: what is asked.
        redis_url: of the deployment's Redis.
        prefix: of its keys there.
        token_of: makes a token for a user, before each attempt to connect.

    Raises:
        CannotLoad: it could not be done.
        ValueError: a URL cannot be used.
    """
    tally, seconds = Tally(), 0.0
    try:
        async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
            await publisher.ping()
            published: Published = deque(maxlen=_MOST_REMOVED)
            try:
                seconds = await _generate(load, publisher, token_of, tally, published)
            finally:
                await _remove(publisher, published)
    except PublisherError as error:
        raise CannotLoad(str(error)) from None
    except BaseExceptionGroup as errors:
        refused = errors.subgroup(ReceiverError)
        if refused is None:
            raise
        raise CannotLoad(str(_first(refused))) from None
    return tally.result(load.connections, seconds)


def _first(errors: BaseExceptionGroup) -> BaseException:
    """One of a group's errors: where one connection is refused, mostly all are."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _remove(publisher: AsyncPublisher, published: Published) -> None:
    """Take the messages out of their logs."""

    async def worker() -> None:
        while published:
            await publisher.delete(*published.popleft())

    async with asyncio.TaskGroup() as group:
        for _ in range(_REMOVING):
            group.create_task(worker())


async def _generate(
    load: Load,
    publisher: AsyncPublisher,
    token_of: Callable[[str], str],
    tally: Tally,
    published: Published,
) -> float:
    """Returns how many seconds were published."""
    # The same ones each time, so that many runs leave no more positions in Redis than one.
    users = [f"gateway-load-{number}" for number in range(load.connections)]
    run = secrets.token_hex(8)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        subscriptions = await _connect(load, users, token_of, tally, stack)
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(_read(each, run, tally)) for each in subscriptions]
            began = loop.time()
            await _publish(load, publisher, users, run, tally, published)
            seconds = loop.time() - began
            await _settle(tally, load.patience)
            for reader in readers:
                reader.cancel()
    return seconds


async def _connect(
    load: Load,
    users: list[str],
    token_of: Callable[[str], str],
    tally: Tally,
    stack: AsyncExitStack,
) -> list[Subscription]:
    """All connections, each with its channel, which is answered."""
    turns = asyncio.Semaphore(_CONNECTING)

    def told(_channel: str) -> None:
        tally.losses_told += 1

    async def connect(user: str) -> Subscription:
        async with turns:
            receiver = await stack.enter_async_context(
                Receiver(load.url, token=lambda: token_of(user), on_gap=told)
            )
            messages = receiver.subscribe(_channel(user))
            await messages.subscribed()
            return messages

    async with asyncio.TaskGroup() as group:
        connecting = [group.create_task(connect(user)) for user in users]
    return [task.result() for task in connecting]


async def _read(messages: Subscription, run: str, tally: Tally) -> None:
    loop = asyncio.get_running_loop()
    async for message in messages:
        match message:
            case Message(data={"run": of, "n": int(number)}) if of == run:
                tally.arrived(number, loop.time())


async def _publish(
    load: Load,
    publisher: AsyncPublisher,
    users: list[str],
    run: str,
    tally: Tally,
    published: Published,
) -> None:
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(_MOST_UNDERWAY)
    filling = "x" * load.message_bytes

    async def publish(number: int, due: float) -> None:
        tally.publishing(number, due)
        data = {"run": run, "n": number, "filling": filling}
        try:
            done = await publisher.publish(_channel(users[number % len(users)]), data)
            published.append((done.channel, done.id))
            tally.done()
        except PublisherError:
            tally.fails(number)
        finally:
            room.release()

    began = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(round(load.rate * load.seconds)):
            due = began + number / load.rate
            if (early := due - loop.time()) > 0:
                await asyncio.sleep(early)
            await room.acquire()
            group.create_task(publish(number, due))


async def _settle(tally: Tally, patience: float) -> None:
    """Return when everything has arrived, or nothing has for a while."""
    loop = asyncio.get_running_loop()
    missing, since = tally.missing, loop.time()
    while missing and loop.time() - since < patience:
        await asyncio.sleep(_LOOK_SECONDS)
        if tally.missing < missing:
            missing, since = tally.missing, loop.time()


def _channel(user: str) -> str:
    return f"notifications/{user}"
