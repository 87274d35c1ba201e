"""A receiver's channels that a grant opens later, and those that a token of their own opens; on real nodes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.client import Receiver, SubscriptionEnded, session
from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.integration.test_channel_tokens import channel_token
from tests.integration.test_receiver import taken
from tests.support.nodes import Node
from tests.support.scripted_gateway import scripted_gateway
from tests.support.tokens import make_token
from tests.support.waiting import PATIENCE, until

CHANNEL = "run-results/1"


async def test_a_refused_channel_begins_when_it_is_granted(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with Receiver(node.url, token=make_token("ann")) as receiver:
        waiting = receiver.subscribe(CHANNEL, wait_for_grant=True)
        other = receiver.subscribe("notifications/ann")
        await other.subscribed()
        await publisher.grant(CHANNEL, "ann")
        async with asyncio.timeout(PATIENCE):
            await waiting.subscribed()
        await publisher.publish(CHANNEL, 1)
        assert [each.data for each in await taken(aiter(waiting), 1)] == [1]


async def test_one_that_is_revoked_goes_on_behind_its_last_message(
    node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.grant(CHANNEL, "ann")
    async with Receiver(node.url, token=make_token("ann")) as receiver:
        subscription = receiver.subscribe(CHANNEL, wait_for_grant=True)
        messages = aiter(subscription)
        await subscription.subscribed()
        await publisher.publish(CHANNEL, 1)
        await taken(messages, 1)
        await publisher.revoke(CHANNEL, "ann")
        await until(lambda: CHANNEL not in node.gateway.hub.channels)
        await publisher.publish(CHANNEL, 2)
        await publisher.grant(CHANNEL, "ann")
        await publisher.publish(CHANNEL, 3)
        assert [each.data for each in await taken(messages, 2)] == [2, 3]


async def test_one_that_nobody_tells_of_is_asked_for_again(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_ASKED_AGAIN_SECONDS", 0.2)
    # Nobody is told of a token's claim: the next subscribe finds it.
    monkeypatch.setattr(session.Session, "_hear_of_channel", without_granted)
    async with Receiver(node.url, token=make_token("ann")) as receiver:
        waiting = receiver.subscribe(CHANNEL, wait_for_grant=True)
        await publisher.grant(CHANNEL, "ann")
        async with asyncio.timeout(PATIENCE):
            await waiting.subscribed()


HEAR = session.Session._hear_of_channel


async def without_granted(self: Any, kind: str, channel: str, message: dict[str, Any]) -> None:
    if kind != "granted":
        await HEAR(self, kind, channel, message)


async def test_without_it_a_refusal_is_the_end(node: Node, publisher: AsyncPublisher) -> None:
    async with Receiver(node.url, token=make_token("ann")) as receiver:
        with pytest.raises(SubscriptionEnded) as ended:
            await receiver.subscribe(CHANNEL).subscribed()
        assert ended.value.code == "forbidden"


@contextlib.asynccontextmanager
async def shown(node: Node, source: Any) -> Any:
    """A subscription with a channel token, live."""
    async with Receiver(node.url, token=make_token("ann")) as receiver:
        subscription = receiver.subscribe(CHANNEL, token=source)
        async with asyncio.timeout(PATIENCE):
            await subscription.subscribed()
        yield subscription


async def test_a_channel_token_opens_its_channel(node: Node, publisher: AsyncPublisher) -> None:
    async with shown(node, channel_token()) as subscription:
        await publisher.publish(CHANNEL, 1)
        assert [each.data for each in await taken(aiter(subscription), 1)] == [1]


async def test_it_is_shown_again_to_the_next_node(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node()
    asked = 0

    async def source() -> str:
        nonlocal asked
        asked += 1
        return channel_token()

    async with shown(node, source) as subscription:
        (connection,) = node.gateway.hub.connections
        await publisher.disconnect("ann")
        await until(lambda: {*node.gateway.hub.connections} - {connection})
        await until(lambda: asked == 2)
        await publisher.publish(CHANNEL, 1)
        assert [each.data for each in await taken(aiter(subscription), 1)] == [1]


def lasting(*tokens: Any, first: int = 2) -> tuple[Callable[[], str], float]:
    """A source whose first token lasts ``first`` seconds, and gives these afterwards, the last one for ever; and that end."""
    ends = int(time.time()) + first
    left = [channel_token(exp=ends), *tokens]
    return lambda: left.pop(0) if len(left) > 1 else left[0], ends


async def test_a_new_one_is_shown_before_the_old_one_ends(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_NEW_SECONDS", 0.1)
    source, ends = lasting(channel_token())
    async with shown(node, source) as subscription:
        await until(lambda: time.time() > ends)
        await publisher.publish(CHANNEL, 1)
        assert [each.data for each in await taken(aiter(subscription), 1)] == [1]
        assert not subscription.ended


async def test_a_new_one_that_is_refused_ends_nothing_and_another_is_asked_for(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_NEW_SECONDS", 0.1)
    monkeypatch.setattr(session, "_AGAIN_SECONDS", 0.1)
    source, ends = lasting(channel_token("bob"), channel_token())
    async with shown(node, source) as subscription:
        (connection,) = node.gateway.hub.connections.values()
        first = connection.subscriptions[CHANNEL]
        await until(lambda: time.time() > ends)
        await publisher.publish(CHANNEL, 1)
        assert [each.data for each in await taken(aiter(subscription), 1)] == [1]
        assert connection.subscriptions[CHANNEL] is first  # so there was no gap
        assert node.gateway.hub.stats.client_errors["token_invalid"] == 1


async def test_without_a_good_one_the_subscription_ends_at_the_gateway_too(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_NEW_SECONDS", 0.1)
    monkeypatch.setattr(
        session.random, "random", lambda: 1.0
    )  # not asked again before the old one ends
    source, ends = lasting(channel_token("bob"))
    async with shown(node, source) as subscription:
        messages = aiter(subscription)
        await until(lambda: node.gateway.hub.stats.client_errors["token_invalid"])
        await publisher.publish(CHANNEL, 1)
        assert [each.data for each in await taken(messages, 1)] == [1]
        with pytest.raises(SubscriptionEnded) as ended:
            await taken(messages, 1)
        assert ended.value.code == "token_invalid"
        assert time.time() >= ends
        await until(lambda: not node.gateway.hub.channels)


async def test_a_subscription_that_begins_when_nobody_waits_for_it_any_more_is_left() -> None:
    async with scripted_gateway() as gateway, Receiver(gateway.url, token="t") as receiver:
        subscription = receiver.subscribe(CHANNEL)
        visit = await gateway.visit()
        await visit.greet()
        await visit.expect(type="subscribe", channel=CHANNEL)
        # The end of the one before crosses a request for the next.
        await visit.say({"type": "unsubscribed", "channel": CHANNEL, "reason": "expired"})
        with pytest.raises(SubscriptionEnded):
            await subscription.subscribed()
        await visit.say({"type": "subscribed", "channel": CHANNEL})
        await visit.expect(type="unsubscribe", channel=CHANNEL)


async def test_one_that_says_nothing_of_its_end_and_cannot_be_renewed_ends_the_subscription(
    node: Node,
) -> None:
    async with shown(node, channel_token(exp=int(time.time()) + 2)) as subscription:
        with pytest.raises(SubscriptionEnded) as ended:
            await taken(aiter(subscription), 1)
        assert ended.value.code == "expired"


async def test_a_source_that_gives_no_token_ends_the_subscription(node: Node) -> None:
    nothing: Any = None
    async with Receiver(node.url, token=make_token("ann")) as receiver:
        with pytest.raises(SubscriptionEnded, match="there is no token") as ended:
            await receiver.subscribe(CHANNEL, token=lambda: nothing).subscribed()
        assert ended.value.code == "token_missing"


async def test_a_source_that_fails_is_asked_again_and_a_wrong_token_is_the_end(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_AGAIN_SECONDS", 0.1)
    answers: list[Any] = [OSError("the login is away"), channel_token()]

    def source() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with shown(node, source):
        assert not answers
    async with Receiver(node.url, token=make_token("ann")) as receiver:
        with pytest.raises(SubscriptionEnded) as ended:
            await receiver.subscribe(CHANNEL, token=channel_token("bob")).subscribed()
        assert ended.value.code == "token_invalid"
