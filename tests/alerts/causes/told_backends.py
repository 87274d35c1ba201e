"""What backends are told of users, and Redis does not take."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import count

import redis

from publisher.contract.keys import Keys
from publisher.transport.cluster import slot_of
from tests.alerts.cases import causing
from tests.alerts.stage import Stage
from tests.support.client import connected
from tests.support.tokens import make_token
from tests.support.waiting import until

_CHANNEL = "run-results/lesson"


@causing("EventsDropped", "Redis does not let the gateway write events")
async def events_dropped(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(events="connected,disconnected,subscribed")
    await stage.watch(gateway)
    users = count()

    async def visit() -> None:
        user = f"user-{next(users)}"
        async with connected(gateway.url, make_token(user)) as client:
            await client.subscribe(f"notifications/{user}")

    with redis.Redis(port=stage.redis.port) as client:
        stage.caused()
        client.execute_command("ACL", "SETUSER", "default", "-xadd")
        stage.meanwhile(0.2, visit)
        await stage.fires()
        stage.tries("`events_unwritten` in the gateway's log has the reason.")
        await until(lambda: "events_unwritten" in gateway.output)
        stage.tries("It refuses them (`OOM`, `NOPERM`)")
        client.execute_command("ACL", "SETUSER", "default", "+xadd")
        await stage.resolves()


@causing("EventsDropped", "the key of a channel's confirmations is of another kind")
async def unconfirmed_refused(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(events="unconfirmed", unconfirmed_after_seconds=0.5)
    await stage.watch(gateway)
    publisher = await stage.publisher()
    channel = "notifications/ann"
    keys = Keys(stage.prefix)
    with redis.Redis(port=stage.redis.port) as client:
        stage.caused()
        client.set(keys.confirmed(channel), "somebody else's")
        await publisher.publish(channel, "to be mailed")
        await stage.fires()
        stage.tries("`unconfirmed_refused` names a channel and what Redis says")
        line = next(line for line in gateway.output.splitlines() if "unconfirmed_refused" in line)
        assert channel in line and "WRONGTYPE" in line, line
        stage.tries("print the rights, or look at the key")
        client.delete(keys.confirmed(channel))
        await stage.resolves()
        stage.tries("is told within a minute after that")
        await until(lambda: client.exists(keys.events), 65.0)


@causing("PresenceUnwritten", "the key of a channel's users is of another kind", speed=15)
async def presence_unwritten(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(namespaces=json.dumps({"run-results": {"presence": True}}))
    await stage.watch(gateway)
    publisher = await stage.publisher()
    key = Keys(stage.prefix).presence(_CHANNEL)
    with redis.Redis(port=stage.redis.port) as client:
        stage.caused()
        client.set(key, "somebody else's")
        ann = await stage.client(gateway, "ann", channels=[_CHANNEL])
        await ann.subscribe(_CHANNEL)
        await stage.fires()
        stage.tries("`presence_refused` in its log names a channel and what Redis says")
        await until(lambda: "presence_refused" in gateway.output and _CHANNEL in gateway.output)
        stage.tries("or look at the key")
        client.delete(key)
        stage.tries("As soon as Redis takes them they are back")
        await until(lambda: publisher.presence(_CHANNEL), 30.0)
        await stage.resolves()


@causing("ScheduledNotPublished", "the key of a channel's log is of another kind", speed=8)
async def scheduled_refused(stage: Stage) -> None:
    """What is refused is tried again after a minute, so the ten minutes that the alert looks back must last longer here too."""
    stage.start_redis()
    gateway = await stage.gateway()
    await stage.watch(gateway)
    publisher = await stage.publisher()
    key = Keys(stage.prefix).log(_CHANNEL)
    with redis.Redis(port=stage.redis.port) as client:
        stage.caused()
        client.set(key, "somebody else's")
        await publisher.publish(_CHANNEL, "later", at=time.time() + 1)
        await stage.fires()
        stage.tries("`scheduled_refused` in the log has an id, the channel and what Redis says")
        line = next(line for line in gateway.output.splitlines() if "scheduled_refused" in line)
        assert "WRONGTYPE" in line, line
        assert _CHANNEL in line, line
        client.delete(key)
        stage.tries("None is lost: each is tried again, and published late.")
        await until(lambda: publisher.history(_CHANNEL), 90.0)
        await stage.resolves()


@causing("ScheduledNotPublished", "the key that names who publishes is of another kind")
async def scheduled_not_looked_for(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway()
    await stage.watch(gateway)
    publisher = await stage.publisher()
    await publisher.publish(_CHANNEL, "later", at=time.time() + 5)
    await until(lambda: stage.value("gateway_scheduled_messages == 1"))
    key = Keys(stage.prefix).scheduled_taker
    with redis.Redis(port=stage.redis.port) as client:
        _replaced(client, key)
        stage.caused()
        await stage.fires()
        stage.tries("`look_refused` with `taker`: Redis lets nothing be looked for")
        line = next(line for line in gateway.output.splitlines() if "look_refused" in line)
        assert "taker" in line and "WRONGTYPE" in line, line
        stage.tries("look at the rights and at the keys `rt1:{scheduled}:…`")
        client.delete(key)
    stage.tries("None is lost: each is tried again, and published late.")
    await until(lambda: publisher.history(_CHANNEL))
    await stage.resolves()


@causing("ScheduledNotPublished", "the part of a cluster that has their channel hangs")
async def scheduled_late(stage: Stage) -> None:
    cluster = await stage.start_cluster()
    gateway = await stage.gateway(cluster.url)
    await stage.watch(gateway)
    publisher = await stage.publisher(cluster.url)
    keys = Keys(stage.prefix, sharded=True)
    kept_by = await asyncio.to_thread(cluster.owner, slot_of(keys.scheduled))
    channels = [f"run-results/{number}" for number in range(20)]
    owners = [await asyncio.to_thread(cluster.owner, slot_of(keys.log(each))) for each in channels]
    channel, owner = next(
        each for each in zip(channels, owners, strict=True) if each[1] is not kept_by
    )
    await publisher.publish(channel, "later", at=time.time() + 5)
    await until(lambda: stage.value("gateway_scheduled_messages == 1"))
    owner.freeze()
    stage.caused()
    await stage.fires()
    assert "scheduled_refused" not in gateway.output
    stage.tries("Neither: a part of Redis does not answer; see RedisPrimaryDown")
    assert "RedisPrimaryDown" in stage.told.others
    owner.thaw()
    stage.tries("None is lost: each is tried again, and published late.")
    await until(lambda: publisher.history(channel), 30.0)
    await stage.resolves()


def _replaced(client: redis.Redis, key: str) -> None:
    """A key is somebody else's list from now on, although a gateway writes to it."""
    with client.pipeline() as both:
        both.delete(key).rpush(key, "somebody else's").execute()
