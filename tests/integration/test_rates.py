"""How often somebody may do something at the door: who is held to it, and who is not."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable

import pytest

from gateway.node.ports import Claim, Entry
from gateway.web import tcp
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node, running_node
from tests.support.requests import UPGRADE, Answer, answer_to, handshake, line, request
from tests.support.tokens import make_token
from tests.support.waiting import until

HERE = ["127.0.0.0/8"]


def retry_after(answer: Answer) -> int:
    found = re.search(r"\r\nRetry-After: (\d+)(\r\n|$)", answer.head)
    assert found is not None
    return int(found[1])


# -- failed authentications -----------------------------------------------------------------------

FAILING = {
    "none": request("GET / HTTP/1.1", *UPGRADE),
    "malformed": handshake("x"),
    "of another key": handshake(make_token("u")[:-4] + "AAAA"),
}
GENUINE = {
    "expired": handshake(make_token("u", exp=1)),
    "not valid yet": handshake(make_token("u", nbf=int(time.time()) + 86_400)),
}


@pytest.mark.parametrize("data", FAILING.values(), ids=FAILING)
async def test_who_shows_no_valid_token_too_often_is_answered_in_http_for_a_while(
    start_node: StartNode, data: bytes
) -> None:
    node = await start_node(failed_authentications_per_minute=5)
    assert [(await answer_to(node.url, data)).status for _ in range(5)] == [101] * 5
    for _ in range(2):
        answer = await answer_to(node.url, data)
        assert (answer.status, answer.code) == (429, "too_many_failures")
        assert 0 < retry_after(answer) <= 60
    assert node.gateway.stats.connections_refused["too_many_failures"] == 2
    assert "gateway_addresses_blocked_total 1.0" in (await node.get("/metrics"))[1]
    for path in ("/healthz", "/readyz"):
        page = await answer_to(node.url, request(f"GET {path} HTTP/1.1", "Host: x"))
        assert page.status == 200
    # Whoever shares the address with strangers comes in.
    async with connected(node.url, make_token("u")):
        pass
    # And whose token has ended learns that it has: a client that gets 429 would not ask for a new one.
    for genuine in GENUINE.values():
        assert (await answer_to(node.url, genuine)).status == 101


@pytest.mark.parametrize("data", GENUINE.values(), ids=GENUINE)
async def test_open_pages_whose_tokens_have_ended_block_no_address(
    start_node: StartNode, data: bytes
) -> None:
    """A plain client that is told so after the upgrade comes back each second, as long as its page is open."""
    node = await start_node(failed_authentications_per_minute=2)
    assert [(await answer_to(node.url, data)).status for _ in range(9)] == [101] * 9
    assert (await answer_to(node.url, handshake("x"))).status == 101
    assert node.gateway.stats.addresses_blocked == 0


async def test_after_the_minute_it_is_told_why_again(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start_node(failed_authentications_per_minute=1)
    await answer_to(node.url, handshake("x"))
    assert (await answer_to(node.url, handshake("x"))).status == 429
    failures = node.gateway.entrance.client_port._refusals._failures
    monkeypatch.setattr(failures, "_clock", lambda: time.monotonic() + 60)
    assert (await answer_to(node.url, handshake("x"))).status == 101


async def test_who_shows_a_valid_token_never_counts(start_node: StartNode) -> None:
    node = await start_node(failed_authentications_per_minute=1, max_connections_per_user=1)
    for _ in range(5):
        async with connected(node.url, make_token("u")):
            answer = await answer_to(node.url, handshake(make_token("u")))  # the limit of the user
            assert answer.status == 101
        await until(lambda: not node.gateway.hub.connections)
    assert node.gateway.stats.connections_refused == {"connection_limit": 5}


async def test_behind_a_trusted_proxy_each_client_is_held_to_its_own_failures(
    start_node: StartNode,
) -> None:
    node = await start_node(failed_authentications_per_minute=3, trusted_proxies=HERE)

    def of(client: str, token: str) -> bytes:
        return handshake(token, f"X-Forwarded-For: {client}")

    for _ in range(4):
        last = await answer_to(node.url, of("203.0.113.7", "x"))
    assert last.status == 429
    assert (await answer_to(node.url, of("203.0.113.8", "x"))).status == 101
    # An IPv6 client has as many addresses as it likes, of one network.
    for number in range(4):
        last = await answer_to(node.url, of(f"2001:db8::{number}", "x"))
    assert last.status == 429
    assert (await answer_to(node.url, of("2001:db8:0:1::1", "x"))).status == 101
    # The proxy itself stands for many.
    for _ in range(9):
        last = await answer_to(node.url, handshake("x"))
    assert last.status == 101


# -- connections that have shown no token ---------------------------------------------------------


def nobody_decides(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests wait for their answers."""
    monkeypatch.setattr(node.gateway.entrance.handshakes, "begin", lambda *_: None)


async def test_who_has_asked_and_must_make_room_is_told_so(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start_node(unauthenticated_per_address=2)
    nobody_decides(node, monkeypatch)
    stats = node.gateway.stats
    async with line(node.url, handshake("x")) as first, line(node.url, handshake("x")) as second:
        await until(lambda: len(node.new_connections) == 2)
        await until(lambda: all(each.asked for each in node.new_connections))
        async with line(node.url):
            answer = await first.answer()
            assert (answer.status, answer.code) == (429, "too_many_connections")
            assert retry_after(answer) > 0
            assert await first.ended()
            # One goes for one that comes.
            assert stats.connections_refused == {"address_limit": 1}
            assert len(node.new_connections) == 2
            async with line(node.url):
                assert (await second.answer()).status == 429


async def test_who_has_sent_no_request_goes_without_an_answer(start_node: StartNode) -> None:
    node = await start_node(unauthenticated_per_address=1)
    async with line(node.url) as silent:
        await until(lambda: len(node.new_connections) == 1)
        async with line(node.url):
            assert (await silent.answer()).status == 0


async def test_of_who_waits_for_an_answer_nothing_more_is_read(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start_node()
    nobody_decides(node, monkeypatch)
    request = handshake(make_token("u"))
    async with line(node.url, request) as each:
        await until(lambda: len(node.new_connections) == 1)
        [one] = node.new_connections
        await until(lambda: one.asked)
        each.writer.write(bytes(200_000))
        await until(lambda: (tcp.arrived(one._transport) or 0) > len(request))
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(one._received) == len(request)


# -- handshakes -----------------------------------------------------------------------------------


async def waiting(node: Node) -> int:
    """The metric."""
    found = re.search(
        r"^gateway_handshakes_waiting (\S+)$", (await node.get("/metrics"))[1], re.MULTILINE
    )
    assert found is not None
    return int(float(found[1]))


def asking(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The users who have asked Redis for a place, in this order."""
    asked: list[str] = []
    acquire = node.gateway.redis.places.acquire

    async def noted(claim: Claim, wanted: Callable[[], Awaitable[bool]]) -> Entry:
        asked.append(claim.user)
        return await acquire(claim, wanted)

    monkeypatch.setattr(node.gateway.redis.places, "acquire", noted)
    return asked


def stop_the_clock(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody gets another turn, however slow the machine is, until the list that is returned is cleared."""
    stopped = [time.monotonic()]
    monkeypatch.setattr(
        node.gateway.entrance.handshakes._admission._queue,
        "_clock",
        lambda: stopped[0] if stopped else time.monotonic(),
    )
    return stopped


async def test_a_rush_waits_for_its_turns_and_all_come_in_in_the_order_they_came(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start_node(handshakes_per_second=40)
    asked = asking(node, monkeypatch)
    users = [f"u{number}" for number in range(24)]
    stopped = stop_the_clock(node, monkeypatch)
    async with contextlib.AsyncExitStack() as stack:
        for number, user in enumerate(users, 1):
            await stack.enter_async_context(line(node.url, handshake(make_token(user))))
            await until(
                lambda: len(asked) + node.gateway.stats.handshakes_waiting == number  # noqa: B023
            )
        assert len(asked) == 4  # a tenth of those of a second
        assert len(node.new_connections) == 0  # they have shown a valid token
        stopped.clear()
        await until(lambda: len(node.gateway.hub.connections) == len(users))
    assert asked == users
    assert not node.gateway.stats.connections_refused


async def test_who_finds_the_queue_full_is_sent_to_another_node(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start_node(handshakes_per_second=0.2)
    stop_the_clock(node, monkeypatch)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(connected(node.url, make_token("first")))
        for number in range(3):
            await stack.enter_async_context(line(node.url, handshake(make_token(f"u{number}"))))
        await until(lambda: node.gateway.stats.handshakes_waiting == 3)
        assert await waiting(node) == 3
        answer = await answer_to(node.url, handshake(make_token("late")))
        assert (answer.status, answer.code) == (503, "too_many_handshakes")
        assert retry_after(answer) > 0
        # A stranger is told so at once, and takes no turn.
        assert (await answer_to(node.url, handshake("x"))).status == 101


async def test_who_leaves_takes_no_turn_and_no_place(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start_node(handshakes_per_second=4)
    asked = asking(node, monkeypatch)
    async with connected(node.url, make_token("first")):
        stopped = stop_the_clock(node, monkeypatch)
        async with contextlib.AsyncExitStack() as stack:
            for number in range(20):
                data = handshake(make_token(f"gone{number}"))
                await stack.enter_async_context(line(node.url, data))
            await until(lambda: node.gateway.stats.handshakes_waiting == 20)
        stopped.clear()
        async with connected(node.url, make_token("last")):
            assert asked == ["first", "last"]
            assert node.gateway.entrance.handshakes._admission._present == 2
    assert not node.gateway.stats.connections_refused


async def test_a_node_that_leaves_lets_those_go_who_wait(gateway_url: str, prefix: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with running_node(gateway_url, prefix, handshakes_per_second=0.2) as node:
            await stack.enter_async_context(connected(node.url, make_token("first")))
            late = await stack.enter_async_context(line(node.url, handshake(make_token("late"))))
            await until(lambda: node.gateway.stats.handshakes_waiting == 1)
            node.gateway.delivery.drain.closed = True
            answer = await late.answer()
            assert (answer.status, answer.code) == (503, "not_ready")
