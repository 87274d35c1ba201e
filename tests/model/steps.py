"""What users, backends and the network do, at random: the same dice make the same choices."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from publisher import EVERYBODY, AsyncPublisher, Unavailable
from tests.model import world as faults
from tests.model.record import Publication
from tests.model.visitors import Visitor
from tests.model.world import CHANNELS, EVERY_CHANNEL, TENANTS, USERS, World
from tests.support import topology
from tests.support.tokens import make_token

_RETRY_SECONDS: Final = 0.1
_FOR_EVER: Final = 3_600
_MOST_VISITORS: Final = 14
_MOST_OF_A_USER: Final = 3
"""Of the five that a user may have: places of connections whose end nobody has noticed count too."""
_FOREIGN: Final = 0.2
"""Of the subscribes are for any channel, and not for the user's own tenant's."""

Step = Callable[[World, random.Random], Awaitable[None]]


class Stopping:
    """Whether it is over, for those who go on until it is."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """It is over."""
        self._stopped.set()

    async def go_on(
        self, world: World, steps: list[tuple[float, Step]], pause: tuple[float, float], start: int
    ) -> None:
        """Take one step after the other, each as often as its weight says."""
        dice = random.Random(start)
        weights = [weight for weight, _ in steps]
        while not self._stopped.is_set():
            (one,) = dice.choices([step for _, step in steps], weights)
            await one(world, dice)
            await asyncio.sleep(dice.uniform(*pause))


async def insist(world: World, call: Callable[[], Awaitable[Any]]) -> tuple[float, float, Any]:
    """Repeat a call until it succeeds, as a backend's job queue does; returns when it was made and returned, and what."""
    asked = world.now()
    while True:
        try:
            answer = await call()
        except Unavailable:
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return asked, world.now(), answer


# -- backends -------------------------------------------------------------------------------------


def backend(tenant: str) -> list[tuple[float, Step]]:
    """What a tenant's backend does with access. Nobody else changes what it has granted."""

    def whom(dice: random.Random) -> Any:
        return EVERYBODY if dice.random() < 0.04 else dice.choice(TENANTS[tenant])

    async def grant(world: World, dice: random.Random) -> None:
        channel, user = dice.choice(CHANNELS[tenant]), whom(dice)
        ttl = dice.choice((1, 1, 2, _FOR_EVER, _FOR_EVER, _FOR_EVER))
        asked, done, _ = await insist(world, lambda: world.publisher.grant(channel, user, ttl))
        world.record.ways.begin(user, channel, asked, done, ttl)
        world.record.count("grant")

    async def revoke(world: World, dice: random.Random) -> None:
        channel, user = dice.choice(CHANNELS[tenant]), whom(dice)
        asked, done, _ = await insist(world, lambda: world.publisher.revoke(channel, user))
        world.record.ways.end(user, channel, asked, done)
        world.record.count("revoke")

    async def take_from_all(world: World, _dice: random.Random) -> None:
        channel = CHANNELS[tenant][0]
        asked, done, _ = await insist(world, lambda: world.publisher.revoke(channel, EVERYBODY))
        world.record.ways.end(EVERYBODY, channel, asked, done)

    return [(5, grant), (4, revoke), (0.5, take_from_all)]


class Publishing:
    """Numbers all messages, whichever channel they go to."""

    def __init__(self) -> None:
        self._number = 0

    async def publish(self, world: World, dice: random.Random) -> None:
        """Publish a message; one in a channel with a log until it is published."""
        self._number += 1
        number, channel = self._number, dice.choice(EVERY_CHANNEL)
        publications, data = world.record.publications, {"number": number}
        publications[number] = Publication(number, channel, world.now())
        publisher: AsyncPublisher = world.publisher
        if not world.record.keeps_log(channel):
            try:
                await publisher.publish(channel, data)
            except Unavailable:
                return
        else:
            key = str(number)
            asked, done, answer = await insist(
                world, lambda: publisher.publish(channel, data, idempotency_key=key)
            )
            publications[number] = Publication(number, channel, asked, done, answer.id)
        world.record.count("publish")


# -- users ----------------------------------------------------------------------------------------


def _claims(user: str, dice: random.Random) -> tuple[tuple[str, ...], float]:
    """What a token says, and for how long: a tenant's login names its own channels only."""
    tenant = next(each for each, users in TENANTS.items() if user in users)
    named = tuple(each for each in CHANNELS[tenant] if dice.random() < 0.2)
    if dice.random() < 0.1:
        named += (f"{tenant}/*",)
    return named, dice.choice((1.5, 3.0, _FOR_EVER, _FOR_EVER, _FOR_EVER, _FOR_EVER))


def _anyone(world: World, dice: random.Random) -> Visitor | None:
    here = world.here
    return dice.choice(here) if here else None


async def come(world: World, dice: random.Random) -> None:
    """A client connects."""
    user = dice.choice(USERS)
    here = world.here
    of_the_user = sum(each.visit.user == user for each in here)
    if len(here) < _MOST_VISITORS and of_the_user < _MOST_OF_A_USER:
        await world.connect(user, *_claims(user, dice))
        world.record.count("connect")


async def go(world: World, dice: random.Random) -> None:
    """A client leaves."""
    if (one := _anyone(world, dice)) is not None:
        await one.leave()
        world.record.count("leave")


def _channel_for(one: Visitor, dice: random.Random) -> str:
    tenant = next(each for each, users in TENANTS.items() if one.visit.user in users)
    own = (*CHANNELS[tenant], f"notifications/{one.visit.user}")
    return dice.choice(EVERY_CHANNEL if dice.random() < _FOREIGN else own)


async def subscribe(world: World, dice: random.Random) -> None:
    """A client asks for a channel, its own or any other."""
    if (one := _anyone(world, dice)) is None:
        return
    channel = _channel_for(one, dice)
    if channel not in one.pending and channel not in one.leaving:
        since = 0 if dice.random() < 0.03 and world.record.keeps_log(channel) else None
        await one.subscribe(channel, since)
        world.record.count("subscribe")


async def unsubscribe(world: World, dice: random.Random) -> None:
    """A client leaves a channel."""
    if (one := _anyone(world, dice)) is None:
        return
    open_ones = [each.channel for each in one.visit.sessions if each.ended > world.now()]
    if open_ones:
        await one.unsubscribe(dice.choice(open_ones))
        world.record.count("unsubscribe")


async def refresh(world: World, dice: random.Random) -> None:
    """A client shows another token."""
    if (one := _anyone(world, dice)) is not None:
        await one.refresh(*_claims(one.visit.user, dice))
        world.record.count("refresh")


async def refresh_badly(world: World, dice: random.Random) -> None:
    """A client shows somebody else's token, or an old one, that names everything."""
    if (one := _anyone(world, dice)) is not None:
        others = [user for user in USERS if user != one.visit.user]
        foreign = make_token(dice.choice(others), list(EVERY_CHANNEL))
        old = make_token(one.visit.user, list(EVERY_CHANNEL), exp=1)
        await one.refresh_badly(dice.choice((foreign, old)))
        world.record.count("bad refresh")


USERS_STEPS: Final[list[tuple[float, Step]]] = [
    (3, come),
    (1, go),
    (12, subscribe),
    (2, unsubscribe),
    (2, refresh),
    (1, refresh_badly),
]


# -- the network ----------------------------------------------------------------------------------


def faults_here() -> list[tuple[float, Step]]:
    """What can be broken where the Redis is what ``TOPOLOGY`` says."""

    def step(fault: Callable[[World], Awaitable[None]]) -> Step:
        async def one(world: World, _dice: random.Random) -> None:
            await fault(world)

        return one

    everywhere = [(2.0, step(faults.pubsub_ended)), (1.0, step(faults.node_replaced))]
    if topology.chosen() != topology.SINGLE:
        return everywhere
    return [
        *everywhere,
        (4.0, step(faults.node_cut_off)),
        (2.0, step(faults.node_half_open)),
        (2.0, step(faults.pubsub_cut)),
        (1.0, step(faults.redis_restarted)),
    ]
