"""What a refused subscribe costs, and what a client is told when the channel is granted after all."""

from __future__ import annotations

import asyncio

import pytest

from gateway.node import refusals
from publisher import EVERYBODY, AsyncPublisher
from publisher.contract.grants import Grantee
from tests.integration.conftest import StartNode
from tests.support import topology
from tests.support.client import Client, connected
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "run-results/s"


async def refused(client: Client, channel: str = CHANNEL) -> None:
    await client.send({"type": "subscribe", "channel": channel})
    await client.expect(type="error", code="forbidden", channel=channel)


def still_asking(channel: str) -> bool:
    """Whether a node is about to ask once more whether what it refused was granted meanwhile."""
    return f"ask about {channel}" in {task.get_name() for task in asyncio.all_tasks()}


async def told_of_grants(publisher: AsyncPublisher, prefix: str) -> list[str]:
    """The channels of whose grants Redis tells any node."""
    ask = "SHARDCHANNELS" if topology.chosen() == topology.CLUSTER else "CHANNELS"
    answers = await topology.ask_all(publisher._client, "PUBSUB", ask, f"{prefix}:granted:*")
    return [name.decode() for names in answers for name in names]


# -- granted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("grantee", ["u", EVERYBODY])
async def test_a_refused_channel_that_is_granted_is_told_and_can_be_subscribed_to(
    node: Node, publisher: AsyncPublisher, grantee: Grantee
) -> None:
    await publisher.publish(CHANNEL, "before")
    async with connected(node.url, make_token("u")) as client:
        await refused(client)
        await publisher.grant(CHANNEL, grantee)
        assert await client.receive() == {"type": "granted", "channel": CHANNEL}
        await client.sync()
        await client.subscribe(CHANNEL)
        assert await client.data(1) == ["before"]


async def test_only_the_users_connections_that_were_refused_are_told_on_whichever_node(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    nodes = [await start_node(), await start_node()]
    async with (
        connected(nodes[0].url, make_token("u")) as one,
        connected(nodes[1].url, make_token("u")) as two,
        connected(nodes[1].url, make_token("u")) as silent,
        connected(nodes[0].url, make_token("v")) as other,
    ):
        for client in (one, two, other):
            await refused(client)
        await publisher.grant(CHANNEL, "u")
        for client in (one, two):
            await client.expect(type="granted", channel=CHANNEL)
        for client in (one, two, silent, other):
            await client.sync()


@pytest.mark.parametrize("reason", ["revoked", "expired"])
async def test_a_channel_whose_access_has_ended_and_that_is_granted_again_is_told(
    node: Node, publisher: AsyncPublisher, reason: str
) -> None:
    await publisher.grant(CHANNEL, "u", ttl=1 if reason == "expired" else 60)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        if reason == "revoked":
            await publisher.revoke(CHANNEL, "u")
        await client.expect(type="unsubscribed", channel=CHANNEL, reason=reason)
        await client.sync()
        await publisher.grant(CHANNEL, "u")
        assert await client.receive() == {"type": "granted", "channel": CHANNEL}
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, "again")
        assert await client.data(1) == ["again"]
        await client.sync()


async def test_a_grant_that_comes_right_behind_the_refusal_is_told(
    node: Node, publisher: AsyncPublisher
) -> None:
    """The node may not listen yet."""
    async with connected(node.url, make_token("u")) as client:
        for number in range(50):
            channel = f"run-results/{number}"
            await client.send({"type": "subscribe", "channel": channel})
            granting = asyncio.create_task(publisher.grant(channel, "u"))
            answer = await client.receive()
            if answer["type"] == "error":
                await client.expect(type="granted", channel=channel)
            await granting
            await client.sync()


@pytest.mark.one_server("its one connection is kept from being read")
async def test_a_grant_that_the_node_could_not_hear_is_told_when_it_hears_again(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await refused(client)
        await until(lambda: not still_asking(CHANNEL))
        subscriber = node.gateway.redis.subscriber
        protocol = subscriber._protocol
        assert protocol is not None
        protocol.throttle(True)  # what Redis says is not heard any more
        await publisher.grant(CHANNEL, "u")
        await client.sync()
        protocol.transport.abort()
        await client.expect(type="granted", channel=CHANNEL)


async def test_redis_tells_a_node_of_grants_only_while_it_holds_a_refusal(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    async with connected(node.url, make_token("u")) as client:
        assert await told_of_grants(publisher, prefix) == []
        await refused(client)
        await client.send({"type": "subscribe", "channel": "notifications/v"})
        await client.expect(type="error", code="forbidden")
        await until(lambda: told_of_grants(publisher, prefix))
        assert await told_of_grants(publisher, prefix) == [f"{prefix}:granted:{{{CHANNEL}}}"]
        await client.send({"type": "unsubscribe", "channel": CHANNEL})
        await client.expect(type="unsubscribed")
        await until(lambda: nobody_waits(publisher, prefix))
        await refused(client)
        await until(lambda: told_of_grants(publisher, prefix))
    await until(lambda: nobody_waits(publisher, prefix))
    assert not node.gateway.access.refusals._channels


async def nobody_waits(publisher: AsyncPublisher, prefix: str) -> bool:
    return not await told_of_grants(publisher, prefix)


async def test_a_refusal_is_forgotten_after_a_while(
    node: Node, publisher: AsyncPublisher, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "REMEMBERED_SECONDS", 0.5)
    async with connected(node.url, make_token("u")) as client:
        await refused(client)
        await until(lambda: told_of_grants(publisher, prefix))
        await until(lambda: nobody_waits(publisher, prefix))
        await publisher.grant(CHANNEL, "u")
        await client.sync()


async def test_a_subscription_that_was_never_refused_is_told_nothing(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u", ["run-results/named"])) as client:
        await publisher.grant(CHANNEL, "u")
        await client.subscribe(CHANNEL)
        await client.subscribe("run-results/named")
        for channel in (CHANNEL, "run-results/named", "run-results/never-asked-for"):
            await publisher.grant(channel, "u")
        await publisher.publish(CHANNEL, 1)
        assert await client.data(1) == [1]
        await client.sync()


# -- the price of a refusal -------------------------------------------------------------------------


async def test_a_dashboard_most_of_whose_sessions_are_not_granted_yet_stays_and_fills(
    node: Node, publisher: AsyncPublisher
) -> None:
    sessions = [f"run-results/{number}" for number in range(90)]
    for channel in sessions[:30]:
        await publisher.grant(channel, "u")
    async with connected(node.url, make_token("u")) as client:
        for channel in sessions:
            await client.send({"type": "subscribe", "channel": channel})
        answers = [await client.receive() for _ in sessions]
        kinds = {each["channel"]: each.get("code", each["type"]) for each in answers}
        assert kinds == {
            channel: "subscribed" if number < 30 else "forbidden"
            for number, channel in enumerate(sessions)
        }
        await client.sync()
        for channel in sessions[30:]:
            await publisher.grant(channel, "u")
        granted = [await client.expect(type="granted") for _ in sessions[30:]]
        assert sorted(each["channel"] for each in granted) == sorted(sessions[30:])
        for channel in sessions[30:]:
            await client.subscribe(channel)
        await client.sync()


async def test_a_client_with_more_channels_than_it_may_hold_keeps_those_it_has(
    node: Node, publisher: AsyncPublisher
) -> None:
    channels = [f"run-results/{number}" for number in range(150)]
    async with connected(node.url, make_token("u", ["run-results/*"])) as client:
        for channel in channels:
            await client.send({"type": "subscribe", "channel": channel})
        answers = [await client.receive() for _ in channels]
        told = [each for each in answers if each["type"] == "error"]
        assert [each["code"] for each in told] == ["too_many_subscriptions"] * 50
        assert sorted(each["channel"] for each in told) == sorted(channels[100:])
        await publisher.publish(channels[0], 1)
        assert await client.data(1) == [1]


async def test_a_refused_subscribe_costs_no_more_than_one_that_is_let_in(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(
        client_message_burst=40, client_messages_per_second=0.001, confirm_interval_seconds=1_000
    )
    for number in range(35):
        await publisher.grant(f"run-results/{number}", "granted")
    for user in ("granted", "refused"):
        async with connected(node.url, make_token(user)) as client:
            for number in range(35):
                await client.send({"type": "subscribe", "channel": f"run-results/{number}"})
            answers = [await client.receive() for _ in range(35)]
            assert {each.get("code", "none") for each in answers} == {
                "forbidden" if user == "refused" else "none"
            }
            await client.sync()
