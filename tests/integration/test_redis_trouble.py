"""Redis refuses, hangs, restarts or forgets: the node stays up, says so in time, and is back in time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.backplane import health
from gateway.backplane.pubsub import Command
from publisher import AsyncPublisher
from publisher.contract.keys import Keys
from publisher.transport.connection import Reader
from tests.faults.proxy import Proxy
from tests.integration.conftest import StartNode
from tests.support.client import Client, connected, opened
from tests.support.nodes import Node, running_node
from tests.support.redis_server import RedisServer
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"
TURN_SECONDS = 3.0
"""Within which readiness follows what happens to Redis."""
LONG_SECONDS = 3.5
"""An outage in which every pause has grown to its longest, and every time-out has passed once."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis that only this test uses, and may harm."""
    server = RedisServer(tmp_path, "--appendonly", "yes", "--enable-debug-command", "yes")
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


@pytest.fixture
async def admin(server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    """A client that fails at once."""
    async with redis.asyncio.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as client:
        yield client


@contextlib.asynccontextmanager
async def node_at(port: int, **settings: object) -> AsyncIterator[Node]:
    async with running_node(f"redis://127.0.0.1:{port}", "t", **settings) as node:
        yield node


async def unready(node: Node) -> None:
    await until(lambda: not node.gateway.ready(), within=TURN_SECONDS)
    assert (await node.get("/readyz"))[0] == 503


async def ready(node: Node) -> None:
    await until(node.gateway.ready, within=TURN_SECONDS)


async def held_out(client: Client, port: int) -> None:
    """The client's connection has lived through it all, and hears."""
    async with AsyncPublisher.from_url(f"redis://127.0.0.1:{port}", prefix="t") as publisher:
        await publisher.publish(CHANNEL, "still there")
    while (await client.receive()).get("data") != "still there":
        pass
    await client.sync()


async def test_a_redis_that_refuses_connections(server: RedisServer) -> None:
    async with node_at(server.port) as node, connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await asyncio.to_thread(server.kill)
        await unready(node)
        await asyncio.sleep(LONG_SECONDS)
        await client.sync()
        await asyncio.to_thread(server.restart)
        await ready(node)
        await held_out(client, server.port)


async def test_a_redis_that_hangs(server: RedisServer) -> None:
    async with node_at(server.port) as node, connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        reconnects = node.gateway.stats.redis_reconnects
        server.freeze()
        await unready(node)
        await asyncio.sleep(LONG_SECONDS)
        await client.sync()
        server.thaw()
        await ready(node)
        # Nothing was lost on the way: there was no reason to give the connection up.
        assert node.gateway.stats.redis_reconnects == reconnects
        await held_out(client, server.port)


async def test_a_redis_that_hangs_while_the_node_connects_to_it(
    server: RedisServer, admin: redis.asyncio.Redis
) -> None:
    async with node_at(server.port) as node, connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await admin.client_kill_filter(_type="pubsub")
        server.freeze()
        await unready(node)
        await asyncio.sleep(LONG_SECONDS)
        server.thaw()
        await ready(node)
        await held_out(client, server.port)


@pytest.mark.parametrize(
    "limit", ["maxmemory", pytest.param("min-replicas-to-write", marks=pytest.mark.long)]
)
async def test_a_redis_that_refuses_writes(
    server: RedisServer, admin: redis.asyncio.Redis, limit: str
) -> None:
    """It takes the probe all the same."""
    async with node_at(server.port) as node, connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        # The longest time in which the node has no reason to write.
        ends_at = node.gateway.redis.node_lease._ends_at
        await until(lambda: node.gateway.redis.node_lease._ends_at > ends_at)
        await admin.config_set(limit, 1)
        await unready(node)
        await asyncio.sleep(LONG_SECONDS)
        await admin.config_set(limit, 0)
        await ready(node)
        await held_out(client, server.port)


async def test_a_way_to_redis_that_is_dead_for_a_while(server: RedisServer) -> None:
    proxy = Proxy(server.port)
    await proxy.start()
    async with (
        contextlib.aclosing(proxy),
        node_at(proxy.port) as node,
        connected(node.url, make_token("u")) as client,
    ):
        await client.subscribe(CHANNEL)
        pipeline = node.gateway.redis.pipeline
        idle = await until(lambda: not pipeline.under_way and pipeline._commands)
        for link in proxy.links:
            link.freeze()  # for ever, as after a failover that nobody was told of
        proxy.up.freeze()
        await unready(node)
        await asyncio.sleep(LONG_SECONDS)
        # Whoever used this one when Redis is there again would wait for a time-out.
        assert idle.transport.is_closing()
        proxy.up.thaw()
        # There was trouble before: its silence is suspicious sooner than without.
        await until(node.gateway.ready, within=2.0)
        assert node.gateway.stats.probes_unheard == 1
        await held_out(client, server.port)


async def test_a_pubsub_connection_that_dies_while_it_subscribes_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(server.port)
    await proxy.start()
    async with contextlib.aclosing(proxy), node_at(proxy.port) as node:
        subscriber = node.gateway.redis.subscriber
        first = subscriber._protocol
        write = subscriber._write

        def write_and_freeze(protocol: Reader, commands: Iterable[Command]) -> None:
            if protocol is not first:  # which may have another probe to subscribe to
                monkeypatch.undo()
                port = protocol.transport.get_extra_info("sockname")[1]
                proxy.from_port(port).down.freeze()
            write(protocol, commands)

        monkeypatch.setattr(subscriber, "_write", write_and_freeze)
        proxy.cut(lambda link: link.subscribed)
        await until(lambda: subscriber._protocol not in {first, None})
        assert not subscriber.connected
        await ready(node)


async def test_connections_that_are_reset(server: RedisServer) -> None:
    proxy = Proxy(server.port)
    await proxy.start()
    async with (
        contextlib.aclosing(proxy),
        node_at(proxy.port) as node,
        connected(node.url, make_token("u")) as client,
    ):
        await client.subscribe(CHANNEL)
        for _ in range(3):
            proxy.cut()
            await unready(node)
            await ready(node)
            # The next loss is made good as soon as the first.
            assert node.gateway.redis.subscriber._backoff.next() <= 0.1
        await held_out(client, server.port)


async def test_a_pubsub_connection_that_redis_closes_over_its_buffer(
    server: RedisServer, admin: redis.asyncio.Redis
) -> None:
    async with (
        node_at(server.port, coalesce_seconds=0) as node,
        connected(node.url, make_token("u")) as client,
    ):
        await client.subscribe(CHANNEL)
        await admin.config_set("client-output-buffer-limit", "pubsub 1mb 0 0")
        protocol = node.gateway.redis.subscriber._protocol
        assert protocol is not None
        protocol.transport.pause_reading()
        # More than the kernel's buffers hold. Larger payloads the server would not copy, nor count.
        async with admin.pipeline(transaction=False) as pipeline:
            for _ in range(2_000):
                pipeline.publish("t:control", b"x" * 8_000)
            await pipeline.execute()
        async with AsyncPublisher.from_url(server.url, prefix="t") as publisher:
            await publisher.publish(CHANNEL, "missed")
        await until(lambda: server.log_has("output buffer limits"))
        protocol.transport.resume_reading()
        await client.expect(data="missed")
        await ready(node)
        await held_out(client, server.port)


async def test_a_redis_that_is_loading_its_data_is_not_taken_for_ready(
    server: RedisServer, admin: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It serves pub/sub while it loads, and so the probe."""
    monkeypatch.setattr(health, "LONGEST_RENEWAL_SECONDS", 60.0)  # no chance helps
    async with node_at(server.port, node_lease_seconds=30.0) as node:
        async with admin.pipeline(transaction=False) as pipeline:
            for number in range(3_000):
                pipeline.set(f"filler:{number}", number)
            await pipeline.execute()
        await admin.bgrewriteaof()
        await until(lambda: "Background AOF rewrite finished" in server.log.read_text())
        await asyncio.to_thread(server.kill)
        server._options += (
            "--key-load-delay",
            "1000",
            "--loading-process-events-interval-bytes",
            "1024",
        )
        restarting = asyncio.create_task(asyncio.to_thread(server.restart))
        await until(lambda: not node.gateway.redis.subscriber.connected)
        await until(
            lambda: node.gateway.redis.subscriber.connected and node.gateway.redis.probe.heard
        )
        await admin.connection_pool.disconnect()
        looks = 0
        try:
            while True:
                was_ready = node.gateway.ready()
                # It answers this while it loads, and was loading when the node was looked at.
                if not (await admin.info("persistence"))["loading"]:
                    break
                assert not was_ready
                looks += 1
        finally:
            await restarting
        assert looks
        await ready(node)


async def test_after_redis_has_lost_its_data_places_and_namespaces_are_back_at_once(
    server: RedisServer,
) -> None:
    custom = {"lessons": {"owner": "user"}}
    token = make_token("u")
    async with (
        node_at(server.port, namespaces=custom) as first,
        node_at(server.port, namespaces=custom) as second,
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [
            await stack.enter_async_context(connected(url, token))
            for url in (first.url, second.url, first.url, second.url, first.url)
        ]
        await asyncio.to_thread(server.kill)
        server.forget()
        await asyncio.to_thread(server.restart)
        await ready(first)
        await ready(second)
        async with AsyncPublisher.from_url(server.url, prefix="t") as publisher:
            assert len(await publisher.connections("u")) == 5
            await publisher.publish("lessons/u", 1)
        for node in (first, second):
            async with opened(node.url, token) as sixth:
                await sixth.expect(type="error", code="connection_limit")
        for client in clients:
            await client.sync()


async def test_a_redis_emptied_under_a_running_node_is_filled_again_with_the_next_renewal_of_the_lease(
    server: RedisServer, admin: redis.asyncio.Redis
) -> None:
    async with (
        node_at(server.port, node_lease_seconds=1.0) as node,
        connected(node.url, make_token("u")) as client,
    ):
        await admin.flushall()
        await until(lambda: admin.exists("t:namespaces"))
        assert await until(lambda: admin.zcard("t:conn:{u}")) == 1
        await client.sync()


async def test_grants_lost_with_redis_data_end_with_a_reason_of_their_own(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        node_at(server.port) as node,
        AsyncPublisher.from_url(server.url, prefix="t") as publisher,
        connected(node.url, make_token("u", ["run-results/claimed"])) as client,
    ):
        await publisher.grant("run-results/s", "u")
        for channel in ("run-results/s", "run-results/claimed", CHANNEL):
            await client.subscribe(channel)
        await asyncio.to_thread(server.kill)
        server.forget()
        await asyncio.to_thread(server.restart)
        await client.expect(type="unsubscribed", channel="run-results/s", reason="grant_lost")
        await ready(node)
        assert node.gateway.stats.redis_data_losses == 1
        assert [record.getMessage() for record in caplog.records].count("redis_data_lost") == 1
        # What a backend does that is told so, and what a client does.
        await publisher.grant("run-results/s", "u")
        await client.expect(type="granted", channel="run-results/s")
        await client.subscribe("run-results/s")
        await publisher.publish("run-results/claimed", "by the token")
        assert await client.data(1) == ["by the token"]
        await publisher.revoke("run-results/s", "u")
        await client.expect(type="unsubscribed", channel="run-results/s", reason="revoked")


async def test_grants_lost_under_a_running_node_end_with_the_next_renewal_of_its_lease(
    server: RedisServer, admin: redis.asyncio.Redis
) -> None:
    async with (
        node_at(server.port, node_lease_seconds=1.0) as node,
        AsyncPublisher.from_url(server.url, prefix="t") as publisher,
        connected(node.url, make_token("u")) as client,
    ):
        await publisher.grant("run-results/s", "u")
        await client.subscribe("run-results/s")
        await admin.flushall()
        await client.expect(type="unsubscribed", channel="run-results/s", reason="grant_lost")
        assert node.gateway.stats.redis_data_losses == 1


async def test_a_redis_that_comes_back_with_its_data_has_lost_no_grant(
    server: RedisServer,
) -> None:
    async with (
        node_at(server.port) as node,
        AsyncPublisher.from_url(server.url, prefix="t") as publisher,
        connected(node.url, make_token("u")) as client,
    ):
        await publisher.grant("run-results/s", "u")
        await client.subscribe("run-results/s")
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.restart)
        await unready(node)
        await ready(node)
        await publisher.publish("run-results/s", 1)
        assert await client.data(1) == [1]
        assert node.gateway.stats.redis_data_losses == 0


async def test_each_subscribe_is_answered_also_when_it_is_refused(server: RedisServer) -> None:
    async with node_at(server.port) as node, connected(node.url, make_token("u")) as client:
        server.freeze()
        for _ in range(3):
            await client.send({"type": "subscribe", "channel": "run-results/secret"})
        await client.sync()  # all three wait for Redis
        server.thaw()
        for _ in range(3):
            await client.expect(type="error", code="forbidden", channel="run-results/secret")
        await client.sync()


async def test_a_grant_that_ends_while_redis_hangs_is_not_heard_afterwards(
    server: RedisServer,
) -> None:
    async with (
        node_at(server.port) as node,
        AsyncPublisher.from_url(server.url, prefix="t") as publisher,
        connected(node.url, make_token("u")) as client,
    ):
        await publisher.grant("run-results/s", "u", ttl=2)
        await publisher.grant("run-results/t", "u", ttl=60)
        await client.subscribe("run-results/s")
        await client.subscribe("run-results/t")
        server.freeze()
        await asyncio.sleep(LONG_SECONDS)
        server.thaw()
        await client.expect(type="unsubscribed", channel="run-results/s", reason="expired")
        await publisher.publish("run-results/t", 1)
        assert await client.data(1) == [1]


async def test_what_the_nodes_redis_user_may_not_read_is_answered_and_stops_nobody_else(
    server: RedisServer, admin: redis.asyncio.Redis
) -> None:
    rights = (
        "on >p +@all &* ~t:grant:* ~t:conn:* ~t:before:* ~t:disconnected:* ~t:nodes ~t:namespaces ~t:lifetimes ~t:marker "
        "~t:*:{notifications/*"
    )
    await admin.execute_command("ACL", "SETUSER", "node", *rights.split())
    async with (
        running_node(f"redis://node:p@127.0.0.1:{server.port}", "t") as node,
        connected(node.url, make_token("u", ["run-results/*"])) as client,
    ):
        for number in range(20):  # more than may read the log at once
            channel = f"run-results/{number}"
            await client.send({"type": "subscribe", "channel": channel})
            await client.expect(type="error", code="internal_error", channel=channel)
        await client.subscribe(CHANNEL)
        await held_out(client, server.port)


async def test_a_node_that_stands_still_does_not_blame_the_connection(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start_node(coalesce_seconds=0)  # nobody but this test pauses the reading
    probe, subscriber = node.gateway.redis.probe, node.gateway.redis.subscriber
    protocol = subscriber._protocol
    assert protocol is not None
    protocol.transport.pause_reading()
    await until(lambda: probe._missed)
    # As after SIGCONT: the clock has gone on, and what has come meanwhile is still unread.
    looked_at = node.gateway.redis.listening.seconds
    monkeypatch.setattr(node.gateway.redis.listening, "_clock", lambda: time.monotonic() + 20.0)
    await until(lambda: node.gateway.redis.listening.seconds > looked_at + 0.6)
    protocol.transport.resume_reading()
    await until(lambda: not probe._missed)
    assert node.gateway.ready()
    assert subscriber._protocol is protocol
    assert node.gateway.stats.probes_unheard == 0


@pytest.mark.one_server("its one connection is looked at")
async def test_a_crowd_that_waits_does_not_keep_the_node_from_being_ready(node: Node) -> None:
    async with connected(node.url, make_token("u")):
        commands = node.gateway.redis.pipeline._commands
        assert commands is not None
        commands.transport.pause_reading()  # nothing of the clients' is answered any more
        history = node.gateway.delivery.catchup._pages._log
        crowd = [
            asyncio.create_task(history.read(f"notifications/{number}", "u", 0, 100))
            for number in range(2_000)
        ]
        node.gateway.redis.subscriber.rebuild()
        await until(lambda: not node.gateway.ready())
        await ready(node)
        assert not any(task.done() for task in crowd)
        commands.transport.resume_reading()
        await asyncio.gather(*crowd)


async def test_an_outage_longer_than_the_nodes_leases_costs_nobody_their_place(
    server: RedisServer,
) -> None:
    """All leases run out while nobody can renew one: whoever is back first must not take the others for dead."""
    lease = 1.0
    async with (
        node_at(server.port, node_lease_seconds=lease) as late,
        node_at(server.port, node_lease_seconds=lease) as first,
        contextlib.AsyncExitStack() as stack,
    ):
        token = make_token("u")
        five = [await stack.enter_async_context(connected(late.url, token)) for _ in range(5)]
        server.kill()
        await unready(late)
        await asyncio.sleep(lease * 2)  # the outage itself: Redis keeps the time of leases
        # The late node's renewal does not get through before the first one admits people.
        late_lease = late.gateway.redis.node_lease
        entry = late_lease._entry
        late_lease._entry = dataclasses.replace(entry, keys=Keys("elsewhere"))
        await asyncio.to_thread(server.restart)
        await ready(first)
        # It hears, and says that the five are alive; the time of grace does not last for a whole handshake.
        await until(lambda: late.gateway.redis.subscriber.connected)
        async with opened(first.url, token) as sixth:
            await sixth.expect(type="error", code="connection_limit")
        late_lease._entry = entry
        late_lease.recheck()
        await ready(late)
        for client in five:
            await client.sync()
