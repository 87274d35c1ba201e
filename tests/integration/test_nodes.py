"""Several nodes behave as one."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.node.timings import HANDSHAKE_PHASES, SUBSCRIBE_PHASES
from publisher import AsyncPublisher
from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.topology import ask_all, keys
from tests.support.waiting import until

CHANNEL = "notifications/u"


async def listeners(publisher: AsyncPublisher, keys: Keys, channel: str) -> int:
    """How many nodes Redis would send the channel's messages to."""
    ask = "SHARDNUMSUB" if keys.sharded else "NUMSUB"
    answers = await ask_all(publisher._client, "PUBSUB", ask, keys.live(channel))
    return sum(int(count) for _name, count in answers)


async def test_a_message_reaches_the_user_on_every_node(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    first, second = await start_node(), await start_node()
    async with (
        connected(first.url, make_token("u")) as here,
        connected(second.url, make_token("u")) as there,
    ):
        await here.subscribe(CHANNEL)
        await there.subscribe(CHANNEL)
        await publisher.publish_many([(CHANNEL, number) for number in range(100)])
        assert await here.data(100) == await there.data(100) == list(range(100))


async def test_what_one_node_delivered_another_does_not_repeat(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    first, second = await start_node(), await start_node()
    async with connected(first.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        published = await publisher.publish(CHANNEL, 1)
        await client.data(1)

        async def known() -> bool:
            seen = await publisher._client.zscore(f"{prefix}:confirmed:{{{CHANNEL}}}", "u")
            return int(seen or 0) == published.id

        await until(known)
    await publisher.publish(CHANNEL, 2)
    async with connected(second.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        assert await client.data(1) == [2]
        await client.sync()


async def test_redis_is_listened_to_only_while_somebody_here_does(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node()

    async def count(expected: int) -> bool:
        return await listeners(publisher, keys(prefix), CHANNEL) == expected

    assert await count(0)
    async with connected(node.url, make_token("u")) as one:
        await one.subscribe(CHANNEL)
        assert await count(1)
        async with connected(node.url, make_token("u")) as other:
            await other.subscribe(CHANNEL)
            assert await count(1)
        await one.sync()
        assert await count(1)
    await until(lambda: count(0))
    await until(lambda: not node.gateway.hub.channels)


async def test_a_page_reload_costs_no_subscription(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(unsubscribe_linger_seconds=30.0)
    for number in range(3):
        async with connected(node.url, make_token("u")) as client:
            await client.subscribe(CHANNEL)
            await publisher.publish(CHANNEL, number)
            while await client.data(1) != [number]:
                pass
        await until(lambda: not node.gateway.hub.connections)
        assert list(node.gateway.hub.channels) == [CHANNEL]


async def test_first_and_last_interest_may_follow_each_other_at_any_pace(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(unsubscribe_linger_seconds=0.0)
    async with connected(node.url, make_token("u")) as client:
        for number in range(100):
            await client.subscribe(CHANNEL)
            await publisher.publish(CHANNEL, number)
            assert await client.data(1) == [number]
            await client.send({"type": "unsubscribe", "channel": CHANNEL})
            await client.expect(type="unsubscribed")
            if number % 4:
                await asyncio.sleep(0)


async def test_health_readiness_and_metrics(node: Node, publisher: AsyncPublisher) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 1)
        await client.data(1)
        assert (await node.get("/healthz"))[0] == 200
        assert (await node.get("/readyz"))[0] == 200
        status, metrics = await node.get("/metrics")
        assert status == 200
        for line in (
            "gateway_connections 1.0",
            "gateway_subscriptions 1.0",
            "gateway_channels 1.0",
            "gateway_ready 1.0",
            "gateway_messages_delivered_total 1.0",
            "gateway_connections_opened_total 1.0",
        ):
            assert line in metrics.splitlines()


async def test_what_takes_time_is_measured(node: Node, publisher: AsyncPublisher) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        # Redis is asked what time it is as the node starts; without that nothing is measured from a publish on.
        await until(lambda: node.gateway.stats.timings.redis_clock.age(0) is not None)
        await publisher.publish(CHANNEL, 1)
        await client.data(1)
        await until(lambda: sum(node.gateway.stats.timings.publish_to_confirmation.counts) == 1)
        counted = dict(
            line.rsplit(" ", 1)
            for line in (await node.get("/metrics"))[1].splitlines()
            if line.startswith("gateway_")
        )
    for name in (
        "gateway_publish_to_write_seconds_count",
        "gateway_publish_to_confirmation_seconds_count",
        *(f'gateway_handshake_seconds_count{{phase="{each}"}}' for each in HANDSHAKE_PHASES),
        *(f'gateway_subscribe_seconds_count{{phase="{each}"}}' for each in SUBSCRIBE_PHASES),
    ):
        assert counted[name] == "1.0", name
    for name in ("write", "confirmation"):
        # Not microseconds, not Unix seconds: both clocks are this machine's.
        assert 0 < float(counted[f"gateway_publish_to_{name}_seconds_sum"]) < 60
    assert float(counted["gateway_redis_round_trip_seconds_count"]) > 0
    assert float(counted["gateway_redis_round_trip_seconds_count"]) <= float(
        counted["gateway_redis_round_trips_total"]
    )
    assert float(counted["gateway_socket_bytes_total"]) > 0
    (up,) = {
        value for name, value in counted.items() if name.startswith("gateway_redis_primary_up")
    }
    assert up == "1.0"


async def test_a_node_whose_lease_has_run_out_does_not_count_itself_as_alive(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after SIGCONT: the others may have given its places away before it has asked anybody."""
    node = await start_node(node_lease_seconds=1.0)
    later = time.monotonic() + 20.0
    monkeypatch.setattr(node.gateway.redis.node_lease, "_clock", lambda: later)
    assert not node.gateway.ready()
    await until(node.gateway.ready)  # with the next renewal


async def test_a_node_that_has_given_up_its_lease_does_not_take_it_again(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    lease = node.gateway.redis.node_lease
    await lease.give_up()
    lease.recheck()
    # Another call of the same connection would come behind a renewal.
    for _ in range(5):
        await asyncio.sleep(0)
    nodes = node.gateway.redis.keys.nodes
    await node.gateway.redis.health_connection.call(Call(("EXISTS", nodes)))
    assert await publisher._client.zscore(f"{prefix}:nodes", node.gateway.node_id) is None


async def test_a_leaving_node_says_goodbye(start_node: StartNode) -> None:
    node = await start_node()
    async with connected(node.url, make_token("u")) as client:
        stopping = asyncio.create_task(node.gateway.stop())
        assert await client.expect_close() == (1001, "draining")
        await stopping
    assert not node.gateway.hub.connections


@pytest.mark.parametrize("when", ["before the handshake", "later"])
async def test_a_lost_pubsub_connection_comes_back(
    start_node: StartNode, publisher: AsyncPublisher, when: str
) -> None:
    node = await start_node()
    async with connected(node.url, make_token("u")) as client:
        if when == "later":
            await client.subscribe(CHANNEL)
        await ask_all(publisher._client, "CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: not node.gateway.ready())
        await until(node.gateway.ready)
        if when != "later":
            await client.subscribe(CHANNEL)
        await until(lambda: listeners(publisher, node.gateway.redis.keys, CHANNEL))
        await publisher.publish(CHANNEL, 1)
        assert await client.data(1) == [1]
