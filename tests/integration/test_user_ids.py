"""Whatever identity providers call their users: each has a notifications channel, live and stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from publisher import AsyncPublisher, InvalidChannel, InvalidData
from tests.integration.conftest import StartNode
from tests.support.client import connected, opened
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.waiting import until

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "cases" / "user_ids.json").read_text("utf-8")
)
NEIGHBOURS = [
    " ",
    "/",
    "//",
    "}",
    "{",
    "{}",
    "a}:b",
    "k}:confirmed:{x",
    "notifications/u",
    '"quoted"',
    "back\\slash",
    "\u2028line\u2029",
    "e\u0301",
    "\u202eright to left",
    "😀" * 60,
    "https://idp.example/users/7?x=1#y",
    "' OR 1=1 --",
    "@:._-",
    "null",
]
SERVED = [case["sub"] for case in CASES if case["notifications"]] + NEIGHBOURS
REFUSED = [case["sub"] for case in CASES if not case["notifications"]]
REFUSED += ["\x00", "a\nb", "\x7f", "\x85", "a" * 242]


def note(publisher: AsyncPublisher, user: str, title: str) -> Any:
    return publisher.notify(user, title=title, message="m")


@pytest.mark.parametrize("user", SERVED)
async def test_a_users_notifications_arrive_live_and_stored(
    node: Node, publisher: AsyncPublisher, user: str
) -> None:
    channel = f"notifications/{user}"
    await note(publisher, user, "before the first subscribe")
    async with connected(node.url, make_token(user)) as client:
        await client.subscribe(channel)
        assert (await client.receive())["data"]["title"] == "before the first subscribe"
        live = await note(publisher, user, "live")
        assert live.channel == channel
        message = await client.expect(type="notifications", channel=channel, id=live.id)
        assert message["data"]["title"] == "live"
        await until(lambda: confirmed(node, publisher, channel, user, live.id))
    stored = await note(publisher, user, "stored")
    async with connected(node.url, make_token(user)) as client:
        await client.subscribe(channel)
        await client.expect(channel=channel, id=stored.id)
        await client.sync()
    assert [each.id for each in await publisher.history(channel)][1:] == [live.id, stored.id]


async def confirmed(
    node: Node, publisher: AsyncPublisher, channel: str, user: str, id_: int
) -> bool:
    await node.gateway.redis.positions.flush()
    key = node.gateway.redis.keys.confirmed(channel)
    return int(await publisher._client.zscore(key, user) or 0) == id_


@pytest.mark.parametrize("user", REFUSED)
async def test_an_id_that_can_have_no_channel_is_refused_and_named(
    node: Node, publisher: AsyncPublisher, user: str
) -> None:
    channel = f"notifications/{user}"
    with pytest.raises(InvalidChannel if user else InvalidData):
        await note(publisher, user, "nobody hears this")
    if not user:
        async with opened(node.url, make_token(user)) as client:
            await client.expect(type="error", code="token_invalid")
        return
    async with connected(node.url, make_token(user)) as client:
        await client.send({"type": "subscribe", "channel": channel})
        await client.expect(type="error", code="invalid_channel", channel=channel)
        # Without that channel they are a user like any other.
        await publisher.grant("run-results/s", user)
        await client.subscribe("run-results/s")


@pytest.mark.parametrize("other", ["U", "u ", "u/", "u/7", "\uff55", "*"])
async def test_a_users_notifications_are_theirs_alone_however_similar_the_id(
    node: Node, publisher: AsyncPublisher, other: str
) -> None:
    async with connected(node.url, make_token("u", ["notifications/*"])) as client:
        await client.send({"type": "subscribe", "channel": f"notifications/{other}"})
        await client.expect(type="error", code="forbidden", channel=f"notifications/{other}")
        await note(publisher, other, "not for u")
        await client.sync()


@pytest.mark.parametrize("id_", ["team/7/ann", "a{b}c}", "*", "张三 "])
async def test_any_namespace_takes_such_ids_and_a_grant_opens_exactly_one(
    start_node: StartNode, publisher: AsyncPublisher, id_: str
) -> None:
    node = await start_node()
    channel = f"run-results/{id_}"
    await publisher.grant(channel, "u")
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(channel)
        await client.send({"type": "subscribe", "channel": "run-results/other"})
        await client.expect(type="error", code="forbidden")
        await publisher.publish(channel, 1)
        assert await client.data(1) == [1]
        await publisher.revoke(channel, "u")
        await client.expect(type="unsubscribed", channel=channel, reason="revoked")


async def test_a_user_called_asterisk_opens_nothing_to_anybody_else(
    node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.grant("run-results/s", "*")
    async with (
        connected(node.url, make_token("*")) as named,
        connected(node.url, make_token("u")) as other,
    ):
        await named.subscribe("run-results/s")
        await other.send({"type": "subscribe", "channel": "run-results/s"})
        await other.expect(type="error", code="forbidden")
        # A revocation that concerned everybody would be a question of each.
        await publisher.revoke("run-results/s", "*")
        await named.expect(type="unsubscribed", channel="run-results/s", reason="revoked")
