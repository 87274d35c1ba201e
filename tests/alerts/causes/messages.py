"""Messages that do not reach clients, or cannot be read, and lines of the audit log that are lost."""

from __future__ import annotations

import base64
import json
import os
from itertools import count

from publisher import AsyncPublisher
from tests.alerts.cases import causing
from tests.alerts.stage import Stage
from tests.support.client import connected
from tests.support.tokens import make_token
from tests.support.waiting import until

_CHANNEL = "run-results/lesson"


async def _confirmed(publisher: AsyncPublisher, channel: str) -> None:
    """Publish a message there that a user has confirmed now."""
    published = await publisher.publish(channel, "seen", wait_confirmed=20)
    assert published.confirmed


@causing("MessagesDropped", "a client that does not read, in a namespace without a log")
async def dropped(stage: Stage) -> None:
    stage.start_redis()
    films = {"owner": "anyone", "retention": None}
    gateway = await stage.gateway(namespaces=json.dumps({"films": films}), high_water_bytes=100_000)
    await stage.watch(gateway)
    await stage.deaf(gateway, "ann", "films/new")
    publisher = await stage.publisher()
    stage.meanwhile(0.05, lambda: publisher.publish("films/new", "x" * 100_000))
    stage.caused()
    await stage.fires()
    stage.tries("give the namespace a `retention`")
    films["retention"] = {"max_messages": 10, "max_age_seconds": 60}
    await stage.again(gateway, namespaces=json.dumps({"films": films}), high_water_bytes=100_000)
    await stage.deaf(gateway, "ann", "films/new")
    await stage.resolves()


@causing("LossesReported", "a retention that is too short for how long users are away")
async def lost(stage: Stage) -> None:
    stage.start_redis()
    short = {"run-results": {"retention": {"max_messages": 3, "max_age_seconds": 3600}}}
    gateway = await stage.gateway(namespaces=json.dumps(short), confirm_interval_seconds=0.1)
    publisher = await stage.publisher()
    await stage.watch(gateway)
    token = make_token("ann", channels=[_CHANNEL])

    async def be_away() -> None:
        async with connected(gateway.url, token) as client:
            await client.subscribe(_CHANNEL)
            await _confirmed(publisher, _CHANNEL)
        for number in range(20):
            await publisher.publish(_CHANNEL, number)

    stage.caused()
    stage.meanwhile(0, be_away)
    await stage.fires()
    stage.tries("The line `messages_lost` in the log names the channel.")
    await until(lambda: f"messages_lost channel={_CHANNEL}" in gateway.output.replace("event=", ""))
    stage.tries("holds too few messages for how many are published. Raise it")
    await stage.again(gateway, confirm_interval_seconds=0.1)
    await stage.resolves()


@causing("LossesReported", "Redis comes back without its data")
async def lost_by_redis(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(confirm_interval_seconds=0.1)
    publisher = await stage.publisher()
    ann = await stage.client(gateway, "ann")
    await ann.subscribe("notifications/ann")
    await stage.watch(gateway)
    await _confirmed(publisher, "notifications/ann")
    await ann.expect(data="seen")
    stage.caused()
    stage.redis.kill()
    stage.redis.restart()
    await until(gateway.is_ready)
    await stage.fires()
    stage.tries("`redis_data_lost` in the log at the same time: Redis came back without its data.")
    await until(lambda: "redis_data_lost" in gateway.output)
    await stage.resolves()


@causing("MessagesNotDecrypted", "a publisher encrypts with a key that the gateway lacks")
async def not_decrypted(stage: Stage) -> None:
    stage.start_redis()
    old, new = (f"{name}:{base64.b64encode(os.urandom(32)).decode()}" for name in ("old", "new"))
    secret = {"namespaces": json.dumps({"run-results": {"encrypted": True}})}
    gateway = await stage.gateway(encryption_keys=old, **secret)
    await stage.watch(gateway)
    publisher = await stage.publisher(encryption_keys=f"{new},{old}")
    token = make_token("ann", channels=[_CHANNEL])
    async with connected(gateway.url, token) as client:
        await client.subscribe(_CHANNEL)
        stage.caused()
        published = await publisher.publish(_CHANNEL, "waits")
        await stage.fires()
    stage.tries("`decryption_failed` in the log names the key and the channel.")
    line = next(line for line in gateway.output.splitlines() if "decryption_failed" in line)
    assert "new" in line and _CHANNEL in line, line
    stage.tries("add it to `GATEWAY_ENCRYPTION_KEYS` and restart")
    await stage.again(gateway, encryption_keys=f"{old},{new}", **secret)
    stage.tries("What waits is delivered then.")
    async with connected(gateway.url, token) as client:
        await client.subscribe(_CHANNEL, since=published.id - 1)
        await client.expect(data="waits")
    await stage.resolves()


@causing("NothingIsDelivered", "a newer publisher, whose messages this gateway cannot read")
async def nothing_delivered(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway()
    ann = await stage.client(gateway, "ann", channels=[_CHANNEL])
    await ann.subscribe(_CHANNEL)
    publisher = await stage.publisher()
    await stage.watch(gateway)
    stage.caused()
    unreadable = stage.meanwhile(0.1, lambda: stage.publish_raw(_CHANNEL, b"no message"))
    await stage.fires()
    stage.tries("`decryption_failed`, `extension_unknown` or `message_invalid` in the log")
    await until(lambda: "message_invalid" in gateway.output)
    unreadable.cancel()
    await publisher.publish(_CHANNEL, "hello")
    await ann.expect(data="hello")
    await stage.resolves()


@causing("AuditLogLosesLines", "the disk is full")
async def audit_loses_lines(stage: Stage) -> None:
    stage.start_redis()
    file = stage.folder / "audit.log"
    # What is written there is answered as a full disk answers (full(4)).
    file.symlink_to("/dev/full")
    gateway = await stage.gateway(audit_log=file)
    await stage.watch(gateway)
    users = count()

    async def visit() -> None:
        async with connected(gateway.url, make_token(f"user-{next(users)}")):
            pass

    stage.meanwhile(0.1, visit)
    stage.caused()
    await stage.fires()
    stage.tries("`audit_unwritten` in the log says why")
    await until(lambda: "No space left on device" in gateway.output)
    file.unlink()
    stage.tries("Make room; the next lines are written by themselves.")
    await stage.resolves()
    assert '"admitted"' in file.read_text() or file.stat().st_size > 0
