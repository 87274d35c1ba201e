"""Clients on Node: the one of the wire contract, and the one that docs/frontend.md shows."""

from __future__ import annotations

import pytest

from tests.browser.backend import Backend
from tests.browser.conftest import Start
from tests.browser.shapes import NOTIFICATION, is_notification, is_run_result
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.redis_server import free_port
from tests.support.tokens import make_token

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("kind", ["plain", "documented"])
async def test_live_and_after_having_been_offline(
    kind: str,
    gateway: GatewayProcess,
    start_client: Start,
    backend: Backend,
    user: str,
    session: str,
) -> None:
    client = await start_client(kind, gateway.url, user, session)
    first = await backend.run(session, user, "print('Hello, World!')")
    is_run_result(await client.message("run-results"), session, first, stdout="Hello, World!\n")
    assert (await client.event("run-result"))["data"]["stdout"] == "Hello, World!\n"
    second = await backend.notify(user, **NOTIFICATION)
    is_notification(await client.message("notifications"), user, second)
    assert (await client.event("notification"))["data"]["title"] == NOTIFICATION["title"]
    await backend.confirmed(user, f"run-results/{session}", first)
    await backend.confirmed(user, f"notifications/{user}", second)
    await client.end()

    failing = "import sys; print('half'); print('way', file=sys.stderr); sys.exit(3)"
    third = await backend.run(session, user, failing, code=3)
    fourth = await backend.notify(user, **NOTIFICATION)
    fifth = await backend.run(session, user, "print('done')")

    client = await start_client(kind, gateway.url, user, session)
    sixth = await backend.notify(user, title="live again", message="…")
    data = await client.data_up_to(sixth)
    results = [message for message in data if message["type"] == "run-results"]
    notifications = [message for message in data if message["type"] == "notifications"]
    assert [message["id"] for message in results] == [third, fifth]
    assert [message["id"] for message in notifications] == [fourth, sixth]
    is_run_result(results[0], session, third, stdout="half\n", stderr="way\n", exit_code=3)
    is_run_result(results[1], session, fifth, stdout="done\n")
    is_notification(notifications[0], user, fourth)


async def test_sixth_connection_is_refused(
    gateway: GatewayProcess, start_client: Start, programs: Start, user: str, session: str
) -> None:
    five = [await start_client("plain", gateway.url, user, session) for _ in range(5)]
    sixth = await programs("plain-client.mjs", gateway.url, make_token(user))
    error = await sixth.message("error")
    assert error["code"] == "connection_limit"
    assert await sixth.event("close") == {
        "event": "close",
        "code": 1008,
        "reason": "connection_limit",
    }
    await five[0].end()
    # Its own strategy tries again, and a place is free.
    assert (await sixth.message("connected"))["userId"] == user


@pytest.mark.parametrize(
    ("token", "reason"), [("nonsense", "token_invalid"), ("", "token_missing")]
)
async def test_documented_client_gives_up_when_its_token_is_refused(
    token: str, reason: str, gateway: GatewayProcess, programs: Start, documented_module: str
) -> None:
    client = await programs(
        "documented-client.mjs", documented_module, gateway.url, token, "session", "user"
    )
    assert (await client.message("error"))["code"] == reason
    assert await client.event("closed") == {"event": "closed", "code": 1008, "reason": reason}


async def test_documented_client_survives_attempts_that_nobody_answers(
    redis_url: str,
    prefix: str,
    programs: Start,
    documented_module: str,
    user: str,
    session: str,
) -> None:
    port = free_port()
    client = await programs(
        *("documented-client.mjs", documented_module, f"ws://127.0.0.1:{port}"),
        *(make_token(user, [f"run-results/{session}"]), session, user),
    )
    assert (await client.event("close"))["code"] == 1006
    async with gateway_process(redis_url, prefix, port=port):
        assert (await client.message("connected"))["userId"] == user


async def test_documented_client_comes_back_to_what_it_was_refused_once_it_is_granted(
    gateway: GatewayProcess,
    programs: Start,
    documented_module: str,
    backend: Backend,
    user: str,
    session: str,
) -> None:
    token = make_token(user)
    client = await programs(
        "documented-client.mjs", documented_module, gateway.url, token, session, user
    )
    assert (await client.message("error"))["code"] == "forbidden"
    await backend.run(session, user, "print(6 * 7)")
    assert (await client.message("granted"))["channel"] == f"run-results/{session}"
    assert (await client.event("run-result"))["data"]["stdout"] == "42\n"


async def test_large_message_is_compressed(
    gateway: GatewayProcess, start_client: Start, backend: Backend, user: str, session: str
) -> None:
    client = await start_client("plain", gateway.url, user, session)
    before = client.said[-1]["received"]
    await backend.run(session, user, "print('all work and no play ' * 500)")
    arrived = await client.event("message")
    assert arrived["message"]["data"]["stdout"] == "all work and no play " * 500 + "\n"
    assert arrived["received"] - before < 1000
