"""What backends are told of users, and Redis does not take."""

from __future__ import annotations

import json
import time
from itertools import count

import redis

from publisher.contract.keys import Keys
from tests.alerts.cases import causing
from tests.alerts.stage import Stage
from tests.support.client import connected
from tests.support.tokens import make_token
from tests.support.waiting import until


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
        assert "events_unwritten" in gateway.output
        stage.tries("It refuses them (`OOM`, `NOPERM`)")
        client.execute_command("ACL", "SETUSER", "default", "+xadd")
        await stage.resolves()


@causing("PresenceUnwritten", "the key of a channel's users is of another kind", speed=15)
async def presence_unwritten(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(namespaces=json.dumps({"run-results": {"presence": True}}))
    await stage.watch(gateway)
    publisher = await stage.publisher()
    channel = "run-results/lesson"
    key = Keys(stage.prefix).presence(channel)
    with redis.Redis(port=stage.redis.port) as client:
        stage.caused()
        client.set(key, "somebody else's")
        ann = await stage.client(gateway, "ann", channels=[channel])
        await ann.subscribe(channel)
        await stage.fires()
        stage.tries("`presence_refused` in its log names a channel and what Redis says")
        assert "presence_refused" in gateway.output and channel in gateway.output
        stage.tries("or look at the key")
        client.delete(key)
        stage.tries("As soon as Redis takes them they are back")
        await until(lambda: publisher.presence(channel), 30.0)
        await stage.resolves()


@causing("ScheduledNotPublished", "the key of a channel's log is of another kind")
async def scheduled_not_published(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway()
    await stage.watch(gateway)
    publisher = await stage.publisher()
    channel = "run-results/lesson"
    key = Keys(stage.prefix).log(channel)
    with redis.Redis(port=stage.redis.port) as client:
        stage.caused()
        client.set(key, "somebody else's")
        await publisher.publish(channel, "later", at=time.time() + 1)
        await stage.fires()
        stage.tries("`scheduled_refused` in the log has an id and what Redis says")
        await until(lambda: "scheduled_refused" in gateway.output)
        client.delete(key)
        stage.tries("None is lost: each is tried again, and published late.")
        await until(lambda: publisher.history(channel), 90.0)
        await stage.resolves()
