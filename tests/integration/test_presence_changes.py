"""What the members of a channel are told of others who come and go."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from publisher import AsyncPublisher
from tests.faults.proxy import Proxy
from tests.integration.conftest import StartNode
from tests.support.client import Client, connected
from tests.support.nodes import Node, running_node
from tests.support.processes import gateway_process
from tests.support.raw import PING, PONG, TEXT, RawClient, raw_client
from tests.support.tokens import make_token
from tests.support.topology import ask_all, keys
from tests.support.waiting import until

ROOM = "rooms/a"


def rules(**presence: Any) -> dict[str, Any]:
    return {"rooms": {"owner": "anyone", "presence": {"announce": True, **presence}}}


async def told(client: Client, kind: str, *users: str) -> None:
    """Of these users and no others a client is told, in however many messages."""
    missing = set(users)
    while missing:
        message = await client.expect(type=kind, channel=ROOM)
        assert message.keys() == {"type", "channel", "users"}
        assert message["users"]
        assert set(message["users"]) <= missing
        missing -= set(message["users"])


async def noted(publisher: AsyncPublisher, prefix: str, count: int) -> None:
    """Return once Redis knows of so many users on a node."""

    async def are_there() -> bool:
        return await publisher._client.zcard(keys(prefix).presence(ROOM)) == count

    await until(are_there)


async def test_the_members_of_a_channel_are_told_who_joins_and_leaves_on_all_nodes(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    first, second = await start_node(namespaces=rules()), await start_node(namespaces=rules())
    async with (
        connected(first.url, make_token("u")) as client,
        connected(first.url, make_token("stranger")) as stranger,
        connected(second.url, make_token("auth0|a/b 张")) as other,
        connected(first.url, make_token("auth0|a/b 张")) as tab,
    ):
        await client.subscribe(ROOM)
        await told(client, "joined", "u")
        await other.subscribe(ROOM)
        await told(client, "joined", "auth0|a/b 张")
        await told(other, "joined", "auth0|a/b 张")
        # Another tab on another node changes nothing, nor does it when the first one goes.
        await tab.subscribe(ROOM)
        await noted(publisher, prefix, 3)
        await other.close()
        await noted(publisher, prefix, 2)
        await client.sync()
        await tab.close()
        await told(client, "left", "auth0|a/b 张")
        await client.sync()
        # Who is not in the channel hears nothing.
        await stranger.sync()


async def test_the_users_of_a_dead_node_leave(
    start_node: StartNode, gateway_url: str, prefix: str
) -> None:
    node = await start_node(namespaces=rules(), node_lease_seconds=2)
    written = '{"rooms": {"owner": "anyone", "presence": {"announce": true}}}'
    async with (
        gateway_process(gateway_url, prefix, namespaces=written, node_lease_seconds=2) as dying,
        connected(node.url, make_token("stays")) as client,
        connected(dying.url, make_token("stays")) as both,
        connected(dying.url, make_token("dies")) as lost,
    ):
        await client.subscribe(ROOM)
        await told(client, "joined", "stays")
        await both.subscribe(ROOM)
        await lost.subscribe(ROOM)
        await told(client, "joined", "dies")
        await dying.kill()
        await told(client, "left", "dies")
        await client.sync()


async def test_nobody_is_told_of_a_channel_with_too_many_members(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node(namespaces=rules(max_members=2))
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected(node.url, make_token(user))) for user in "abc"
        ]
        for client, user in zip(clients[:2], "ab", strict=True):
            await client.subscribe(ROOM)
            await told(client, "joined", user)
        await told(clients[0], "joined", "b")
        await clients[2].subscribe(ROOM)
        await noted(publisher, prefix, 3)
        await clients[0].sync()
        # With the third they were too many; from the second on they are told again.
        await clients[1].close()
        await told(clients[0], "left", "b")
        await clients[2].close()
        await told(clients[0], "left", "c")


@pytest.mark.parametrize("said", ["", "no json", "[1]", '{"joined": "u"}', '{"left": [1]}'])
async def test_what_nobody_of_ours_has_told_is_left_out(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str, said: str
) -> None:
    node = await start_node(namespaces=rules())
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(ROOM)
        await told(client, "joined", "u")
        name = keys(prefix).presence_changes(ROOM)
        await publisher._client.execute_command(keys(prefix).publish, name, said)
        await until(lambda: node.gateway.stats.messages_invalid == 1)
        await client.sync()


async def test_where_it_is_not_announced_nobody_listens(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    silent = {"rooms": {"owner": "anyone", "presence": True}}
    node = await start_node(namespaces=silent)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(ROOM)
        await client.sync()
        ask = "SHARDNUMSUB" if keys(prefix).sharded else "NUMSUB"
        name = keys(prefix).presence_changes(ROOM)
        answers = await ask_all(publisher._client, "PUBSUB", ask, name)
        assert {int(count) for _name, count in answers} == {0}


async def test_who_was_too_slow_to_hear_of_changes_is_told_anew_who_is_there(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    namespaces = rules()
    # Who comes later has little to read before it hears what comes live.
    namespaces["rooms"]["retention"] = {"max_messages": 2, "max_age_seconds": 600}
    node = await start_node(namespaces=namespaces, high_water_bytes=256 * 1024)
    async with (
        raw_client(node.url, make_token("slow"), receive_buffer=16_384) as slow,
        connected(node.url, make_token("other")) as other,
    ):
        for request, answer in (("subscribe", "joined"), ("presence", "presence")):
            slow.send(TEXT, json.dumps({"type": request, "channel": ROOM}).encode())
            assert (await next_of(slow, answer))["users"] == ["slow"]
        await until(lambda: fill(publisher, node))
        await other.send({"type": "subscribe", "channel": ROOM})
        while (await other.receive())["type"] != "joined":
            pass
        # It was left out when this was told.
        assert await next_of(slow, "joined", "presence") == {
            "type": "presence",
            "channel": ROOM,
            "users": ["other", "slow"],
            "count": 2,
        }
        # From here on it hears of changes again.
        await other.close()
        assert (await next_of(slow, "joined", "left"))["users"] == ["other"]


async def test_a_user_counts_once_however_many_nodes_they_are_on(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    first, second = [await start_node(namespaces=rules(max_members=2)) for _ in range(2)]
    async with (
        connected(first.url, make_token("u")) as client,
        connected(second.url, make_token("u")) as tab,
        connected(first.url, make_token("v")) as other,
    ):
        for each in (client, tab):
            await each.subscribe(ROOM)
        await told(client, "joined", "u")
        await noted(publisher, prefix, 2)
        # Two users are three entries.
        await other.subscribe(ROOM)
        await told(client, "joined", "v")
        # What another has written, or lost, is counted anew.
        await publisher._client.hset(keys(prefix).presence_nodes(ROOM), "stranger", 7)
        await publisher._client.delete(keys(prefix).presence_nodes(ROOM))
        await tab.close()
        await noted(publisher, prefix, 2)
        await other.close()
        await told(client, "left", "v")


async def fill(publisher: AsyncPublisher, node: Node) -> bool:
    """Publish more; whether somebody has fallen behind by now."""
    await publisher.publish(ROOM, "x" * 60_000)
    return any(each.behind for each in node.gateway.hub.connections.values())


async def next_of(client: RawClient, *kinds: str) -> dict[str, Any]:
    """The next message of one of these types; pings are answered."""
    while True:
        frame = await client.frame()
        if frame.opcode == PING:
            client.send(PONG, frame.payload)
        elif frame.opcode == TEXT and (message := json.loads(frame.payload))["type"] in kinds:
            return dict(message)


async def present(client: Client) -> list[str]:
    """Who is there, as the client is told in full; that somebody has come may be told before."""
    while (message := await client.receive())["type"] == "joined":
        pass
    assert message["type"] == "presence"
    return list(message["users"])


async def test_whose_node_was_cut_off_from_redis_is_told_anew_who_is_there(
    start_node: StartNode, proxy: Proxy, prefix: str
) -> None:
    other_node = await start_node(namespaces=rules())
    url = f"redis://127.0.0.1:{proxy.port}"
    async with (
        running_node(url, prefix, namespaces=rules()) as node,
        connected(node.url, make_token("u")) as client,
        connected(node.url, make_token("silent")) as silent,
        connected(other_node.url, make_token("other")) as other,
    ):
        for each in (client, silent):
            await each.subscribe(ROOM)
        await client.send({"type": "presence", "channel": ROOM})
        assert await present(client) == ["silent", "u"]
        proxy.refuse()
        await until(lambda: not node.gateway.ready())
        await other.subscribe(ROOM)
        await told(other, "joined", "other")
        await proxy.start()
        assert await present(client) == ["other", "silent", "u"]
        # Who has never asked is told nothing.
        await until(node.gateway.ready)
        await silent.sync()


async def test_members_are_back_as_soon_as_redis_has_lost_its_data(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node(namespaces=rules(), node_lease_seconds=1)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(ROOM)
        await told(client, "joined", "u")
        await publisher._client.delete(keys(prefix).presence(ROOM))
        await noted(publisher, prefix, 1)
        assert await publisher.presence(ROOM) == ["u"]
