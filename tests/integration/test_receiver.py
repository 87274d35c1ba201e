"""``gateway.client.Receiver`` against real nodes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from typing import Any

import pytest
from aiohttp import web

from gateway.client import (
    ConnectionEnded,
    Message,
    Receiver,
    ReceiverError,
    SubscriptionEnded,
    session,
    subscription,
)
from gateway.client import receiver as receiving
from gateway.node.confirmation import Confirmation
from publisher import AsyncPublisher
from publisher.contract.channels import Retention
from tests.integration.conftest import StartNode
from tests.support.nodes import Node
from tests.support.redis_server import free_port
from tests.support.scripted_gateway import scripted_gateway
from tests.support.served import served
from tests.support.tokens import make_token
from tests.support.waiting import PATIENCE, until

CHANNEL = "notifications/u"


async def taken(messages: Any, count: int) -> list[Message]:
    """The next ``count`` messages of a subscription, which goes on."""
    async with asyncio.timeout(PATIENCE):
        return [await anext(messages) for _ in range(count)]


async def test_messages_come_as_they_were_published(node: Node, publisher: AsyncPublisher) -> None:
    async with Receiver(node.url, token=make_token("u")) as receiver:
        messages = receiver.subscribe(CHANNEL)
        await messages.subscribed()
        published = await publisher.publish(CHANNEL, {"n": [1, "é"]})
        (message,) = await taken(aiter(messages), 1)
        assert message == Message(
            CHANNEL, {"n": [1, "é"]}, published.id // 1000, published.id, "notifications"
        )
        assert receiver.user == "u"


async def test_what_was_missed_comes_first_and_since_brings_all(
    node: Node, publisher: AsyncPublisher
) -> None:
    ids = [(await publisher.publish(CHANNEL, number)).id for number in range(4)]
    async with Receiver(node.url, token=make_token("u")) as receiver:
        messages = await taken(aiter(receiver.subscribe(CHANNEL)), 4)
        assert [each.data for each in messages] == [0, 1, 2, 3]
    async with Receiver(node.url, token=make_token("u")) as receiver:
        messages = await taken(aiter(receiver.subscribe(CHANNEL, since=ids[1])), 2)
        assert [each.data for each in messages] == [2, 3]


async def test_a_token_may_come_from_a_coroutine_and_several_channels_share_a_connection(
    node: Node, publisher: AsyncPublisher
) -> None:
    async def token() -> str:
        return make_token("u", channels=["run-results/*"])

    async with Receiver(node.url, token=token) as receiver:
        both = [receiver.subscribe(name) for name in (CHANNEL, "run-results/s")]
        for each in both:
            await each.subscribed()
        await publisher.publish(CHANNEL, 1)
        await publisher.publish("run-results/s", 2)
        assert [(await taken(aiter(each), 1))[0].data for each in both] == [1, 2]
        assert len(node.gateway.hub.connections) == 1


async def test_who_leaves_the_loop_leaves_the_channel(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with Receiver(node.url, token=make_token("u")) as receiver:
        for number in range(3):  # and may come back, also before the gateway has answered
            await publisher.publish(CHANNEL, number)
            async for message in receiver.subscribe(CHANNEL):
                assert message.data == number
                break
            gc.collect()
            await until(lambda: not receiver._subscriptions)
        await until(lambda: not node.gateway.hub.channels)


async def test_the_same_channel_twice_is_a_mistake(node: Node) -> None:
    async with Receiver(node.url, token=make_token("u")) as receiver:
        receiver.subscribe(CHANNEL)
        with pytest.raises(ValueError, match="already"):
            receiver.subscribe(CHANNEL)


async def test_a_channel_that_is_not_the_users_ends_its_loop_and_no_other(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with Receiver(node.url, token=make_token("u")) as receiver:
        own, other = receiver.subscribe(CHANNEL), receiver.subscribe("run-results/s")
        with pytest.raises(SubscriptionEnded, match="run-results/s: forbidden") as caught:
            await other.subscribed()
        assert (caught.value.channel, caught.value.code) == ("run-results/s", "forbidden")
        await publisher.publish(CHANNEL, 1)
        assert (await taken(aiter(own), 1))[0].data == 1
        await publisher.grant("run-results/s", "u")
        again = receiver.subscribe("run-results/s")
        await again.subscribed()
        await publisher.publish("run-results/s", 2)
        await publisher.revoke("run-results/s", "u")
        messages = aiter(again)
        assert (await taken(messages, 1))[0].data == 2
        with pytest.raises(SubscriptionEnded, match="revoked"):
            await taken(messages, 1)


async def test_a_client_that_is_not_let_in_is_told_why(node: Node) -> None:
    async with Receiver(node.url, token="nonsense") as receiver:
        with pytest.raises(ConnectionEnded, match=r"token_invalid.*Authentication failed"):
            await taken(aiter(receiver.subscribe(CHANNEL)), 1)
        with pytest.raises(ConnectionEnded):  # and whoever comes later too
            await receiver.subscribe("notifications/x").subscribed()
    async with Receiver(f"{node.url}/nowhere", token=make_token("u")) as receiver:
        with pytest.raises(ConnectionEnded, match=r"not_found.*404"):
            await taken(aiter(receiver.subscribe(CHANNEL)), 1)


async def test_what_the_gateway_says_about_how_to_mend_it_is_passed_on(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.client")
    letter: Any = "x"
    async with Receiver(node.url, token=make_token("u")) as receiver:
        with pytest.raises(SubscriptionEnded, match=r"Invalid channel name: a channel is ") as none:
            await receiver.subscribe("nope").subscribed()
        assert (none.value.detail or "").startswith("a channel is ")
        assert none.value.help == "docs/errors.md#invalid_channel"
        with pytest.raises(SubscriptionEnded, match=r"format: 'since' ") as wrong:
            await receiver.subscribe(CHANNEL, since=letter).subscribed()
        assert wrong.value.code == "invalid_message"
    tokens = ["nonsense", "nonsense"]
    async with Receiver(node.url, token=tokens.pop) as receiver:
        with pytest.raises(ConnectionEnded, match=r"failed: get a new token") as ended:
            await receiver.subscribe(CHANNEL).subscribed()
    assert ended.value.detail == "get a new token"
    assert ended.value.help == "docs/errors.md#token_invalid"
    assert "told='Authentication failed: get a new token'" in caplog.text
    async with Receiver(f"{node.url}/nowhere", token=make_token("u")) as receiver:
        with pytest.raises(ConnectionEnded) as nowhere:
            await receiver.subscribe(CHANNEL).subscribed()
    assert nowhere.value.help == "docs/errors.md#not_found"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "None, not a str"),
        (b"t", "type bytes"),
        (" ", "empty"),
        *(
            (each, "has characters that no token has$")
            for each in ("a.b…", "\ufeffa.b", "a b", "a\nb")
        ),
    ],
)
async def test_without_a_token_nobody_is_asked(given: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"there is no token.*{told}"):
        Receiver("ws://127.0.0.1:1", token=given)
    async with Receiver("ws://127.0.0.1:1", token=lambda: given) as receiver:
        with pytest.raises(ConnectionEnded, match=f"there is no token.*{told}") as ended:
            await asyncio.wait_for(receiver.subscribe(CHANNEL).subscribed(), PATIENCE)
    assert (ended.value.code, ended.value.reason) == (1008, "token_missing")


@pytest.mark.parametrize("around", [str, lambda token: lambda: token])
async def test_space_around_a_token_is_left_out(node: Node, around: Any) -> None:
    async with Receiver(node.url, token=around(f" {make_token('u')}\n")) as receiver:
        await receiver.subscribe(CHANNEL).subscribed()


async def test_why_an_attempt_has_failed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.client")
    async with Receiver(f"ws://127.0.0.1:{free_port()}", token=make_token("u")):
        await until(lambda: "receiver_disconnected" in caplog.text)
    assert "reason='connection_failed' told=\"[Errno 111] " in caplog.text


async def test_a_login_is_asked_for_one_more_token(node: Node, publisher: AsyncPublisher) -> None:
    tokens = ["of-the-keys-before", make_token("u")]
    async with Receiver(node.url, token=lambda: tokens.pop(0)) as receiver:
        await publisher.publish(CHANNEL, 1)
        assert (await taken(aiter(receiver.subscribe(CHANNEL)), 1))[0].data == 1
    assert tokens == []


async def test_a_token_is_renewed_before_the_connection_ends_with_it(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(jwt_leeway_seconds=0)
    ends = int(time.time()) + 2
    tokens = [make_token("u", exp=ends), make_token("u")]
    async with Receiver(node.url, token=lambda: tokens.pop(0)) as receiver:
        messages = receiver.subscribe(CHANNEL)
        await messages.subscribed()
        first = list(node.gateway.hub.connections)
        await until(lambda: time.time() > ends + 0.2)
        await publisher.publish(CHANNEL, 1)
        assert (await taken(aiter(messages), 1))[0].data == 1
        assert list(node.gateway.hub.connections) == first


async def test_messages_that_are_lost_are_told_between_those_before_and_behind(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    told: list[object] = []
    node = await start_node()
    old = await publisher.publish(CHANNEL, "old")
    keep_one = Retention(1, 3600)
    for data in ("trimmed", "kept"):
        await publisher.publish(CHANNEL, data, retention=keep_one)
    async with Receiver(node.url, token=make_token("u"), on_gap=told.append) as receiver:
        messages = receiver.subscribe(CHANNEL, since=old.id)
        await until(lambda: messages._waiting.qsize() == 2)
        assert told == []  # nobody has read that far
        told += [(await taken(aiter(messages), 1))[0].data]
    assert told == [CHANNEL, "kept"]


async def test_a_reader_that_takes_its_time_holds_a_bounded_number_and_loses_nothing(
    node: Node, publisher: AsyncPublisher
) -> None:
    count = 3 * subscription._MOST_WAITING
    async with Receiver(node.url, token=make_token("u")) as receiver:
        messages = receiver.subscribe(CHANNEL)
        await messages.subscribed()
        await publisher.publish_many([(CHANNEL, number) for number in range(count)])
        await until(lambda: messages._waiting.qsize() == subscription._MOST_WAITING)
        assert [each.data for each in await taken(aiter(messages), count)] == list(range(count))


async def test_an_ack_counts_as_received(
    start_node: StartNode, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pongs prove less, and sooner: here they prove nothing.
    monkeypatch.setattr(Confirmation, "_answer", lambda *_arguments: None)
    node = await start_node()
    async with Receiver(node.url, token=make_token("u"), ack=True) as receiver:
        messages = receiver.subscribe(CHANNEL)
        await messages.subscribed()
        await publisher.publish_many([(CHANNEL, number) for number in range(3)])
        reader = aiter(messages)
        await taken(reader, 3)  # so two have been processed
    async with Receiver(node.url, token=make_token("u")) as receiver:
        assert (await taken(aiter(receiver.subscribe(CHANNEL)), 1))[0].data == 2


async def test_closing_ends_the_loops(node: Node) -> None:
    async with Receiver(node.url, token=make_token("u")) as receiver:
        messages = receiver.subscribe(CHANNEL)
        await messages.subscribed()
        reading = asyncio.create_task(_all(messages))
    assert await asyncio.wait_for(reading, PATIENCE) == []
    await until(lambda: not node.gateway.hub.connections)


async def _all(messages: Any) -> list[Message]:
    return [message async for message in messages]


@pytest.mark.parametrize("url", ["http://host", "localhost:3001", ""])
def test_a_url_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="ws://"), contextlib.suppress(TypeError):
        Receiver(url, token="t")


# -- what no real node can be made to say -------------------------------------------------------------


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(receiving.random, "random", lambda: 0.0)


@pytest.mark.usefixtures("soon")
async def test_a_new_connection_goes_on_behind_the_last_message_and_repeats_are_left_out() -> None:
    async with scripted_gateway() as gateway, Receiver(gateway.url, token="t") as receiver:
        reader = aiter(receiver.subscribe(CHANNEL))
        visit = await gateway.visit()
        assert visit.authorization == "Bearer t"
        await visit.greet()
        await visit.expect(type="subscribe", channel=CHANNEL)
        await visit.say({"type": "subscribed", "channel": CHANNEL})
        await visit.publish(CHANNEL, 3, 5)
        assert [each.id for each in await taken(reader, 2)] == [3, 5]
        for end in ((1001, "draining"), (1013, "slow_consumer"), (3008, "pong_timeout")):
            await visit.close(*end)
            visit = await gateway.visit()
            await visit.greet()
            await visit.expect(type="subscribe", channel=CHANNEL, since=5)
        await visit.say({"type": "subscribed", "channel": CHANNEL, "recovered": True})
        await visit.publish(CHANNEL, 3, 5, 6)
        assert [each.id for each in await taken(reader, 1)] == [6]


@pytest.mark.usefixtures("soon")
async def test_before_its_first_message_it_goes_on_where_the_subscription_began() -> None:
    """Another device of the user may have received what has come meanwhile."""
    async with scripted_gateway() as gateway, Receiver(gateway.url, token="t") as receiver:
        reader = aiter(receiver.subscribe(CHANNEL))
        visit = await gateway.visit()
        await visit.greet()
        await visit.expect(type="subscribe", channel=CHANNEL)
        await visit.say({"type": "subscribed", "channel": CHANNEL, "position": 4})
        await visit.close(1001, "draining")
        visit = await gateway.visit()
        await visit.greet()
        await visit.expect(type="subscribe", channel=CHANNEL, since=4)
        await visit.publish(CHANNEL, 5)
        assert [each.id for each in await taken(reader, 1)] == [5]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    "loss",
    [
        {"type": "subscribed", "channel": CHANNEL, "recovered": False},
        {"type": "error", "channel": CHANNEL, "code": "messages_lost", "message": "lost"},
    ],
    ids=["recovered", "messages_lost"],
)
async def test_after_a_loss_lower_ids_count_again(loss: dict[str, Any]) -> None:
    told: list[object] = []
    async with (
        scripted_gateway() as gateway,
        Receiver(gateway.url, token="t", on_gap=told.append) as receiver,
    ):
        reader = aiter(receiver.subscribe(CHANNEL))
        visit = await gateway.visit()
        await visit.greet()
        await visit.expect(type="subscribe", channel=CHANNEL)
        await visit.publish(CHANNEL, 9)
        await visit.say(loss)
        await visit.publish(CHANNEL, 4)
        for _ in range(2):
            told += [each.id for each in await taken(reader, 1)]
        assert told == [9, CHANNEL, 4]


async def test_what_comes_for_one_who_has_left_is_not_given_to_the_next() -> None:
    async with scripted_gateway() as gateway, Receiver(gateway.url, token="t") as receiver:
        first = receiver.subscribe(CHANNEL)
        visit = await gateway.visit()
        await visit.greet()
        await visit.expect(type="subscribe", channel=CHANNEL)
        await visit.say({"type": "subscribed", "channel": CHANNEL})
        await first.subscribed()
        first.unsubscribe()
        second = receiver.subscribe(CHANNEL, since=0)
        await visit.expect(type="unsubscribe", channel=CHANNEL)
        await visit.expect(type="subscribe", channel=CHANNEL, since=0)
        await visit.publish(CHANNEL, 7)  # which would have 1 and 2 taken for repeats
        await visit.say({"type": "unsubscribed", "channel": CHANNEL})
        await visit.say({"type": "subscribed", "channel": CHANNEL, "recovered": True})
        await visit.publish(CHANNEL, 1, 2, 7)
        assert [each.id for each in await taken(aiter(second), 3)] == [1, 2, 7]


@pytest.mark.usefixtures("soon")
async def test_a_dead_line_is_noticed_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_QUIET_SECONDS", 0.1)
    async with scripted_gateway() as gateway, Receiver(gateway.url, token="t") as receiver:
        receiver._patience.seconds = 0.1
        receiver.subscribe(CHANNEL)
        first = await gateway.visit()
        await first.greet()
        await first.expect(type="subscribe", channel=CHANNEL)
        await first.expect(type="heartbeat")
        second = await gateway.visit()
        await second.greet()
        assert receiver._patience.seconds == 0.2
        await second.expect(type="subscribe", channel=CHANNEL)
        await second.expect(type="heartbeat")
        await second.say({"type": "heartbeat", "timestamp": 0})
        await until(lambda: receiver._patience == session.Patience())


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("code", ["channel_full", "internal_error"])
async def test_a_channel_that_cannot_be_had_at_the_moment_is_asked_for_again(code: str) -> None:
    async with scripted_gateway() as gateway, Receiver(gateway.url, token="t") as receiver:
        receiver.subscribe(CHANNEL)
        visit = await gateway.visit()
        await visit.greet()
        for _ in range(3):
            await visit.expect(type="subscribe", channel=CHANNEL)
            await visit.say({"type": "error", "channel": CHANNEL, "code": code, "message": "m"})


async def test_acks_follow_what_was_processed_and_the_last_ones_leave_before_the_end() -> None:
    async with scripted_gateway() as gateway:
        async with Receiver(gateway.url, token="t", ack=True) as receiver:
            reader = aiter(receiver.subscribe(CHANNEL))
            visit = await gateway.visit()
            await visit.greet()
            await visit.say({"type": "subscribed", "channel": CHANNEL})
            await visit.publish(CHANNEL, *range(1, 101))
            await taken(reader, 100)
        await visit.expect(type="subscribe", channel=CHANNEL)
        acks = visit.heard[1:]
        await until(lambda: visit.heard[-1] == {"type": "ack", "channel": CHANNEL, "id": 99})
        # Gathered, since each counts towards what a client may send.
        assert len(acks) <= 3


@pytest.mark.usefixtures("soon")
async def test_a_login_that_fails_when_the_token_is_about_to_end_is_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers: list[str | Exception] = ["first", RuntimeError("the login is away"), "second"]

    def token() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with scripted_gateway() as gateway, Receiver(gateway.url, token=token) as receiver:
        receiver.subscribe(CHANNEL)
        visit = await gateway.visit()
        assert visit.authorization == "Bearer first"
        await visit.greet()
        await visit.expect(type="subscribe", channel=CHANNEL)
        await visit.say({"type": "token_expiring", "expiresAt": 1})
        await visit.expect(type="refresh", token="second")
    assert "token_unavailable error=RuntimeError('the login is away')" in caplog.text


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    hits: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        hits.append(request.path)
        raise web.HTTPFound(f"http://127.0.0.1:{request.url.port}/taken")

    app = web.Application()
    app.router.add_get("/{path:.*}", elsewhere)
    async with served(app) as port, Receiver(f"ws://127.0.0.1:{port}", token="t") as receiver:
        with pytest.raises(ConnectionEnded, match="302"):
            await taken(aiter(receiver.subscribe(CHANNEL)), 1)
    assert hits == ["/"]


async def test_what_nobody_expects_is_raised_and_does_not_look_like_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scripted_gateway() as gateway, Receiver(gateway.url, token="t") as receiver:
        reader = aiter(receiver.subscribe(CHANNEL))
        visit = await gateway.visit()
        await visit.greet()
        await visit.expect(type="subscribe", channel=CHANNEL)
        await visit.say({"type": "notifications", "channel": CHANNEL, "data": 1})
        with pytest.raises(ReceiverError, match="KeyError") as raised:
            await taken(reader, 1)
        assert raised.value.__cause__ is not None
        with pytest.raises(ReceiverError):
            await taken(aiter(receiver.subscribe("notifications/other")), 1)
    assert "receiver_failed" in caplog.text
