"""Tokens that a backend signs for one user and one channel, shown with a ``subscribe``."""

from __future__ import annotations

import asyncio
import gc
import json
import secrets
import time
from typing import Any

import jwt
import pytest

from gateway.core.protocol import Subscribe
from gateway.node.channel_tokens import _DETAIL
from gateway.node.connection import Subscription
from publisher import AsyncPublisher
from tests.faults.proxy import Proxy
from tests.integration.conftest import StartNode
from tests.support.client import Client, connected, opened
from tests.support.identity_provider import IdentityProvider, rsa_key
from tests.support.nodes import Node, running_node
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until

CHANNEL = "run-results/1"


def channel_token(
    user: str = "ann",
    channel: str = CHANNEL,
    secret: str = SECRET,
    typ: str | None = "channel+jwt",
    **claims: Any,
) -> str:
    """A token for one channel, valid for an hour unless ``claims`` say otherwise; a claim of None is left out."""
    given = {"sub": user, "channel": channel, "exp": int(time.time()) + 3600, **claims}
    body = {name: value for name, value in given.items() if value is not None}
    return jwt.encode(body, secret, "HS256", {"typ": typ})


def subscribe(token: str | None, channel: str = CHANNEL, **more: Any) -> dict[str, Any]:
    return {"type": "subscribe", "channel": channel, "token": token, **more}


def subscription_of(node: Node, channel: str = CHANNEL) -> Subscription:
    (connection,) = node.gateway.hub.connections.values()
    return connection.subscriptions[channel]


async def hears(client: Client, publisher: AsyncPublisher, channel: str = CHANNEL) -> None:
    """What is published now comes next."""
    said = secrets.token_hex(4)
    await publisher.publish(channel, said)
    await client.expect(type=channel.partition("/")[0], channel=channel, data=said)


# -- what they open -------------------------------------------------------------------------------


async def test_a_channel_token_opens_its_channel_without_a_grant(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(None))
        await client.expect(type="error", code="forbidden")
        await client.send(subscribe(channel_token()))
        await client.expect(type="subscribed", channel=CHANNEL)
        await hears(client, publisher)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another user's": ({"user": "bob"}, "token_invalid"),
    "another channel's": ({"channel": "run-results/2"}, "token_invalid"),
    "a pattern": ({"channel": "run-results/*"}, "token_invalid"),
    "no channel": ({"channel": None}, "token_invalid"),
    "several channels": ({"channel": [CHANNEL]}, "token_invalid"),
    "no user": ({"user": None}, "token_invalid"),
    "no end": ({"exp": None}, "token_invalid"),
    "over": ({"exp": 1}, "token_expired"),
    "not valid yet": ({"nbf": 2**31}, "token_not_yet_valid"),
    "signed by somebody": ({"secret": SECRET[::-1]}, "token_invalid"),
    "a connection's": ({"typ": "JWT"}, "token_invalid"),
    "without a type": ({"typ": None}, "token_invalid"),
    "for somebody": ({"aud": "other"}, "token_invalid"),
    "its id is a list": ({"jti": ["a"]}, "token_invalid"),
}


@pytest.mark.parametrize(("changes", "code"), REFUSED.values(), ids=REFUSED)
async def test_a_token_that_is_not_for_this_user_and_channel_opens_nothing(
    node: Node, changes: dict[str, Any], code: str
) -> None:
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token(**changes)))
        error = await client.expect(type="error", code=code, channel=CHANNEL)
        assert error["detail"]
        await client.sync()
        (connection,) = node.gateway.hub.connections.values()
        assert not connection.subscriptions


async def test_a_channel_token_lets_nobody_in(node: Node) -> None:
    async with opened(node.url, channel_token()) as client:
        await client.expect(type="error", code="token_invalid")
        assert await client.expect_close() == (1008, "token_invalid")
    async with connected(node.url, make_token("ann")) as client:
        await client.send({"type": "refresh", "token": channel_token()})
        await client.expect(type="error", code="token_invalid")


async def test_a_token_of_the_connection_is_none_for_a_channel(node: Node) -> None:
    token = make_token("ann", channel=CHANNEL)
    async with connected(node.url, token) as client:
        await client.send(subscribe(token))
        await client.expect(type="error", code="token_invalid")


async def test_a_channel_token_opens_no_other_users_own_channel(node: Node) -> None:
    channel = "notifications/bob"
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token(channel=channel), channel))
        await client.expect(type="error", code="forbidden")


async def test_a_key_for_channels_signs_for_channels_only(start_node: StartNode) -> None:
    backends = "the secret that backends sign grants with"
    keys = [{"secret": backends, "for": "channel"}, {"secret": SECRET, "for": "connection"}]
    node = await start_node(jwt_secret=None, jwt_keys=json.dumps(keys))
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token()))
        await client.expect(type="error", code="token_invalid")
        await client.send(subscribe(channel_token(secret=backends)))
        await client.expect(type="subscribed")
    async with opened(node.url, jwt.encode({"sub": "ann", "exp": 2**31}, backends)) as client:
        await client.expect(type="error", code="token_invalid")


async def test_a_channel_token_waits_for_its_key(start_node: StartNode) -> None:
    idp = IdentityProvider()
    idp.publish("a")
    async with idp.running():
        keys = [
            {"jwks_url": idp.jwks_url, "issuer": idp.issuer, "audience": "us", "for": "channel"}
        ]
        node = await start_node(jwt_keys=json.dumps(keys))
        claims = {"sub": "ann", "channel": CHANNEL, "exp": 2**31, "iss": idp.issuer, "aud": "us"}
        async with connected(node.url, make_token("ann")) as client:
            for kid, answer in (
                ("a", {"type": "subscribed"}),
                ("b", {"code": "token_key_unknown"}),
            ):
                header = {"typ": "channel+jwt", "kid": kid}
                token = jwt.encode(claims, rsa_key(kid), "RS256", header)
                await client.send(subscribe(token))
                await client.expect(**answer)


@pytest.mark.parametrize("token", [5, True, ["a"], {}])
async def test_a_token_that_is_no_text_is_a_mistake(node: Node, token: Any) -> None:
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(token))
        await client.expect(type="error", code="invalid_message", detail="'token' must be a string")


@pytest.mark.parametrize("token", ["x" * 4_097, "é" * 10])
async def test_a_token_that_is_too_long_is_not_looked_at(node: Node, token: str) -> None:
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe("x" * 4_096))
        await client.expect(type="error", code="token_invalid", detail=_DETAIL)
        await client.send(subscribe(token))
        error = await client.expect(type="error", code="token_invalid", channel=CHANNEL)
        assert error["detail"] == "a channel token has at most 4096 characters, all of ASCII"


# -- their end ------------------------------------------------------------------------------------


async def test_a_subscription_ends_with_its_channel_token(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(jwt_leeway_seconds=0)
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token(exp=int(time.time()) + 2)))
        await client.expect(type="subscribed")
        await client.expect(type="unsubscribed", channel=CHANNEL, reason="expired")
        await publisher.publish(CHANNEL, "later")
        await client.sync()
        # As for a grant: it may be granted again.
        await publisher.grant(CHANNEL, "ann")
        await client.expect(type="granted", channel=CHANNEL)


async def test_where_there_is_a_grant_too_the_subscription_stays(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(jwt_leeway_seconds=0)
    await publisher.grant(CHANNEL, "ann")
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token(exp=int(time.time()) + 2)))
        await client.expect(type="subscribed")
        subscription = subscription_of(node)
        await until(lambda: subscription.passed is None)
        await hears(client, publisher)
        await publisher.revoke(CHANNEL, "ann")
        await client.expect(type="unsubscribed", reason="revoked")


async def test_a_grant_that_is_taken_back_leaves_who_has_a_channel_token(
    node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.grant(CHANNEL, "ann")
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(None))
        await client.expect(type="subscribed")
        await client.send(subscribe(channel_token()))
        await client.expect(type="subscribed")
        await publisher.revoke(CHANNEL, "ann")
        await hears(client, publisher)


async def test_another_channel_token_renews(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(jwt_leeway_seconds=0)
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token(exp=int(time.time()) + 2)))
        await client.expect(type="subscribed")
        ends_at = int(time.time()) + 600
        await client.send(subscribe(channel_token(exp=ends_at)))
        await client.expect(type="subscribed")
        passed = subscription_of(node).passed
        assert passed is not None
        assert passed.expires_at == ends_at
        await hears(client, publisher)


@pytest.mark.parametrize("changes", [{"user": "bob"}, {"exp": 1}, {"jti": "revoked"}])
async def test_a_bad_renewal_is_told_and_the_old_token_stays_in_force(
    node: Node, publisher: AsyncPublisher, changes: dict[str, Any]
) -> None:
    await publisher.revoke_token("revoked", time.time() + 600)
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token()))
        await client.expect(type="subscribed")
        before = subscription_of(node).passed
        await client.send(subscribe(channel_token(**changes)))
        await client.expect(type="error", channel=CHANNEL)
        assert subscription_of(node).passed is before
        await hears(client, publisher)


async def test_the_last_of_several_tokens_counts_and_each_is_answered(node: Node) -> None:
    now = int(time.time())
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token()))
        await client.expect(type="subscribed")
        for seconds in range(100, 110):
            await client.send(subscribe(channel_token(exp=now + seconds)))
        for _ in range(10):
            await client.expect(type="subscribed")
        passed = subscription_of(node).passed
        assert passed is not None
        assert passed.expires_at == now + 109 + 5
        assert not node.gateway.access.subscriptions._channel_tokens._renewals


async def test_tokens_shown_before_the_first_answer_are_answered_too(node: Node) -> None:
    async with connected(node.url, make_token("ann")) as client:
        for token in (None, channel_token(), channel_token()):
            await client.send(subscribe(token))
        for _ in range(3):
            await client.expect(type="subscribed")
        await client.sync()


@pytest.mark.parametrize("token_first", [False, True])
async def test_what_overtakes_a_request_without_an_answer_leaves_its_position_and_its_token(
    node: Node, publisher: AsyncPublisher, token_first: bool
) -> None:
    messages = [await publisher.publish(CHANNEL, number) for number in range(3)]
    requests = [subscribe(None, since=messages[0].id), subscribe(channel_token())]
    async with connected(node.url, make_token("ann")) as client:
        for each in reversed(requests) if token_first else requests:
            await client.send(each)
        for _ in requests:
            await client.expect(type="subscribed", recovered=True)
        assert await client.data(2) == [1, 2]
        assert subscription_of(node).request is None


async def test_an_unsubscribe_overtakes_a_token(node: Node, publisher: AsyncPublisher) -> None:
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token()))
        await client.expect(type="subscribed")
        await client.send(subscribe(channel_token()))
        await client.send({"type": "unsubscribe", "channel": CHANNEL})
        await client.expect(type="unsubscribed")
        await client.sync()
        (connection,) = node.gateway.hub.connections.values()
        assert not connection.subscriptions


async def test_what_is_asked_for_again_goes_on_by_the_token(
    node: Node, publisher: AsyncPublisher
) -> None:
    first = await publisher.publish(CHANNEL, "first")
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token(), since=0))
        await client.expect(type="subscribed", recovered=True)
        await client.expect(data="first")
        await client.send(subscribe(None, since=0))
        await client.expect(type="subscribed", recovered=True)
        await client.expect(data="first", id=first.id)
        await client.send(subscribe(channel_token(), since=0))
        await client.expect(type="subscribed", recovered=True)
        await client.expect(data="first")


async def test_a_refresh_leaves_channel_tokens_in_force(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("ann", [CHANNEL])) as client:
        await client.send(subscribe(channel_token()))
        await client.expect(type="subscribed")
        await client.send({"type": "refresh", "token": make_token("ann")})
        await client.sync()
        await hears(client, publisher)


# -- revocation -----------------------------------------------------------------------------------


async def test_a_channel_token_that_is_revoked_ends_what_it_has_opened(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token(jti="j1")))
        await client.expect(type="subscribed")
        await client.send(
            subscribe(channel_token(jti="j2", channel="run-results/2"), "run-results/2")
        )
        await client.expect(type="subscribed")
        await publisher.revoke_token("j1", time.time() + 600)
        await client.expect(type="unsubscribed", channel=CHANNEL, reason="revoked")
        await client.send(subscribe(channel_token(jti="j1")))
        await client.expect(type="error", code="token_revoked", channel=CHANNEL)
        await hears(client, publisher, "run-results/2")


async def test_tokens_that_are_revoked_by_their_age_open_no_channel_either(
    node: Node, publisher: AsyncPublisher
) -> None:
    now = int(time.time())
    async with connected(node.url, make_token("ann", iat=now)) as client:
        await client.send(subscribe(channel_token(iat=now - 600)))
        await client.expect(type="subscribed")
        await publisher.revoke_tokens_before("ann", now - 60)
        await client.expect(type="unsubscribed", channel=CHANNEL, reason="revoked")
        for old in ({"iat": now - 600}, {}):
            await client.send(subscribe(channel_token(**old)))
            await client.expect(type="error", code="token_revoked")
        await client.send(subscribe(channel_token(iat=now)))
        await client.expect(type="subscribed")


@pytest.mark.parametrize("by", ["jti", "age"])
async def test_a_node_that_was_cut_off_delivers_nothing_by_a_channel_token_that_was_revoked(
    publisher: AsyncPublisher, proxy: Proxy, prefix: str, by: str
) -> None:
    now = int(time.time())
    async with running_node(f"redis://127.0.0.1:{proxy.port}", prefix) as node:
        async with (
            connected(node.url, make_token("ann", iat=now)) as client,
            connected(node.url, make_token("bob", [CHANNEL], iat=now)) as spared,
        ):
            await client.send(subscribe(channel_token(jti="j1", iat=now - 600)))
            await client.expect(type="subscribed")
            await spared.subscribe(CHANNEL)
            proxy.refuse()
            await until(lambda: not node.gateway.ready())
            if by == "jti":
                await publisher.revoke_token("j1", now + 600)
            else:
                await publisher.revoke_tokens_before("ann", now - 60)
            await publisher.publish(CHANNEL, "not for ann")
            await proxy.start()
            await client.expect(type="unsubscribed", channel=CHANNEL, reason="revoked")
            assert await spared.data(1) == ["not for ann"]
            await client.sync()
            await until(node.gateway.ready)


@pytest.mark.parametrize("granted", [True, False])
async def test_a_token_that_ends_before_redis_has_answered_about_it_opens_nothing(
    publisher: AsyncPublisher, proxy: Proxy, prefix: str, *, granted: bool
) -> None:
    """Neither for who is new in the channel, nor for who is there by a grant that is taken back meanwhile."""
    url = f"redis://127.0.0.1:{proxy.port}"
    async with running_node(url, prefix, redis_timeout_seconds=30, jwt_leeway_seconds=0) as node:
        async with connected(node.url, make_token("ann")) as client:
            if granted:
                await publisher.grant(CHANNEL, "ann")
                await client.subscribe(CHANNEL)
            proxy.down.freeze()
            ends = int(time.time()) + 2
            await client.send(subscribe(channel_token(exp=ends)))
            await client.sync()
            await publisher.revoke(CHANNEL, "ann")
            await until(lambda: time.time() > ends)
            await publisher.publish(CHANNEL, "not for ann")
            proxy.down.thaw()
            told = [await client.receive() for _ in range(1 + granted)]
            assert {each["type"] for each in told} == {"error", *["unsubscribed"] * granted}
            (error,) = (each for each in told if each["type"] == "error")
            assert (error["code"], error["channel"]) == ("token_expired", CHANNEL)
            await client.sync()


# -- what they cost -------------------------------------------------------------------------------


async def test_a_client_that_comes_back_with_a_hundred_channel_tokens_is_no_flood(
    node: Node,
) -> None:
    names = [f"run-results/{number}" for number in range(100)]
    async with connected(node.url, make_token("ann")) as client:
        for _ in range(2):
            for name in names:
                await client.send(subscribe(channel_token(channel=name), name))
            for _ in names:
                await client.expect(type="subscribed")


def kept(longer_than: int) -> int:
    """How many channel tokens of more characters there are in this process."""
    requests = [each for each in gc.get_objects() if isinstance(each, Subscribe)]
    return len({id(each.token) for each in requests if len(each.token or "") > longer_than})


@pytest.mark.parametrize("paid", [False, True])
async def test_of_the_tokens_for_a_channel_one_waits_and_one_is_judged(
    node: Node, monkeypatch: pytest.MonkeyPatch, paid: bool
) -> None:
    """However many a client shows that Redis, or its budget, lets wait. Each is answered, and the last one counts."""
    tokens = node.gateway.access.revocations._tokens
    look_up, go = tokens.look_up, asyncio.Event()
    channels, times, now = [f"run-results/{n}" for n in range(5)], 15, int(time.time())

    async def late(*of: Any) -> Any:
        await go.wait()
        return await look_up(*of)

    async with connected(node.url, make_token("ann")) as client:
        for name in channels:
            await client.send(subscribe(channel_token(channel=name), name))
            await client.expect(type="subscribed")
        (connection,) = node.gateway.hub.connections.values()
        if paid:
            monkeypatch.setattr(tokens, "look_up", late)
        else:
            connection.budget._free_subscribes = 0
            await connection.paying.acquire()
        for each in range(times):
            for name in channels:
                exp, pad = now + 600 + each, "x" * 2_500
                await client.send(subscribe(channel_token(channel=name, exp=exp, pad=pad), name))
        await client.sync()
        assert kept(3_000) <= len(channels) * (2 if paid else 1)
        go.set()
        if not paid:
            connection.paying.release()
        for _ in range(times * len(channels)):
            await client.expect(type="subscribed")
        for name in channels:
            passed = connection.subscriptions[name].passed
            assert passed is not None
            assert passed.expires_at == now + 600 + times - 1 + 5
    assert not node.gateway.access.subscriptions._channel_tokens._renewals


async def test_a_token_in_whose_place_another_one_comes_is_told_what_is_wrong_with_that(
    node: Node,
) -> None:
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token()))
        await client.expect(type="subscribed")
        (connection,) = node.gateway.hub.connections.values()
        connection.budget._free_subscribes = 0
        async with connection.paying:
            for token in (channel_token(), channel_token(exp=1)):
                await client.send(subscribe(token))
            await client.sync()
        for _ in range(2):
            await client.expect(type="error", code="token_expired", channel=CHANNEL)
        assert node.gateway.stats.client_errors == {"token_expired": 2}


async def test_what_a_token_wants_replayed_is_replayed_though_another_one_comes_in_its_place(
    node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.publish(CHANNEL, "first")
    async with connected(node.url, make_token("ann")) as client:
        await client.send(subscribe(channel_token()))
        await client.expect(type="subscribed")
        await client.expect(data="first")
        (connection,) = node.gateway.hub.connections.values()
        connection.budget._free_subscribes = 0
        async with connection.paying:
            await client.send(subscribe(channel_token(), since=0))
            await client.send(subscribe(channel_token()))
            await client.sync()
        for _ in range(2):
            await client.expect(type="subscribed", recovered=True)
        await client.expect(data="first")


async def test_nothing_is_kept_of_a_channel_token_whose_subscription_has_ended(node: Node) -> None:
    access = node.gateway.access
    passes = access.recheck._passes
    async with connected(node.url, make_token("ann")) as client:
        for _ in range(3):
            await client.send(subscribe(channel_token(jti="j")))
            await client.expect(type="subscribed")
            assert len(passes._expiries._step_of) == 1
            await client.send({"type": "unsubscribe", "channel": CHANNEL})
            await client.expect(type="unsubscribed")
            assert not passes._expiries._step_of
            assert not access.revocations._of_token._of
        await client.send(subscribe(channel_token(jti="j")))
        await client.expect(type="subscribed")
    await until(lambda: not passes._expiries._step_of)
    assert not access.revocations._of_token._of
