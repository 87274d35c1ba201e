"""Redis that is down, slow, or hangs up."""

from __future__ import annotations

import asyncio

import redis
import redis.asyncio

from publisher import Outgoing
from tests.alerts.cases import causing
from tests.alerts.stage import Stage
from tests.support.waiting import until

_CHANNEL = "run-results/lesson"


@causing("RedisPrimaryDown", "Redis is killed, and comes back with its file")
async def primary_down(stage: Stage) -> None:
    stage.start_redis("--appendonly", "yes", "--appendfsync", "always")
    gateways = [await stage.gateway() for _ in range(2)]
    publisher = await stage.publisher()
    ann = await stage.client(gateways[0], "ann", channels=[_CHANNEL])
    await ann.subscribe(_CHANNEL)
    await stage.watch(*gateways)
    await publisher.publish(_CHANNEL, "before")
    stage.caused()
    stage.redis.kill()
    await stage.fires()
    stage.tries("`gateway_redis_primary_up == 0` and the body of `/readyz` name the server")
    _, body = await gateways[0].get("/readyz")
    assert f"127.0.0.1:{stage.redis.port}" in body
    stage.tries("bring the server back")
    stage.redis.restart()
    stage.tries("What was published and kept in logs is delivered then.")
    await until(gateways[0].is_ready)
    await publisher.publish(_CHANNEL, "after")
    assert await ann.data(2) == ["before", "after"]
    await stage.resolves()


@causing("RedisSlow", "the network to Redis is slow")
async def slow_network(stage: Stage) -> None:
    stage.start_redis()
    way = await stage.way_to_redis()
    gateway = await stage.gateway(f"redis://127.0.0.1:{way.port}")
    await stage.watch(gateway)
    stage.crowd(5, gateway)
    stage.caused()
    way.down.delay = 0.3
    await stage.fires()
    stage.tries("If it is fast there, it is the network.")
    async with redis.asyncio.Redis(port=stage.redis.port) as client:
        began = asyncio.get_running_loop().time()
        await client.ping()
        assert asyncio.get_running_loop().time() - began < 0.1
    way.down.delay = 0
    await stage.resolves()


@causing("RedisSlow", "somebody else's long commands on the same server")
async def slow_commands(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway()
    await stage.watch(gateway)
    stage.crowd(5, gateway)
    async with redis.asyncio.Redis(port=stage.redis.port) as client:
        stage.caused()
        long = "for i = 1, 12000000 do end"
        others = stage.meanwhile(0.02, lambda: client.eval(long, 0))
        await stage.fires()
        stage.tries("`redis-cli SLOWLOG GET 10`")
        with redis.Redis(port=stage.redis.port) as looking:
            assert any(long.encode() in each["command"] for each in looking.slowlog_get(10))
        stage.tries("Give the gateways a server of their own.")
        others.cancel()
        await stage.resolves()


@causing("GatewayLosesRedis", "an output buffer for pub/sub that is too small")
async def small_output_buffer(stage: Stage) -> None:
    stage.start_redis("--client-output-buffer-limit", "pubsub 32kb 16kb 60")
    gateway = await stage.gateway()
    ann = await stage.client(gateway, "ann", channels=[_CHANNEL])
    await ann.subscribe(_CHANNEL)
    publisher = await stage.publisher()
    await stage.watch(gateway)
    stage.caused()
    # Larger ones the server would not copy, nor count.
    many = [Outgoing(_CHANNEL, "x" * 8_000)] * 20
    stage.meanwhile(0.5, lambda: publisher.publish_many(many))
    await stage.fires()
    stage.tries("`subscriber_lost`, `probe_unheard` and `waiting_for_redis`")
    await until(lambda: "subscriber_lost" in gateway.output)
    stage.tries("In the log of Redis: `overcoming of output buffer limits`.")
    assert stage.redis.log_has("overcoming of output buffer limits")
    stage.tries("Raise `client-output-buffer-limit pubsub`")
    with redis.Redis(port=stage.redis.port) as client:
        client.config_set("client-output-buffer-limit", "pubsub 268435456 67108864 60")
    await stage.resolves()


@causing("MessagesLate", "the network to Redis is slow")
async def late(stage: Stage) -> None:
    stage.start_redis()
    way = await stage.way_to_redis()
    gateway = await stage.gateway(f"redis://127.0.0.1:{way.port}")
    ann = await stage.client(gateway, "ann", channels=[_CHANNEL])
    await ann.subscribe(_CHANNEL)
    publisher = await stage.publisher()
    await stage.watch(gateway)
    stage.meanwhile(0.1, lambda: publisher.publish(_CHANNEL, "hello"))
    stage.caused()
    way.down.delay = 1.5
    await stage.fires()
    stage.tries("RedisSlow fires too: Redis hands messages on late.")
    way.down.delay = 0
    await stage.resolves()
