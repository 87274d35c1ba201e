"""Nobody hears what is not theirs."""

from __future__ import annotations

import time

import pytest

from gateway.core.timing import EXPIRY_STEP
from publisher import EVERYBODY, AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.topology import ask_all
from tests.support.waiting import until

DENIED = {
    "another user's notifications": "notifications/somebody-else",
    "a session nobody granted": "run-results/secret",
    "a namespace that does not exist": "nowhere/x",
    "notifications by another spelling": "Notifications/u",
}


@pytest.mark.parametrize("channel", DENIED.values(), ids=DENIED)
async def test_denied_without_telling_what_exists(
    node: Node, publisher: AsyncPublisher, channel: str
) -> None:
    if channel == "run-results/secret":
        await publisher.publish(channel, "there is something")
    async with connected(node.url, make_token("u", ["notifications/*", "run-results/u"])) as client:
        await client.send({"type": "subscribe", "channel": channel})
        assert await client.receive() == {
            "type": "error",
            "message": "Not allowed to subscribe to this channel",
            "code": "forbidden",
            "help": "docs/errors.md#forbidden",
            "channel": channel,
        }
        if channel != "nowhere/x":
            await publisher.publish_many([(channel, "not for you")])
        await client.sync()


async def test_a_grant_opens_a_session_to_one_user(node: Node, publisher: AsyncPublisher) -> None:
    await publisher.grant("run-results/s", "u")
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("run-results/s")
    async with connected(node.url, make_token("v")) as client:
        await client.send({"type": "subscribe", "channel": "run-results/s"})
        await client.expect(type="error", code="forbidden")


async def test_a_grant_to_everybody_opens_it_to_all(node: Node, publisher: AsyncPublisher) -> None:
    await publisher.grant("run-results/s", EVERYBODY)
    async with connected(node.url, make_token("v")) as client:
        await client.subscribe("run-results/s")


@pytest.mark.parametrize("claim", ["run-results/s", "run-results/*"])
async def test_the_channels_claim_opens_sessions(node: Node, claim: str) -> None:
    async with connected(node.url, make_token("u", [claim])) as client:
        await client.subscribe("run-results/s")


async def test_a_revoked_grant_ends_the_subscription_and_says_why(
    node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.grant("run-results/s", "u")
    async with (
        connected(node.url, make_token("u")) as granted,
        connected(node.url, make_token("v", ["run-results/s"])) as claimed,
    ):
        await granted.subscribe("run-results/s")
        await claimed.subscribe("run-results/s")
        assert await publisher.revoke("run-results/s", "u")
        await granted.expect(type="unsubscribed", channel="run-results/s", reason="revoked")
        await publisher.publish("run-results/s", 1)
        assert await claimed.data(1) == [1]
        await granted.sync()


async def test_a_revocation_that_went_unheard_is_made_good(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    await publisher.grant("run-results/s", "u")
    async with connected(node.url, make_token("u")) as granted:
        await granted.subscribe("run-results/s")
        # What a revocation leaves when nobody hears of it.
        await publisher._client.zrem(f"{prefix}:grant:{{run-results/s}}", "u")
        await granted.sync()
        await ask_all(publisher._client, "CLIENT", "KILL", "TYPE", "pubsub")
        await granted.expect(type="unsubscribed", channel="run-results/s", reason="revoked")


async def test_revoking_from_everybody_spares_those_granted_by_name(
    node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.grant("run-results/s", EVERYBODY)
    await publisher.grant("run-results/s", "u")
    async with (
        connected(node.url, make_token("u")) as named,
        connected(node.url, make_token("v")) as anybody,
    ):
        await named.subscribe("run-results/s")
        await anybody.subscribe("run-results/s")
        await publisher.revoke("run-results/s", EVERYBODY)
        await anybody.expect(type="unsubscribed", reason="revoked")
        await publisher.publish("run-results/s", 1)
        assert await named.data(1) == [1]


SHORT = 2
"""Seconds of a grant that ends in a test: longer than anything that comes between two lines of it."""


async def test_a_subscription_ends_when_its_grant_does(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await publisher.grant("run-results/s", "u", SHORT)
        await client.subscribe("run-results/s")
        await publisher.publish("run-results/s", "heard")
        assert await client.data(1) == ["heard"]
        await client.expect(type="unsubscribed", channel="run-results/s", reason="expired")
        await publisher.publish("run-results/s", "not for you any more")
        await client.sync()


async def test_a_grants_end_is_noticed_within_a_second_and_not_before_it(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        granted = time.monotonic()
        await publisher.grant("run-results/s", "u", SHORT)
        await client.subscribe("run-results/s")
        await client.expect(type="unsubscribed", reason="expired")
        assert time.monotonic() - granted >= SHORT
    # What a node that is not held up adds, at most, besides one round trip.
    assert EXPIRY_STEP + node.gateway.entrance.sweep._pause <= 0.5


async def test_a_grant_that_is_renewed_in_time_goes_on_without_interruption(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        for number in range(2):
            for channel in ("run-results/s", "run-results/not-renewed"):
                await publisher.grant(channel, "u", SHORT)
            if not number:
                await client.subscribe("run-results/s")
            else:
                await client.expect(type="granted", channel="run-results/not-renewed")
            await client.subscribe("run-results/not-renewed")
            await publisher.grant("run-results/s", "u", 2 * SHORT)
            await client.expect(
                type="unsubscribed", channel="run-results/not-renewed", reason="expired"
            )
            await publisher.publish("run-results/s", number)
            assert await client.data(1) == [number]
        await client.expect(type="unsubscribed", channel="run-results/s", reason="expired")


@pytest.mark.parametrize(
    ("user", "everybody"), [(SHORT, 60), (60, SHORT), (SHORT, None), (None, SHORT)]
)
async def test_of_several_grants_the_one_that_ends_last_counts(
    node: Node, publisher: AsyncPublisher, user: int | None, everybody: int | None
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await publisher.grant("run-results/s", "u", user)
        await publisher.grant("run-results/s", EVERYBODY, everybody)
        await publisher.grant("run-results/later", "u", SHORT)
        await client.subscribe("run-results/s")
        await client.subscribe("run-results/later")
        await client.expect(type="unsubscribed", channel="run-results/later", reason="expired")
        await publisher.publish("run-results/s", "still heard")
        assert await client.data(1) == ["still heard"]


async def test_a_grant_that_is_shortened_ends_when_it_now_ends(
    node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.grant("run-results/s", "u", ttl=None)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("run-results/s")
        await publisher.grant("run-results/s", "u", SHORT)
        await client.expect(type="unsubscribed", channel="run-results/s", reason="expired")


async def test_what_only_an_old_token_opened_goes_on_while_a_grant_lasts(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u", ["run-results/*"])) as client:
        await client.subscribe("run-results/s")
        await publisher.grant("run-results/s", "u", SHORT)
        await client.send({"type": "refresh", "token": make_token("u")})
        await client.sync()
        await client.expect(type="unsubscribed", channel="run-results/s", reason="expired")


async def test_a_token_that_names_the_channel_again_outlasts_the_grant(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await publisher.grant("run-results/s", "u", SHORT)
        await publisher.grant("run-results/t", "u", SHORT)
        await client.subscribe("run-results/s")
        await client.subscribe("run-results/t")
        await client.send({"type": "refresh", "token": make_token("u", ["run-results/s"])})
        await client.expect(type="unsubscribed", channel="run-results/t", reason="expired")
        await publisher.publish("run-results/s", 1)
        assert await client.data(1) == [1]


async def test_a_grant_that_ended_opens_the_channel_again_once_it_is_given_again(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await publisher.grant("run-results/s", "u", SHORT)
        await client.subscribe("run-results/s")
        await client.expect(type="unsubscribed", reason="expired")
        await publisher.publish("run-results/s", "meanwhile")
        await publisher.grant("run-results/s", "u", ttl=60)
        await client.expect(type="granted", channel="run-results/s")
        await client.subscribe("run-results/s")
        assert await client.data(1) == ["meanwhile"]


@pytest.mark.parametrize("key", ["grant", "log", "confirmed"])
async def test_what_redis_refuses_for_good_is_answered_at_once_and_stops_nobody_else(
    node: Node, publisher: AsyncPublisher, prefix: str, key: str
) -> None:
    await publisher._client.hset(f"{prefix}:{key}:{{run-results/broken}}", "of another", "type")
    await publisher.grant("run-results/sound", "u")
    if key != "grant":
        await publisher.grant("run-results/broken", "u")
    async with connected(node.url, make_token("u")) as client:
        for _ in range(20):  # more than may read the log at once
            await client.send({"type": "subscribe", "channel": "run-results/broken"})
            await client.expect(type="error", code="internal_error", channel="run-results/broken")
        await client.subscribe("run-results/sound")
        await publisher.publish("run-results/sound", 1)
        assert await client.data(1) == [1]


async def test_a_grant_that_cannot_be_checked_any_more_ends_and_says_so(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await publisher.grant("run-results/s", "u", SHORT)
        await client.subscribe("run-results/s")
        await publisher._client.delete(f"{prefix}:grant:{{run-results/s}}")
        await publisher._client.set(f"{prefix}:grant:{{run-results/s}}", "of another type")
        await client.expect(type="unsubscribed", channel="run-results/s", reason="internal_error")


async def test_a_refreshed_token_that_names_fewer_channels_ends_subscriptions(node: Node) -> None:
    async with connected(node.url, make_token("u", ["run-results/*"])) as client:
        await client.subscribe("run-results/s")
        await client.send({"type": "refresh", "token": make_token("u")})
        await client.expect(type="unsubscribed", channel="run-results/s", reason="revoked")


async def test_a_new_namespace_needs_configuration_only(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(
        namespaces={
            "lessons": {"owner": "anyone", "retention": {"max_messages": 2, "max_age_seconds": 60}},
            "cursor": {"owner": "anyone", "retention": None},
        }
    )
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("cursor/1")
        await until(lambda: publisher.publish("cursor/1", {"x": 1}))
        message = await client.expect(type="cursor", data={"x": 1})
        assert "id" not in message
        await publisher.publish_many([("lessons/1", number) for number in range(3)])
        answer = await client.subscribe("lessons/1")
        assert "recovered" not in answer  # a newcomer has lost nothing
        assert await client.data(2) == [1, 2]
