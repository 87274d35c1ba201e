"""The client of docs/frontend.md does what docs/protocol.md asks of a client."""

from __future__ import annotations

import re
import time

import pytest

from tests.browser.backend import Backend
from tests.browser.conftest import Start
from tests.browser.documentation import examples
from tests.browser.node_program import NodeProgram
from tests.browser.scripted_server import ScriptedServer
from tests.support.processes import GatewayProcess
from tests.support.tokens import make_token
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def start_at(programs: Start, documented_module: str, user: str, session: str) -> Start:
    """``await start_at(url, *tokens)``: the client, with a token for each attempt."""

    async def start(url: str, *tokens: str) -> NodeProgram:
        given = ",".join(tokens or ("token",))
        return await programs("documented-client.mjs", documented_module, url, given, session, user)

    return start


async def waits_for_nothing(client: NodeProgram) -> bool:
    await client.tell("timers")
    return bool((await client.event("timers"))["count"] == 0)


# -- close codes ------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "reason"), [(1011, "internal_error"), (1013, "slow_consumer")])
async def test_after_a_servers_trouble_its_pauses_grow_although_each_connection_was_open(
    code: int, reason: str, start_at: Start
) -> None:
    async with ScriptedServer(closings=[(code, reason)] * 3).running() as server:
        await start_at(server.url)
        await until(lambda: len(server.opened) == 4, 20)
    for pause, shortest in zip(server.pauses, (0.5, 1, 2), strict=True):
        assert shortest - 0.01 < pause


async def test_after_a_drain_it_is_back_at_once_each_time(start_at: Start) -> None:
    async with ScriptedServer(closings=[(1001, "draining")] * 4).running() as server:
        await start_at(server.url)
        await until(lambda: len(server.opened) == 5, 20)
    # A random moment of a second; growing pauses would have taken 7.5 s at least.
    assert sum(server.pauses) < 7


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1008, "token_missing"),
        (1008, "token_invalid"),
        (1008, "flood"),
        (1008, "replaced"),
        (1009, ""),
    ],
)
async def test_where_it_is_hopeless_it_says_so_and_does_not_try_again(
    code: int, reason: str, start_at: Start
) -> None:
    async with ScriptedServer(closings=[(code, reason)]).running() as server:
        client = await start_at(server.url)
        closed = await client.event("closed")
        assert (closed["code"], closed["reason"]) == (code, reason)
        assert await waits_for_nothing(client)
        assert len(server.opened) == 1


@pytest.mark.parametrize("reason", ["token_expired", "connection_limit", "disconnected"])
async def test_where_it_is_not_hopeless_it_tries_again(reason: str, start_at: Start) -> None:
    async with ScriptedServer(closings=[(1008, reason)]).running() as server:
        await start_at(server.url)
        await until(lambda: len(server.opened) == 2)


async def test_its_own_close_is_told_to_nobody(start_at: Start) -> None:
    async with ScriptedServer().running() as server:
        client = await start_at(server.url)
        await client.message("connected")
        await client.tell("close")
        assert (await client.event("close"))["code"] == 1000
        assert await waits_for_nothing(client)
        assert "closed" not in {said["event"] for said in client.said}


async def test_after_its_own_close_it_does_not_try_again_although_the_token_it_waited_for_is_refused(
    start_at: Start,
) -> None:
    async with ScriptedServer().running() as server:
        client = await start_at(server.url, "PENDING")
        await client.event("asked")
        await client.tell("close")
        await client.tell("refuse")
        assert await waits_for_nothing(client)
        assert not server.opened


# -- what the user should know ----------------------------------------------------------------


async def test_what_is_refused_is_told_with_its_channel(
    gateway: GatewayProcess, start_at: Start, user: str, session: str
) -> None:
    client = await start_at(gateway.url, make_token(user))
    error = await client.event("error")
    assert (error["code"], error["channel"]) == ("forbidden", f"run-results/{session}")


async def test_the_limit_of_connections_is_told_and_it_gets_in_when_a_place_is_free(
    gateway: GatewayProcess, start_client: Start, start_at: Start, user: str, session: str
) -> None:
    five = [await start_client("plain", gateway.url, user, session) for _ in range(5)]
    client = await start_at(gateway.url, make_token(user))
    assert (await client.event("error"))["code"] == "connection_limit"
    await five[0].end()
    assert (await client.message("connected"))["userId"] == user


async def test_a_grant_that_is_taken_back_is_told_with_its_channel_and_reason(
    gateway: GatewayProcess, start_at: Start, backend: Backend, user: str, session: str
) -> None:
    channel = f"run-results/{session}"
    await backend.publisher("grant", channel, user)
    client = await start_at(gateway.url, make_token(user))
    await client.subscribed([channel])
    await backend.publisher("revoke", channel, user)
    ended = await client.event("ended")
    assert (ended["channel"], ended["reason"]) == (channel, "revoked")


async def test_a_token_that_has_run_out_is_replaced_by_a_fresh_one(
    gateway: GatewayProcess, start_at: Start, user: str
) -> None:
    client = await start_at(gateway.url, make_token(user, exp=1), make_token(user))
    assert (await client.event("error"))["code"] == "token_expired"
    assert (await client.message("connected"))["userId"] == user


@pytest.mark.long
async def test_it_renews_a_token_that_ends_soon(
    gateway: GatewayProcess, start_at: Start, user: str
) -> None:
    expiring = make_token(user, exp=int(time.time()) + 30)
    client = await start_at(gateway.url, expiring, "what getToken returns next")
    await client.message("token_expiring")
    # It is shown on the same connection, where it is refused and the old one stays in force.
    assert (await client.event("error"))["code"] == "token_invalid"
    assert "closed" not in {said["event"] for said in client.said}


async def test_it_notices_a_dead_line_no_later_than_a_gateway_does() -> None:
    client, _, _ = examples()
    quiet, answer = (
        int(re.findall(rf"{name} = ([\d_]+);", client)[0]) / 1000
        for name in ("quietMs", "answerMs")
    )
    # The gateway's ping after 30 s, and 30 s for the pong.
    assert quiet + answer <= 60
    # It shall not keep a connection busy either.
    assert quiet >= 20
