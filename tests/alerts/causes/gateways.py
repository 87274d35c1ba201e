"""Gateways that end, are full, drain, or have no core."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Final

import redis

from tests.alerts.cases import causing
from tests.alerts.stage import Stage
from tests.support.processes import GatewayProcess
from tests.support.waiting import until

ROOT: Final = Path(__file__).parents[3]


@causing("GatewayDown", "one of two gateways is killed")
async def down(stage: Stage) -> None:
    stage.start_redis()
    first, second = await stage.gateway(), await stage.gateway()
    await stage.watch(first, second)
    stage.caused()
    await second.kill()
    await stage.fires(instance=f"127.0.0.1:{second.internal_port}")
    stage.tries("Does the process run?")
    assert second.process.returncode is not None
    stage.tries("Start it again.")
    await stage.again(second)
    await stage.resolves()


@causing("NoGatewayReady", "Redis is killed")
async def none_ready(stage: Stage) -> None:
    stage.start_redis()
    gateways = [await stage.gateway() for _ in range(2)]
    await stage.watch(*gateways)
    stage.caused()
    stage.redis.kill()
    await stage.fires()
    stage.tries("`curl http://GATEWAY:9300/readyz` of any gateway.")
    assert not (await checks(gateways[0]))["pubsub"]
    stage.tries("`redis-cli PING` from the gateway's machine, then `waiting_for_redis` in the log")
    await until(lambda: "waiting_for_redis" in gateways[0].output)
    stage.redis.restart()
    stage.tries("When Redis is back, gateways are ready within 3 seconds.")
    await until(gateways[0].is_ready, 3.0)
    await stage.resolves()


@causing("NoGatewayReady", "all gateways end")
async def none_runs(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway()
    await stage.watch(gateway)
    stage.caused()
    await gateway.terminate()
    await stage.fires()
    stage.tries("If nothing answers there either, no gateway runs.")
    stage.tries("the last lines of their logs")
    await until(lambda: "node_stopped" in gateway.output)
    await stage.again(gateway)
    await stage.resolves()


@causing("NoGatewayReady", "Redis has no room left (maxmemory, noeviction)")
async def none_ready_when_redis_is_full(stage: Stage) -> None:
    stage.start_redis("--maxmemory-policy", "noeviction")
    gateway = await stage.gateway()
    await stage.watch(gateway)
    with redis.Redis(port=stage.redis.port) as client:
        stage.caused()
        client.config_set("maxmemory", 1)
        await stage.fires()
        stage.tries("`OOM command not allowed`: Redis is full")
        line = next(line for line in gateway.output.splitlines() if "waiting_for_redis" in line)
        assert "OOM command not allowed" in line, line
        client.config_set("maxmemory", 0)
        stage.tries("give it more `maxmemory`")
    await stage.resolves()


@causing("GatewayNotReady", "the way of one gateway to Redis is cut")
async def not_ready(stage: Stage) -> None:
    stage.start_redis()
    way = await stage.way_to_redis()
    near = await stage.gateway()
    far = await stage.gateway(f"redis://127.0.0.1:{way.port}")
    await stage.watch(near, far)
    stage.caused()
    way.refuse()
    await stage.fires(instance=f"127.0.0.1:{far.internal_port}")
    assert "RedisPrimaryDown" not in stage.told.others
    stage.tries("`/readyz` names the check.")
    assert not (await checks(far))["pubsub"]
    stage.tries("compare `gateway_redis_primary_up` of all gateways")
    assert await stage.value("count(gateway_redis_primary_up == 0)") == 1
    assert await stage.value("count(gateway_redis_primary_up == 1)") == 1
    await way.start()
    await stage.resolves()


@causing("GatewayNearlyFull", "one gateway has nine of ten connections, and its neighbour none")
async def nearly_full(stage: Stage) -> None:
    stage.start_redis()
    full, empty = await stage.gateway(max_connections=10), await stage.gateway(max_connections=20)
    await stage.watch(full, empty)
    stage.caused()
    stage.crowd(9, full, empty)
    await stage.fires(instance=f"127.0.0.1:{full.internal_port}")
    stage.tries("Is only one full? Then the balancer does not spread connections evenly")
    assert await stage.value("min(gateway_connections)") == 0
    stage.tries("`gateway drain NODE` sends them to the others")
    nodes = await stage.run("top", "--json")
    [node] = [each["name"] for each in nodes["nodes"] if each["report"]["connections"] == 9]
    await stage.run("drain", node)
    await full.process.wait()
    await stage.again(full, max_connections=10)
    await stage.resolves()


@causing("GatewaysCannotLoseOne", "two gateways of ten connections hold eleven")
async def cannot_lose_one(stage: Stage) -> None:
    stage.start_redis()
    gateways = [await stage.gateway(max_connections=10) for _ in range(2)]
    await stage.watch(*gateways)
    stage.caused()
    for number in range(11):
        await stage.client(gateways[number % 2], f"user-{number}")
    await stage.fires()
    stage.tries("Add a gateway before the next deploy")
    await stage.watch(*gateways, await stage.gateway(max_connections=10))
    await stage.resolves()


@causing("GatewayRefusesConnections", "more clients than GATEWAY_MAX_CONNECTIONS")
async def refuses_when_full(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(max_connections=2)
    await stage.watch(gateway)
    stage.caused()
    stage.crowd(8, gateway)
    await stage.fires(reason="node_full")
    stage.tries("`node_full`: GatewayNearlyFull.")
    await stage.again(gateway, max_connections=100)
    await stage.resolves()


@causing("VersionsDiffer", "one of two gateways still has the version before")
async def versions_differ(stage: Stage) -> None:
    stage.start_redis()
    old = await stage.gateway(environment=_of_version(stage, "0.0.1"))
    new = await stage.gateway()
    await stage.watch(old, new)
    stage.caused()
    await stage.fires()
    stage.tries("`gateway_build_info` says who runs what")
    assert await stage.value('count(gateway_build_info{version="0.0.1"})') == 1
    stage.tries("finish the deploy, or roll it back")
    await stage.again(old)
    await stage.resolves()


async def checks(gateway: GatewayProcess) -> dict[str, bool]:
    """What ``/readyz`` says of each check."""
    _, body = await gateway.get("/readyz")
    found: dict[str, bool] = json.loads(body)["checks"]
    return found


def _of_version(stage: Stage, version: str) -> dict[str, str]:
    """What lets a gateway find itself installed in another version."""
    folder = stage.folder / "installed"
    about = folder / f"realtime_gateway-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: realtime-gateway\nVersion: {version}\n"
    )
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)]
    # Else a checkout in which it is installed says what it is, where the tests are started in it.
    return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


@causing("EventLoopLags", "a core that is not there for four fifths of the time", speed=15)
async def lags(stage: Stage) -> None:
    """As on a machine whose host has more to do than it can: the process is stopped, and goes on."""
    stage.start_redis()
    late, other = await stage.gateway(), await stage.gateway()
    await stage.watch(late, other)

    async def take_the_core() -> None:
        late.freeze()
        await asyncio.sleep(0.8)
        late.thaw()

    stage.caused()
    taking = stage.meanwhile(0.2, take_the_core)
    await stage.fires(instance=f"127.0.0.1:{late.internal_port}")
    stage.tries("does another process take its core")
    assert await stage.value("count(gateway_event_loop_lag_seconds > 0.25)") == 1
    taking.cancel()
    late.thaw()
    await stage.resolves()
