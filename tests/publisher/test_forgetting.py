"""What is left in Redis of a user who is forgotten."""

from __future__ import annotations

import asyncio
import time

import pytest

from publisher import EVERYBODY, AsyncPublisher, InvalidData, Publisher
from publisher.contract import control
from publisher.contract.channels import Namespace, Owner
from publisher.contract.keys import Keys
from tests.publisher.announcing import Announce
from tests.support import topology
from tests.support.waiting import until

CHANNELS = [f"run-results/s{n}" for n in range(60)] + ["run-results/{x}[*]", "run-results/ü"]


def test_nothing_is_left_but_that_the_connections_were_ended(
    publisher: Publisher, server: topology.Looking, keys: Keys
):
    for channel in CHANNELS:
        publisher.grant(channel, "gone")
        publisher.grant(channel, "kept")
        sent = publisher.publish(channel, 1)
        server.zadd(keys.confirmed(channel), {"gone": sent.id, "kept": sent.id})
    publisher.publish_many([("notifications/gone", 1), ("notifications/kept", 1)])
    publisher.revoke_tokens_before("gone", time.time() - 5)
    publisher.revoke_tokens_before("kept", time.time() - 5)
    publisher.forget("gone")
    for channel in CHANNELS:
        assert server.zrange(keys.grant(channel), 0, -1) == [b"kept"]
        assert server.zrange(keys.confirmed(channel), 0, -1) == [b"kept"]
        assert len(publisher.history(channel)) == 1
    assert publisher.history("notifications/gone") == []
    assert len(publisher.history("notifications/kept")) == 1
    assert server.exists(keys.before("kept"))
    named = {name.decode() for name in topology.names(server, f"{keys.prefix}*") if b"gone" in name}
    # What a retry asks by lasts for minutes, as such keys always do.
    assert {name for name in named if ":result:" not in name} == {keys.disconnected("gone")}


def test_other_channels_of_their_own_are_erased_too(
    publisher: Publisher, server: topology.Looking, keys: Keys, announce: Announce
):
    announce(Namespace("inbox", Owner.USER, unconfirmed=True), Namespace("lessons"))
    publisher.publish_many([("inbox/gone", 1), ("inbox/kept", 1), ("lessons/gone", 1)])
    publisher.forget("gone")
    left = {
        name: len(publisher.history(name)) for name in ("inbox/gone", "inbox/kept", "lessons/gone")
    }
    assert left == {"inbox/gone": 0, "inbox/kept": 1, "lessons/gone": 1}
    assert server.zrange(keys.awaited, 0, -1) == [b"inbox/kept"]


def test_what_is_scheduled_in_their_own_channels_never_comes(
    publisher: Publisher, server: topology.Looking, keys: Keys, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("publisher.forgetting._PAGE", "10")
    at = time.time() + 3_600
    for _ in range(150):  # more than Redis keeps in one piece
        publisher.publish("notifications/kept", 1, at=at)
    theirs = [publisher.publish("notifications/gone", "x" * 400, at=at) for _ in range(3)]
    others = publisher.publish(CHANNELS[0], 1, at=at)
    # A node has taken one, and has ended.
    server.zrem(keys.scheduled, theirs[0].id)
    server.zadd(keys.scheduled_publishing, {theirs[0].id: at * 1000})
    publisher.forget("gone")
    assert server.zcard(keys.scheduled) == 151
    assert publisher.scheduled(others.id) == others
    assert not server.exists(keys.scheduled_publishing)
    for each in theirs:
        assert not server.exists(keys.scheduled_message(each.id))


async def test_what_is_scheduled_meanwhile_never_comes_either(
    async_publisher: AsyncPublisher, server: topology.Looking, keys: Keys
):
    at = time.time() + 3_600
    first = await async_publisher.publish("notifications/gone", "before", at=at)
    forgetting = asyncio.create_task(async_publisher.forget("gone"))

    async def cancelled() -> bool:
        return await async_publisher.scheduled(first.id) is None

    await until(cancelled)
    assert not forgetting.done()
    second = await async_publisher.publish("notifications/gone", "meanwhile", at=at)
    await forgetting
    assert await async_publisher.scheduled(second.id) is None
    assert not server.exists(keys.scheduled)


async def test_one_whose_id_means_everybody_elsewhere_is_one_user(
    async_publisher: AsyncPublisher, server: topology.Looking, keys: Keys
):
    await async_publisher.grant(CHANNELS[0], EVERYBODY)
    await async_publisher.grant(CHANNELS[0], "*")
    await async_publisher.forget("*")
    await async_publisher.forget("*")
    assert server.zrange(keys.grant(CHANNELS[0]), 0, -1) == [b"*"]


def test_everybody_is_not_forgotten(publisher: Publisher):
    with pytest.raises(InvalidData, match="EVERYBODY"):
        publisher.forget(EVERYBODY)  # type: ignore[arg-type]


def test_one_who_can_have_no_notifications_is_forgotten(
    publisher: Publisher, server: topology.Looking, keys: Keys
):
    publisher.grant(CHANNELS[0], 250 * "x")
    publisher.forget(250 * "x")
    assert server.zcard(keys.grant(CHANNELS[0])) == 0


def test_the_nodes_are_told_of_each_grant_that_is_gone(
    publisher: Publisher, redis_url: str, keys: Keys
):
    """Who has come back in between, before the grant was erased, hears nothing more."""
    for channel in CHANNELS[:3]:
        publisher.grant(channel, "gone")
    publisher.grant(CHANNELS[3], "kept")
    with topology.looking_at(redis_url) as client, client.pubsub() as pubsub:
        pubsub.subscribe(keys.control)
        publisher.forget("gone")
        told: set[str] = set()
        silent = 0
        while told < set(CHANNELS[:3]) and silent < 20:
            # It may return without one before its time is over.
            message = pubsub.get_message(timeout=1)
            silent = silent + 1 if message is None else 0
            command = message and message["type"] == "message" and control.decode(message["data"])
            if isinstance(command, control.GrantRevoked):
                told.add(command.channel)
    assert told == set(CHANNELS[:3])
