"""What users and backends do, at random: the same dice make the same choices."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from publisher import EVERYBODY, AsyncPublisher, Unavailable
from tests.model.record import Disconnection, Publication, Revocation
from tests.model.visitors import Visitor, note_disconnection, note_revocation, pass_of, token_of
from tests.model.world import CHANNELS, EVERY_CHANNEL, TENANTS, USERS, World
from tests.support.tokens import make_token

_RETRY_SECONDS: Final = 0.1
FOR_EVER: Final = 3_600
_MOST_VISITORS: Final = 14
_MOST_OF_A_USER: Final = 3
"""Of the five that a user may have: places of connections whose end nobody has noticed count too."""
_RECENT: Final = 10
"""Of a tenant's last tokens one is revoked: some are in use, some are not."""
_SURELY_SECONDS: Final = 1.0
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
            async with world.calling():
                answer = await call()
        except Unavailable:
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return asked, world.now(), answer


# -- backends -------------------------------------------------------------------------------------


def backend(tenant: str) -> list[tuple[float, Step]]:
    """What a tenant's backend does with access. Nobody else changes what it has granted."""
    return [*granting(tenant), *ending(tenant)]


def granting(tenant: str) -> list[tuple[float, Step]]:
    """Grants, and what takes them back."""

    def whom(dice: random.Random) -> Any:
        return EVERYBODY if dice.random() < 0.04 else dice.choice(TENANTS[tenant])

    async def grant(world: World, dice: random.Random) -> None:
        channel, user = dice.choice(CHANNELS[tenant]), whom(dice)
        ttl = dice.choice((1, 1, 2, FOR_EVER, FOR_EVER, FOR_EVER))
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


def ending(tenant: str) -> list[tuple[float, Step]]:
    """What ends connections, and tokens for good."""

    async def disconnect(world: World, dice: random.Random) -> None:
        user, connection = dice.choice(TENANTS[tenant]), None
        if dice.random() < 0.3:
            _, _, found = await insist(world, lambda: world.publisher.connections(user))
            if found:
                one = dice.choice(found)
                connection = f"{one.node}/{one.id}"
        asked, done, _ = await insist(
            world, lambda: world.publisher.disconnect(user, reason="bye", connection=connection)
        )
        note_disconnection(world.record, Disconnection(user, asked, done, connection is not None))
        world.record.count("disconnect")

    async def revoke_token(world: World, dice: random.Random) -> None:
        ours = [each for each in world.record.issued if each.user in TENANTS[tenant] and each.id]
        if ours:
            token = dice.choice(ours[-_RECENT:])
            asked, done, _ = await insist(
                world, lambda: world.publisher.revoke_token(str(token.id), time.time() + FOR_EVER)
            )
            note_revocation(world.record, Revocation(asked, done, token.id))
            world.record.count("revoke token")

    async def revoke_tokens(world: World, dice: random.Random) -> None:
        user = dice.choice(TENANTS[tenant])
        before = round(time.time() - dice.choice((0, 0, 1, 3)), 3) + 0.0005
        asked, done, _ = await insist(
            world, lambda: world.publisher.revoke_tokens_before(user, before)
        )
        note_revocation(world.record, Revocation(asked, done, user=user, before=before))
        world.record.count("revoke tokens before")

    return [(0.4, disconnect), (0.5, revoke_token), (0.3, revoke_tokens)]


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
    return named, dice.choice((1.5, 3.0, FOR_EVER, FOR_EVER, FOR_EVER, FOR_EVER))


def _anyone(world: World, dice: random.Random) -> Visitor | None:
    here = world.here
    return dice.choice(here) if here else None


async def come(world: World, dice: random.Random) -> None:
    """A client connects."""
    user = dice.choice(USERS)
    here = world.here
    of_the_user = sum(each.visit.user == user for each in here)
    if len(here) < _MOST_VISITORS and of_the_user < _MOST_OF_A_USER:
        await world.connect(token_of(world.record, user, *_claims(user, dice)))
        world.record.count("connect")


async def come_again(world: World, dice: random.Random) -> None:
    """A client connects with a token that was shown before, and may be revoked."""
    if world.record.tokens and len(world.here) < _MOST_VISITORS:
        token = dice.choice(world.record.tokens)
        if sum(each.visit.user == token.user for each in world.here) < _MOST_OF_A_USER:
            await world.connect(token)
            world.record.count("connect with an old token")


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


async def subscribe_with_a_token(world: World, dice: random.Random) -> None:
    """A client shows a token that its backend has signed for a channel; or one that is no good."""
    one = _anyone(world, dice)
    if one is None:
        return
    user, record = one.visit.user, world.record
    tenant = next(each for each, users in TENANTS.items() if user in users)
    channel, other = dice.sample(CHANNELS[tenant], 2)
    if channel in one.pending or channel in one.leaving:
        return
    someone = dice.choice([each for each in USERS if each != user])
    token, good = dice.choice(
        (
            *[(pass_of(record, user, channel, dice.choice((1.0, 2.0, FOR_EVER))), True)] * 6,
            (pass_of(record, someone, channel, FOR_EVER), False),
            (pass_of(record, user, other, FOR_EVER), False),
            (pass_of(record, user, channel, -1), False),
            (token_of(record, user, (channel,), FOR_EVER), False),
        )
    )
    await one.subscribe(channel, token=token, good=good)
    record.count("subscribe with a token" if good else "subscribe with a bad token")


async def unsubscribe(world: World, dice: random.Random) -> None:
    """A client leaves a channel."""
    if (one := _anyone(world, dice)) is None:
        return
    open_ones = [each.channel for each in one.visit.sessions if each.ended > world.now()]
    if open_ones:
        await one.unsubscribe(dice.choice(open_ones))
        world.record.count("unsubscribe")


async def refresh(world: World, dice: random.Random) -> None:
    """A client shows another token, or one that it has shown before."""
    one = _anyone(world, dice)
    if one is None or one.visit.refreshing:
        return
    user = one.visit.user
    old = [token for token in world.record.tokens if token.user == user]
    if dice.random() < 0.2 and old:
        token = dice.choice(old)
    else:
        token = token_of(world.record, user, *_claims(user, dice))
    if token.ends < time.time() + 1:
        return
    revoked = [each.done for each in world.record.revocations if each.is_about(token)]
    if not revoked:
        world.spawn(one.refresh(token))
        world.record.count("refresh")
    elif min(revoked) < world.now() - _SURELY_SECONDS:
        world.spawn(one.refresh(token, revoked=True))
        world.record.count("refresh with a revoked token")


async def refresh_badly(world: World, dice: random.Random) -> None:
    """A client shows somebody else's token, or one that has ended, that names everything."""
    if (one := _anyone(world, dice)) is not None:
        others = [user for user in USERS if user != one.visit.user]
        foreign = make_token(dice.choice(others), list(EVERY_CHANNEL))
        ended = make_token(one.visit.user, list(EVERY_CHANNEL), exp=1)
        await one.refresh_badly(dice.choice((foreign, ended)))
        world.record.count("bad refresh")


USERS_STEPS: Final[list[tuple[float, Step]]] = [
    (3, come),
    (1, come_again),
    (1, go),
    (12, subscribe),
    (5, subscribe_with_a_token),
    (2, unsubscribe),
    (2, refresh),
    (1, refresh_badly),
]
