"""Who is in a channel, seen from outside: over tabs and nodes, and after nodes have died."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from gateway.core import budget
from publisher import AsyncPublisher, InvalidData
from publisher.contract.presence import PresenceReading
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.processes import gateway_process
from tests.support.tokens import make_token
from tests.support.topology import keys
from tests.support.waiting import until

ROOM = "rooms/a"
RULES: dict[str, Any] = {
    "rooms": {"owner": "anyone", "presence": True},
    "halls": {"owner": "anyone", "retention": None},
}


async def there(publisher: AsyncPublisher, *users: str, channel: str = ROOM) -> None:
    """Return once exactly these users are in the channel."""

    async def are_there() -> bool:
        return await publisher.presence(channel) == sorted(users)

    await until(are_there)


async def test_a_user_is_there_once_however_many_tabs_and_nodes(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    # Nobody leaves because a lease runs out.
    settings: dict[str, Any] = {"namespaces": RULES, "node_lease_seconds": 60}
    first, second = await start_node(**settings), await start_node(**settings)
    assert await publisher.presence(ROOM) == []
    async with (
        connected(first.url, make_token("auth0|a/b")) as one,
        connected(first.url, make_token("auth0|a/b")) as tab,
        connected(second.url, make_token("auth0|a/b")) as elsewhere,
        connected(second.url, make_token("张三")) as other,
    ):
        for client in (one, tab, elsewhere, other):
            await client.subscribe(ROOM)
        await there(publisher, "auth0|a/b", "张三")
        await other.send({"type": "unsubscribe", "channel": ROOM})
        await other.expect(type="unsubscribed", channel=ROOM)
        await there(publisher, "auth0|a/b")
        await other.subscribe(ROOM)
        await there(publisher, "auth0|a/b", "张三")
        assert await publisher.presence("rooms/b") == []
        # Whoever leaves with some of their connections is still there.
        await one.close()
        await elsewhere.close()
        await other.close()
        await there(publisher, "auth0|a/b")
        await tab.close()
        await there(publisher)


async def test_who_subscribes_again_stays_and_whose_grant_ends_leaves(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(namespaces={"rooms": {"owner": "grant", "presence": True}})
    await publisher.grant(ROOM, "u")
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(ROOM)
        await client.subscribe(ROOM, since=0)
        await there(publisher, "u")
        await publisher.revoke(ROOM, "u")
        await client.expect(type="unsubscribed", channel=ROOM)
        await there(publisher)
        await client.send({"type": "subscribe", "channel": ROOM})
        await client.expect(type="error", code="forbidden")
        await client.sync()
    assert await publisher.presence(ROOM) == []


async def test_leases_are_renewed_and_outlive_a_redis_that_has_lost_them(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node(namespaces=RULES, node_lease_seconds=2)
    key = keys(prefix).presence(ROOM)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(ROOM)
        await there(publisher, "u")
        (member,) = await publisher._client.zrange(key, 0, -1)
        first = await publisher._client.zscore(key, member)

        async def renewed() -> bool:
            return bool(first + 1_000 < (await publisher._client.zscore(key, member) or 0))

        await until(renewed)
        await publisher._client.delete(key)
        await there(publisher, "u")


async def test_the_users_of_a_dead_node_are_gone_with_its_lease_and_no_others(
    start_node: StartNode, gateway_url: str, publisher: AsyncPublisher, prefix: str
) -> None:
    lease = 2
    node = await start_node(namespaces=RULES, node_lease_seconds=lease)
    rules = '{"rooms": {"owner": "anyone", "presence": true}, "halls": {"owner": "anyone"}}'
    async with (
        gateway_process(gateway_url, prefix, namespaces=rules, node_lease_seconds=lease) as dying,
        connected(node.url, make_token("stays")) as staying,
        connected(node.url, make_token("both")) as here,
        connected(dying.url, make_token("both")) as both,
        connected(dying.url, make_token("dies")) as lost,
    ):
        for client in (staying, here, both, lost):
            await client.subscribe(ROOM)
        await there(publisher, "both", "dies", "stays")
        await dying.kill()
        began = time.monotonic()
        await there(publisher, "both", "stays")
        # Its lease was renewed a moment before, at the latest.
        assert time.monotonic() - began < lease + 1

        # What it has left in Redis goes with the next renewal of another node.
        async def swept() -> bool:
            return await publisher._client.zcard(keys(prefix).presence(ROOM)) == 2

        await until(swept)


async def test_a_node_that_ends_takes_its_users_along(
    start_node: StartNode, gateway_url: str, publisher: AsyncPublisher, prefix: str
) -> None:
    await start_node(namespaces=RULES)
    rules = '{"rooms": {"owner": "anyone", "presence": true}, "halls": {"owner": "anyone"}}'
    settings: dict[str, Any] = {"namespaces": rules, "node_lease_seconds": 60, "drain_seconds": 0}
    async with (
        gateway_process(gateway_url, prefix, **settings) as leaving,
        connected(leaving.url, make_token("u")) as client,
    ):
        await client.subscribe(ROOM)
        await there(publisher, "u")
        assert await leaving.terminate() == 0
        assert await publisher.presence(ROOM) == []


async def test_what_is_not_noted_is_refused_and_costs_nothing(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node(namespaces=RULES)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("halls/a")
        await client.subscribe(ROOM)
        await there(publisher, "u")
        assert not await publisher._client.exists(keys(prefix).presence("halls/a"))
        with pytest.raises(InvalidData, match="namespace 'halls' has no presence"):
            await publisher.presence("halls/a")


async def test_a_crowd_is_read_in_parts_and_nobody_left_out_whose_lease_is_renewed_meanwhile(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node(namespaces=RULES, node_lease_seconds=60)
    client, key = publisher._client, keys(prefix).presence(ROOM)
    users = sorted([f"u{number}" for number in range(2_500)] + ["*", "a/b", "张三"])
    now = round(time.time() * 1000)

    async def write(users: list[str], lease: int) -> None:
        # A thousand of each node end in the same millisecond.
        members = [f"n{node}/{user}" for node in (1, 2) for user in users]
        leases = {each: now + lease + at // 1_000 for at, each in enumerate(members)}
        await client.zadd(key, leases)

    await write(users, 40_000)
    await client.zadd(key, {"n1/gone": now - 1, "n2/gone": 1})
    assert await publisher.presence(ROOM) == users
    reading = asyncio.create_task(publisher.presence(ROOM))
    lease = 40_000
    while not reading.done():
        lease += 1
        await write(users[:: lease % 7 + 1], lease)
    assert await reading == users

    # A client is told the first of them, and how many there are.
    async with connected(node.url, make_token("0-first")) as asking:
        await asking.subscribe(ROOM)
        await asking.send(ask())
        told = await asking.expect(type="presence")
    assert told["users"] == sorted(["0-first", *users])[:1_000]
    assert told["count"] == len(users) + 1


async def test_a_reading_ends_although_all_leases_are_renewed_before_each_part(
    publisher: AsyncPublisher, prefix: str
) -> None:
    client, reading = publisher._client, PresenceReading(keys(prefix), ROOM)
    users = [f"u{number:04}" for number in range(5_000)]
    lease, parts, more = round(time.time() * 1000) + 60_000, 0, True
    while more:
        lease, parts = lease + 1, parts + 1
        await client.zadd(keys(prefix).presence(ROOM), {f"n/{user}": lease for user in users})
        more = reading.take(await client.execute_command(*reading.next_part.whole()))
        assert parts < 10
    assert reading.users() == users


async def test_many_who_come_together_are_noted_in_one_call(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(namespaces=RULES)
    calls: list[int] = []
    write = node.gateway.redis.presence._write

    async def counted(channel: str, users: tuple[str, ...]) -> Any:
        calls.append(len(users))
        return await write(channel, users)

    node.gateway.redis.presence._write = counted  # type: ignore[method-assign]

    users = [f"u{number}" for number in range(20)]
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected(node.url, make_token(user))) for user in users
        ]
        await asyncio.gather(*(client.subscribe(ROOM) for client in clients))
        await there(publisher, *users)
        assert sum(calls) >= len(users)
        assert len(calls) <= 5


# -- clients that ask ---------------------------------------------------------------------------


def ask(channel: str = ROOM) -> dict[str, str]:
    return {"type": "presence", "channel": channel}


async def test_a_client_is_told_who_else_is_in_its_channel_on_all_nodes(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    first, second = await start_node(namespaces=RULES), await start_node(namespaces=RULES)
    async with (
        connected(first.url, make_token("auth0|a/b")) as one,
        connected(first.url, make_token("auth0|a/b")) as tab,
        connected(second.url, make_token("v")) as other,
    ):
        # Right behind the subscribe, and before Redis has been told of it.
        await one.send({"type": "subscribe", "channel": ROOM})
        await one.send(ask())
        await one.expect(type="subscribed", channel=ROOM)
        assert await one.receive() == {**ask(), "users": ["auth0|a/b"], "count": 1}
        await tab.subscribe(ROOM)
        await other.subscribe(ROOM)
        await there(publisher, "auth0|a/b", "v")
        for client in (one, tab, other):
            await client.send(ask())
            assert await client.receive() == {**ask(), "users": ["auth0|a/b", "v"], "count": 2}
        await other.send({"type": "unsubscribe", "channel": ROOM})
        await other.expect(type="unsubscribed", channel=ROOM)
        await there(publisher, "auth0|a/b")
        await one.send(ask())
        await one.expect(type="presence", users=["auth0|a/b"], count=1)


async def test_only_those_in_a_channel_are_told_who_is_and_only_where_it_is_noted(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    rules = {"rooms": {"owner": "grant", "presence": True}, "halls": {"owner": "anyone"}}
    node = await start_node(namespaces=rules)
    await publisher.grant(ROOM, "u")
    async with (
        connected(node.url, make_token("u")) as client,
        connected(node.url, make_token("stranger")) as stranger,
    ):
        await client.send(ask())
        await client.expect(type="error", code="not_subscribed", channel=ROOM)
        await client.subscribe(ROOM)
        await client.subscribe("halls/a")
        await client.send(ask("halls/a"))
        await client.expect(type="error", code="no_presence", channel="halls/a")
        # Who is not let in hears nothing either, however early they ask.
        await stranger.send({"type": "subscribe", "channel": ROOM})
        await stranger.send(ask())
        codes = [(await stranger.expect(type="error", channel=ROOM))["code"] for _ in range(2)]
        assert codes == ["forbidden", "not_subscribed"]
        await publisher.revoke(ROOM, "u")
        await client.expect(type="unsubscribed", channel=ROOM)
        await client.send(ask())
        await client.expect(type="error", code="not_subscribed", channel=ROOM)


async def test_a_list_is_cut_and_the_count_is_not(start_node: StartNode) -> None:
    rules = {"rooms": {"owner": "anyone", "presence": {"max_members": 2}}}
    node = await start_node(namespaces=rules)
    async with contextlib.AsyncExitStack() as stack:
        for user in "dcba":
            client = await stack.enter_async_context(connected(node.url, make_token(user)))
            await client.subscribe(ROOM)
        await client.send(ask())
        await client.expect(type="presence", users=["a", "b"], count=4)


async def test_a_crowd_that_asks_is_answered_by_few_readings(start_node: StartNode) -> None:
    node = await start_node(namespaces=RULES)
    log = node.gateway.access.presence_requests._log
    readings = 0
    users = log.users

    async def counted(channel: str) -> list[str]:
        nonlocal readings
        readings += 1
        return await users(channel)

    log.users = counted  # type: ignore[method-assign]
    names = sorted(f"u{number}" for number in range(20))
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected(node.url, make_token(user))) for user in names
        ]
        for client in clients:
            await client.subscribe(ROOM)
        for client in clients:
            await client.send(ask())
        for client in clients:
            await client.expect(type="presence", users=names, count=20)
    assert readings <= 3


async def test_answers_cost_what_they_bring_and_wait_rather_than_end_the_connection(
    start_node: StartNode,
) -> None:
    asked = 6
    node = await start_node(
        namespaces=RULES,
        client_message_burst=20.0,
        client_messages_per_second=5.0,
        # A node gives more than was asked for, so that all the pongs that it asks for can be paid.
        max_subscriptions=1,
        confirm_interval_seconds=30.0,
    )
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(ROOM)
        (connection,) = node.gateway.hub.connections.values()
        rate, burst = connection.budget._rate, connection.budget._burst
        began = time.monotonic()
        for _ in range(asked):
            await client.send(ask())
            await client.expect(type="presence", users=["u"])
        # Each is paid before the next one, from half of the burst and from what has come back since: so whatever else
        # takes time here, they cannot have come sooner.
        least = ((asked - 1) * budget.PRESENCE - burst / 2) / rate
        assert least > 1.5
        assert time.monotonic() - began >= least
        await client.sync()
