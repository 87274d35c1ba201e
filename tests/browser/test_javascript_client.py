"""The JavaScript client that every gateway serves, on Node, at a real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from gateway.web.client_files import FOLDER
from publisher import AsyncPublisher
from tests.browser.conftest import Start
from tests.browser.node_program import NodeProgram
from tests.browser.scripted_server import ScriptedServer
from tests.faults.proxy import Proxy
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.redis_server import free_port
from tests.support.tokens import make_token
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

Begin = Callable[..., Awaitable[NodeProgram]]


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(gateway: GatewayProcess) -> AsyncIterator[Proxy]:
    """A line to the gateway."""
    proxy = Proxy(gateway.port)
    await proxy.start()
    async with contextlib.aclosing(proxy):
        yield proxy


@pytest.fixture
def begin(programs: Start, gateway: GatewayProcess, user: str) -> Begin:
    """``await begin(tokens=…, url=…, …)``: the client, with the options that follow."""

    async def begin(*tokens: str, url: str = gateway.url, options: str = "{}") -> NodeProgram:
        given = ",".join(tokens or (make_token(user, ["run-results/*"]),))
        return await programs("client.mjs", str(FOLDER / "client.js"), url, given, options)

    return begin


async def opened(client: NodeProgram) -> None:
    await state(client, "open")


async def state(client: NodeProgram, name: str) -> dict[str, Any]:
    while (said := await client.event("state"))["state"] != name:
        pass
    return said


async def data(client: NodeProgram, count: int) -> list[Any]:
    """The next messages that callbacks were called with."""
    return [(await client.event("data"))["data"] for _ in range(count)]


async def live(client: NodeProgram) -> None:
    """Wait until the next subscribe is answered."""
    await client.message("subscribed")


# -- messages ---------------------------------------------------------------------------------


async def test_messages_come_in_order_and_the_state_is_told(
    begin: Begin, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    client = await begin()
    await opened(client)
    await client.tell("subscribe", channel=channel)
    await live(client)
    for number in range(5):
        await publisher.publish(channel, number)
    assert await data(client, 5) == [0, 1, 2, 3, 4]
    await client.tell("user")
    said = await client.event("user")
    assert (said["user"], said["state"]) == (user, "open")
    await client.tell("close")
    closed = await state(client, "closed")
    assert (closed["reason"], closed["code"]) == ("closed", 1000)


async def test_it_needs_little_of_its_platform(
    begin: Begin, publisher: AsyncPublisher, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARE", "1")
    if os.environ.get("JS_RUNTIME", "").startswith("node"):
        monkeypatch.delenv("NATIVE")  # its own WebSocket needs what is taken away
    client = await begin()
    await opened(client)
    await client.tell("loop", channel=channel)
    await live(client)
    await publisher.publish(channel, 1)
    assert await data(client, 1) == [1]


async def test_a_network_that_is_back_just_after_an_attempt_is_used_at_once(begin: Begin) -> None:
    away = f"ws://127.0.0.1:{free_port()}"
    client = await begin(url=away, options='{"backoff": {"min": 600000, "max": 600000}}')
    await state(client, "waiting")
    await client.tell("online")
    await state(client, "connecting")


async def test_subscribers_of_a_channel_share_a_subscription_and_each_has_its_own_position(
    begin: Begin, publisher: AsyncPublisher, channel: str
) -> None:
    client = await begin()
    await client.tell("subscribe", channel=channel)
    await live(client)
    await publisher.publish(channel, 1)
    assert await data(client, 1) == [1]
    await client.tell("subscribe", channel=channel, name="late")
    await client.tell("subscribe", channel=channel, name="all", since=0)
    await live(client)
    await publisher.publish(channel, 2)
    said = sorted([(await client.event("data")) for _ in range(4)], key=lambda each: each["data"])
    assert [(each["name"], each["data"]) for each in said] == [
        ("all", 1),
        ("a", 2),
        ("late", 2),
        ("all", 2),
    ]
    # Only the last one to leave unsubscribes.
    for name in ("a", "all"):
        await client.tell("unsubscribe", name=name)
    await client.tell("user")
    await client.event("user")
    await publisher.publish(channel, 3)
    assert (await client.event("data"))["name"] == "late"
    await client.tell("unsubscribe", name="late")
    await client.message("unsubscribed")
    assert [each["message"]["type"] for each in client.said if each["event"] == "message"].count(
        "subscribed"
    ) == 2


async def test_a_callback_that_throws_keeps_nobody_from_hearing(
    begin: Begin, publisher: AsyncPublisher, channel: str
) -> None:
    client = await begin()
    for name in ("a", "b"):
        await client.tell("subscribe", channel=channel, name=name)
    await live(client)
    await publisher.publish(channel, "fail")
    await publisher.publish(channel, "next")
    assert await data(client, 4) == ["fail", "fail", "next", "next"]
    assert [each["text"] for each in client.said if each["event"] == "reported"] == [
        "the callback fails"
    ] * 2


async def test_what_a_callback_has_not_processed_is_not_acknowledged_and_comes_again(
    begin: Begin, proxy: Proxy, publisher: AsyncPublisher, channel: str
) -> None:
    client = await begin(url=f"ws://127.0.0.1:{proxy.port}", options='{"backoff": {"max": 100}}')
    await client.tell("subscribe", channel=channel, ack=True)
    await live(client)
    for each in ("first", "fail", "behind"):
        await publisher.publish(channel, each)
    assert await data(client, 3) == ["first", "fail", "behind"]
    for link in proxy.links:
        link.cut()
    await opened(client)
    assert await data(client, 2) == ["fail", "behind"]


async def test_acknowledgements_are_sent(
    begin: Begin, gateway: GatewayProcess, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    client = await begin()
    await client.tell("subscribe", channel=channel, ack=True)
    await live(client)
    sent = await publisher.publish(channel, "done")
    await data(client, 1)

    async def acknowledged() -> bool:
        return any(
            each.user == user and each.up_to >= sent.id
            for each in await publisher.receipts(channel, sent.id)
        )

    await until(acknowledged)


async def test_messages_in_batches(
    begin: Begin, gateway: GatewayProcess, publisher: AsyncPublisher, channel: str
) -> None:
    for number in range(20):
        await publisher.publish(channel, number)
    client = await begin(url=f"{gateway.url}/ws?batch=true")
    await client.tell("subscribe", channel=channel, since=0)
    assert await data(client, 20) == [*range(20)]
    assert any(
        each["event"] == "message" and isinstance(each["message"], list) for each in client.said
    )


# -- for await --------------------------------------------------------------------------------


async def test_a_loop_gets_all_messages_and_leaving_it_unsubscribes(
    begin: Begin, publisher: AsyncPublisher, channel: str
) -> None:
    client = await begin()
    await client.tell("loop", channel=channel, count=3)
    await live(client)
    for number in range(3):
        await publisher.publish(channel, number)
    assert await data(client, 3) == [0, 1, 2]
    await client.message("unsubscribed")


async def test_a_slow_loop_holds_few_messages_and_loses_none(
    begin: Begin, publisher: AsyncPublisher, channel: str
) -> None:
    client = await begin()
    await client.tell("loop", channel=channel, count=50, limit=5, slow=True)
    await live(client)
    for number in range(50):
        await publisher.publish(channel, number)
    for number in range(50):
        assert await data(client, 1) == [number]
        await client.tell("go")
    assert (await client.event("loop-end"))["name"] == "loop"


async def test_a_loop_ends_with_an_error_where_the_channel_cannot_be_heard(
    begin: Begin, user: str, channel: str
) -> None:
    client = await begin(make_token(user))
    await client.tell("loop", channel=channel)
    said = await client.event("loop-error")
    assert (said["kind"], said["code"], said["channel"]) == ("RealtimeError", "forbidden", channel)


async def test_a_loop_ends_with_the_client(begin: Begin, channel: str) -> None:
    client = await begin()
    await client.tell("loop", channel=channel)
    await live(client)
    await client.tell("close")
    await client.event("loop-end")


# -- what is refused --------------------------------------------------------------------------


async def test_a_refusal_is_told_and_a_grant_ends_it(
    begin: Begin, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    client = await begin(make_token(user))
    await client.tell("subscribe", channel=channel)
    error = (await client.event("error"))["error"]
    assert (error["code"], error["channel"]) == ("forbidden", channel)
    assert (await client.event("own-error"))["code"] == "forbidden"
    await publisher.grant(channel, user)
    await live(client)
    await publisher.publish(channel, "heard")
    assert await data(client, 1) == ["heard"]
    await publisher.revoke(channel, user)
    assert (await client.event("own-error"))["code"] == "revoked"


# -- connections ------------------------------------------------------------------------------


async def test_a_gateway_that_is_killed_is_found_again_and_nothing_is_missing(
    redis_url: str, prefix: str, begin: Begin, channel: str
) -> None:
    async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
        async with gateway_process(redis_url, prefix) as gateway:
            client = await begin(url=gateway.url, options='{"backoff": {"max": 300}}')
            await client.tell("subscribe", channel=channel)
            await live(client)
            await publisher.publish(channel, 1)
            assert await data(client, 1) == [1]
            await gateway.kill()
        assert (await state(client, "waiting"))["code"] == 1006
        await publisher.publish(channel, 2)
        async with gateway_process(redis_url, prefix, port=gateway.port):
            await opened(client)
            await publisher.publish(channel, 3)
            assert await data(client, 2) == [2, 3]


async def test_it_gets_a_new_token_before_the_old_one_ends(begin: Begin, user: str) -> None:
    now = int(time.time())
    tokens = [make_token(user, exp=now + seconds) for seconds in (4, 3600)]
    client = await begin(*tokens)
    await client.event("asked")
    await opened(client)
    await client.event("asked")
    # The answer comes behind what the gateway has made of the new token.
    await client.tell("wake")
    await client.message("heartbeat")
    assert {each["event"] for each in client.said} <= {"asked", "state", "message", "open"}
    await until(lambda: time.time() > now + 4.2, 6)
    await client.tell("wake")
    await client.message("heartbeat")


async def test_a_token_that_has_ended_is_followed_by_a_fresh_one(begin: Begin, user: str) -> None:
    ended, fresh = make_token(user, exp=int(time.time()) - 60), make_token(user)
    client = await begin(ended, fresh, options='{"backoff": {"max": 100}}')
    assert (await state(client, "waiting"))["reason"] == "token_expired"
    await opened(client)


async def test_a_login_that_fails_is_asked_again(begin: Begin, user: str) -> None:
    client = await begin("FAIL", make_token(user), options='{"backoff": {"max": 100}}')
    assert (await state(client, "waiting"))["reason"] == "token_unavailable"
    await opened(client)


async def test_an_invalid_token_is_tried_twice(begin: Begin) -> None:
    client = await begin("invalid", options='{"backoff": {"max": 100}}')
    closed = await state(client, "closed")
    assert (closed["reason"], closed["code"]) == ("token_invalid", 1008)
    assert [each["event"] for each in client.said].count("asked") == 2
    await client.tell("timers")
    assert (await client.event("timers"))["count"] == 0
    await client.tell("loop", channel="run-results/x")
    assert (await client.event("loop-error"))["code"] == "token_invalid"


@pytest.mark.parametrize(("code", "reason"), [(1008, "flood"), (1008, "replaced"), (1009, "")])
async def test_after_what_is_hopeless_it_does_not_come_back_by_itself(
    code: int, reason: str, begin: Begin
) -> None:
    async with ScriptedServer(closings=[(code, reason)]).running() as server:
        client = await begin(url=server.url)
        closed = await state(client, "closed")
        assert (closed["code"], closed["reason"]) == (code, reason or "protocol_error")
        await client.tell("wake")
        await client.tell("timers")
        assert (await client.event("timers"))["count"] == 0
        assert len(server.opened) == 1
        # A person asks for it.
        await client.tell("connect")
        await until(lambda: len(server.opened) == 2)


async def test_a_line_that_goes_silent_is_left(
    begin: Begin, proxy: Proxy, publisher: AsyncPublisher, channel: str
) -> None:
    client = await begin(
        url=f"ws://127.0.0.1:{proxy.port}", options='{"backoff": {"max": 100}, "watchdog": 60000}'
    )
    await client.tell("subscribe", channel=channel)
    await live(client)
    await publisher.publish(channel, "before")
    assert await data(client, 1) == ["before"]
    for link in proxy.links:
        link.freeze()
    await publisher.publish(channel, "meanwhile")
    begun = time.monotonic()
    await client.tell("wake")
    assert (await state(client, "waiting"))["reason"] == "no_answer"
    assert 2.9 < time.monotonic() - begun < 5
    assert await data(client, 1) == ["meanwhile"]


@pytest.mark.long
async def test_after_a_sleep_it_asks_at_once_whether_the_line_is_alive(
    begin: Begin, proxy: Proxy, publisher: AsyncPublisher, channel: str
) -> None:
    client = await begin(
        url=f"ws://127.0.0.1:{proxy.port}", options='{"backoff": {"max": 100}, "watchdog": 1000}'
    )
    await client.tell("subscribe", channel=channel)
    await live(client)
    for link in proxy.links:
        link.freeze()
    client.signal(signal.SIGSTOP)
    await publisher.publish(channel, "meanwhile")
    # A timer that is five seconds late has slept.
    await asyncio.sleep(6.5)
    client.signal(signal.SIGCONT)
    begun = time.monotonic()
    assert (await state(client, "waiting"))["reason"] == "no_answer"
    assert time.monotonic() - begun < 5  # awake it would have waited for ten
    assert await data(client, 1) == ["meanwhile"]
