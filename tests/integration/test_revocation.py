"""A backend ends connections and tokens: at once on every node, and for good."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from gateway.backplane.hearing import ClusterHearing
from gateway.node import revocations as revocations_module
from publisher import AsyncPublisher
from publisher.contract.control import TokenRevoked, encode
from publisher.contract.keys import Keys
from publisher.contract.revocations import digest_of
from tests.faults.proxy import Proxy
from tests.integration.conftest import StartNode
from tests.support import topology
from tests.support.client import Client, connected, opened
from tests.support.nodes import Node, running_node
from tests.support.tokens import make_token
from tests.support.waiting import until
from tests.support.writes import calls_in_each_write

Revoke: TypeAlias = Callable[[AsyncPublisher], Awaitable[None]]
NOW = int(time.time())
TOKEN = make_token("u", ["run-results/s"], jti="t1", iat=NOW - 60)
OTHER = make_token("u", ["run-results/s"], jti="t2", iat=NOW)


def disconnect(publisher: AsyncPublisher) -> Awaitable[None]:
    return publisher.disconnect("u", reason="locked")


def revoke_token(publisher: AsyncPublisher) -> Awaitable[None]:
    return publisher.revoke_token("t1", NOW + 3600)


def revoke_tokens_before(publisher: AsyncPublisher) -> Awaitable[None]:
    return publisher.revoke_tokens_before("u", NOW)


ALL = pytest.mark.parametrize(
    ("revoke", "reason"),
    [
        (disconnect, "disconnected"),
        (revoke_token, "token_revoked"),
        (revoke_tokens_before, "token_revoked"),
    ],
    ids=["disconnect", "revoke_token", "revoke_tokens_before"],
)
LASTING = pytest.mark.parametrize("revoke", [revoke_token, revoke_tokens_before])


async def ended(client: Client, reason: str) -> None:
    await client.expect(
        type="error",
        code=reason,
        message="locked" if reason == "disconnected" else "Token revoked",
    )
    assert await client.expect_close() == (1008, reason)


@ALL
async def test_connections_end_on_every_node_and_nobody_elses(
    start_node: StartNode, publisher: AsyncPublisher, revoke: Revoke, reason: str
) -> None:
    one, other = await start_node(), await start_node()
    async with (
        connected(one.url, TOKEN) as here,
        connected(other.url, TOKEN) as there,
        connected(one.url, make_token("v", iat=NOW - 60, jti="v1")) as somebody,
    ):
        await revoke(publisher)
        await ended(here, reason)
        await ended(there, reason)
        await somebody.sync()
    status, metrics = await one.get("/metrics")
    assert status == 200
    assert sum(one.gateway.stats.revocations.values()) == 1
    assert "gateway_revocations_total{kind=" in metrics


async def test_one_connection_of_several_can_be_ended(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, TOKEN) as first, connected(node.url, TOKEN) as second:
        listed = await publisher.connections("u")
        oldest = min(listed, key=lambda each: int(each.id, 16))
        await publisher.disconnect("u", reason="locked", connection=f"{oldest.node}/{oldest.id}")
        await ended(first, "disconnected")
        await second.sync()


async def test_who_was_disconnected_may_come_back_at_once_and_stays(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, TOKEN) as client:
        await publisher.disconnect("u", reason="locked")
        await ended(client, "disconnected")
    async with connected(node.url, TOKEN) as client:
        # A renewal finds the command, and that it is older than the connection.
        await node.gateway.redis.places.renew()
        await client.sync()


@LASTING
async def test_a_revoked_token_is_refused_from_then_on_and_another_one_is_not(
    start_node: StartNode, publisher: AsyncPublisher, revoke: Revoke
) -> None:
    await revoke(publisher)
    node = await start_node()
    for _ in range(2):
        async with opened(node.url, TOKEN) as client:
            await ended(client, "token_revoked")
    async with connected(node.url, OTHER) as client:
        await client.sync()
    assert node.gateway.stats.connections_refused == {"token_revoked": 2}
    await until(lambda: not node.gateway.redis.places.releases)
    assert await publisher.connections("u") == []


@pytest.mark.parametrize("said", [{}, {"iat": NOW * 1_000}, {"iat": NOW + 86_400}])
async def test_a_token_that_does_not_say_when_it_was_issued_counts_as_old(
    node: Node, publisher: AsyncPublisher, said: dict[str, int]
) -> None:
    """Nor does one say it that was issued in days to come, or whose login counts in milliseconds."""
    token = make_token("u", **said)
    async with connected(node.url, token) as client:
        await publisher.revoke_tokens_before("u", 1)
        await ended(client, "token_revoked")
    async with opened(node.url, token) as client:
        await ended(client, "token_revoked")


@pytest.mark.parametrize(("limit", "announced"), [(None, b""), (3600.0, b"3600.0")])
async def test_publishers_learn_how_long_a_token_may_live(
    start_node: StartNode,
    publisher: AsyncPublisher,
    prefix: str,
    limit: float | None,
    announced: bytes,
) -> None:
    await start_node(jwt_max_lifetime_seconds=limit)
    keys: Keys = topology.keys(prefix)

    async def told() -> bool:
        return list(await publisher._client.hgetall(keys.lifetimes)) == [announced]

    await until(told)
    await publisher.revoke_tokens_before("u", NOW)
    ends = await publisher._client.expiretime(keys.before("u"))
    assert ends == (-1 if limit is None else NOW + 3600 + 600)


@LASTING
async def test_a_refresh_with_a_revoked_token_leaves_the_old_one_in_force(
    node: Node, publisher: AsyncPublisher, revoke: Revoke
) -> None:
    await revoke(publisher)
    async with connected(node.url, make_token("u", jti="t3", iat=NOW)) as client:
        await client.send({"type": "refresh", "token": TOKEN})
        # What is asked for behind it waits for it.
        await client.send({"type": "subscribe", "channel": "run-results/s"})
        answers = [await client.receive() for _ in range(2)]
        assert [each["code"] for each in answers] == ["token_revoked", "forbidden"]
        await client.send({"type": "refresh", "token": OTHER})
        await client.subscribe("run-results/s")


async def test_a_refreshed_connection_goes_by_its_new_token(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, TOKEN) as client:
        await client.send({"type": "refresh", "token": OTHER})
        await client.subscribe("run-results/s")
        await publisher.revoke_token("t1", NOW + 3600)
        await publisher.revoke_token("t3", NOW + 3600)
        await publisher.publish("run-results/s", 1)
        assert await client.data(1) == [1]
        await publisher.revoke_token("t2", NOW + 3600)
        await ended(client, "token_revoked")


class Late:
    """Lets what Redis says of a place come after everything else."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self._acquire = node.gateway.redis.places.acquire
        self.taken, self.go = asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(node.gateway.redis.places, "acquire", self)

    async def __call__(self, *how: Any) -> Any:
        entry = await self._acquire(*how)
        self.taken.set()
        await self.go.wait()
        return entry


@ALL
async def test_a_command_that_crosses_a_handshake_is_not_missed(
    node: Node,
    publisher: AsyncPublisher,
    monkeypatch: pytest.MonkeyPatch,
    revoke: Revoke,
    reason: str,
) -> None:
    late = Late(node, monkeypatch)

    async def come() -> None:
        async with opened(node.url, TOKEN) as client:
            await ended(client, reason)

    coming = asyncio.create_task(come())
    await late.taken.wait()
    mark = node.gateway.access.revocations.mark
    await revoke(publisher)
    await until(lambda: node.gateway.access.revocations.mark > mark)
    late.go.set()
    await coming
    await until(lambda: not node.gateway.redis.places.releases)
    assert await publisher.connections("u") == []


@pytest.mark.one_server("a cluster's servers are asked side by side")
async def test_a_handshake_asks_redis_once(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(node.url, TOKEN):  # the scripts are known by now
        sent = calls_in_each_write(node.gateway.redis.pipeline, monkeypatch)
        async with connected(node.url, OTHER):
            assert sent == [2]  # the place, and whether its token is revoked: in one write


async def test_while_one_server_of_a_cluster_is_away_only_its_tokens_are_refused(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    away = topology.keys(prefix).revoked(digest_of("t1"))
    monkeypatch.setattr(node.gateway.access.revocations._tokens, "_away", away.__eq__)
    with pytest.raises(Exception, match="503"):
        async with opened(node.url, TOKEN):
            pass
    async with connected(node.url, OTHER) as client:
        await client.sync()
    assert node.gateway.stats.connections_refused == {"redis_unavailable": 1}


async def test_a_token_that_is_named_again_and_again_is_one_line_in_the_log(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    """Commands about nobody here cost a look, and nothing else."""
    command = encode(TokenRevoked(digest_of("nobody's")))
    keys: Keys = topology.keys(prefix)
    mark = node.gateway.access.revocations.mark
    for _ in range(100):
        await publisher._client.execute_command("PUBLISH", keys.control, command)
    await until(lambda: node.gateway.access.revocations.mark == mark + 100)
    assert not node.gateway.stats.revocations


# -- a node that was cut off ----------------------------------------------------------------------


@ALL
async def test_a_node_that_was_cut_off_ends_what_was_revoked_before_it_is_ready_and_delivers_nothing_of_it(
    start_node: StartNode,
    publisher: AsyncPublisher,
    proxy: Proxy,
    prefix: str,
    revoke: Revoke,
    reason: str,
) -> None:
    one, other = await start_node(), await start_node()
    async with running_node(f"redis://127.0.0.1:{proxy.port}", prefix) as cut:
        async with (
            connected(one.url, TOKEN) as here,
            connected(other.url, TOKEN) as there,
            connected(cut.url, TOKEN) as forgotten,
            connected(cut.url, make_token("v", ["run-results/s"], iat=NOW, jti="v1")) as spared,
        ):
            for client in (here, there, forgotten, spared):
                await client.subscribe("run-results/s")
            proxy.refuse()
            await until(lambda: not cut.gateway.ready())
            await revoke(publisher)
            await ended(here, reason)
            await ended(there, reason)
            await publisher.publish("run-results/s", "not for u")
            await proxy.start()
            # What its client is told first is that it has ended: nothing that was published in between.
            await ended(forgotten, reason)
            assert await spared.data(1) == ["not for u"]
            await until(cut.gateway.ready)
            await publisher.publish("run-results/s", "live again")
            assert await spared.data(1) == ["live again"]


async def test_while_it_asks_what_was_revoked_a_node_holds_what_comes(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long Redis takes: live messages, and what is read from logs."""
    topology.require_one_server("a cluster's node waits for a second before it holds")
    revocations = node.gateway.access.revocations
    revoked, go = revocations._tokens.revoked, asyncio.Event()

    async def late(digests: Any) -> dict[str, bool]:
        await go.wait()
        return await revoked(digests)

    async with connected(node.url, TOKEN) as revoked_client, connected(node.url, OTHER) as client:
        for each in (revoked_client, client):
            await each.subscribe("run-results/s")
        monkeypatch.setattr(revocations._tokens, "revoked", late)
        await topology.ask_all(publisher._client, "CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: node.gateway.hub.held)
        # As if the node had not heard of it.
        await publisher._client.set(node.gateway.redis.keys.revoked(digest_of("t1")), "1", ex=3600)
        await until(lambda: node.gateway.redis.hearing.connected)
        await publisher.publish("run-results/s", 1)
        assert not node.gateway.readiness()["revocations"]
        await client.send({"type": "subscribe", "channel": "notifications/u"})
        for _ in range(20):
            await client.sync()  # neither the message nor the answer
        await revoked_client.sync()
        go.set()
        await ended(revoked_client, "token_revoked")
        got = [await client.receive() for _ in range(2)]
        assert sorted(each["type"] for each in got) == ["run-results", "subscribed"]
    await until(node.gateway.ready)


async def test_who_waits_for_a_place_while_the_node_is_cut_off_is_asked_about_again(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place becomes free because the token that all of them show is revoked, which the node has not heard."""
    checks = node.gateway.delivery.life_checks
    look, waited_for, go = checks.look, asyncio.Event(), asyncio.Event()

    async def late(ids: list[str]) -> None:
        waited_for.set()
        await go.wait()
        await look(ids)

    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(connected(node.url, TOKEN)) for _ in range(5)]
        monkeypatch.setattr(checks, "look", late)
        sixth = asyncio.create_task(stack.enter_async_context(opened(node.url, TOKEN)))
        await waited_for.wait()
        await publisher._client.set(node.gateway.redis.keys.revoked(digest_of("t1")), "1", ex=3600)
        await topology.ask_all(publisher._client, "CLIENT", "KILL", "TYPE", "pubsub")
        for client in held:
            await ended(client, "token_revoked")
        with pytest.raises(Exception, match="503"):
            await sixth
        go.set()
        await until(node.gateway.ready)
        await ended(await stack.enter_async_context(opened(node.url, TOKEN)), "token_revoked")


async def test_a_clusters_node_holds_what_comes_while_it_hears_no_commands_for_longer_than_a_moment(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages come over other connections: it delivers none of them before it knows what was revoked."""
    topology.require(topology.CLUSTER)
    hearing = node.gateway.redis.hearing
    assert isinstance(hearing, ClusterHearing)
    open_, go = hearing._any.open, asyncio.Event()

    async def late(connection: Any) -> None:
        await go.wait()
        await open_(connection)

    async with connected(node.url, TOKEN) as revoked_client, connected(node.url, OTHER) as client:
        for each in (revoked_client, client):
            await each.subscribe("run-results/s")
        monkeypatch.setattr(hearing._any, "open", late)
        hearing.control.rebuild()
        await until(lambda: not hearing.control.connected)
        await until(lambda: node.gateway.hub.held)
        assert not node.gateway.readiness()["revocations"]
        await publisher.revoke_token("t1", NOW + 3600)
        await publisher.publish("run-results/s", 1)
        for each in (revoked_client, client):
            await each.sync()
        go.set()
        await ended(revoked_client, "token_revoked")
        assert await client.data(1) == [1]
    await until(node.gateway.ready)


async def test_after_a_cut_whom_redis_cannot_tell_of_hears_nothing_until_it_can(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    """One server of a cluster is away, and with it what it knows of some users and tokens."""
    access, keys = node.gateway.access, topology.keys(prefix)
    async with (
        connected(node.url, TOKEN) as by_token,
        connected(node.url, make_token("v", ["run-results/s"], iat=NOW)) as by_user,
        connected(node.url, OTHER) as client,
    ):
        for each in (by_token, by_user, client):
            await each.subscribe("run-results/s")
        away = {keys.revoked(digest_of("t1")), keys.before("v")}
        monkeypatch.setattr(access.revocations._tokens, "_away", away.__contains__)
        await topology.ask_all(publisher._client, "CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: len(access.cut_off._paused) == 2)
        await until(node.gateway.ready)
        await publisher.publish("run-results/s", 1)
        assert await client.data(1) == [1]
        for each in (by_token, by_user):
            # Nor does it begin anything new.
            await each.send({"type": "subscribe", "channel": "run-results/s", "since": 0})
            await each.sync()
        await publisher._client.set(keys.before("v"), str(NOW + 1))
        away.clear()
        await ended(by_user, "token_revoked")
        assert (await by_token.receive())["type"] == "subscribed"
        assert await by_token.data(1) == [1]
        await publisher.publish("run-results/s", 2)
        assert await by_token.data(1) == [2]
        assert await client.data(1) == [2]


async def test_a_cut_that_nobody_notices_in_a_cluster_holds_nothing_and_is_made_good(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    async with connected(node.url, TOKEN) as client:
        await client.subscribe("run-results/s")
        await publisher._client.set(topology.keys(prefix).revoked(digest_of("t1")), "1", ex=3600)
        await publisher.publish("run-results/s", 1)
        assert await client.data(1) == [1]  # nobody has told the node
        await topology.ask_all(publisher._client, "CLIENT", "KILL", "TYPE", "pubsub")
        await ended(client, "token_revoked")


async def test_tokens_are_asked_about_now_and_then_without_a_reason(
    start_node: StartNode,
    publisher: AsyncPublisher,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revocations_module, "_RECHECK_SECONDS", 0.05)
    node = await start_node()
    async with connected(node.url, TOKEN) as client:
        await publisher._client.set(topology.keys(prefix).revoked(digest_of("t1")), "1", ex=3600)
        await ended(client, "token_revoked")
