"""``gateway top`` and ``gateway drain``: all nodes as an operator sees them, and the end of one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.drain import _full_name
from gateway.settings import UsageError
from tests.processes.test_serve import run
from tests.support.client import connected
from tests.support.processes import gateway_process
from tests.support.redis_server import free_port
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until


async def gateway(redis_url: str, prefix: str, *arguments: str) -> tuple[int, str, str]:
    return await run(*arguments, GATEWAY_REDIS_URL=redis_url, GATEWAY_REDIS_PREFIX=prefix)


async def shown(redis_url: str, prefix: str) -> dict[str, Any]:
    """All nodes by name, once each has said something."""

    async def nodes() -> dict[str, Any]:
        code, out, err = await gateway(redis_url, prefix, "top", "--json")
        assert (code, err) == (0, "")
        found = {node["name"]: node["report"] for node in json.loads(out)["nodes"]}
        return found if all(found.values()) else {}

    return await until(nodes, 20)


async def test_a_node_that_is_shown_can_be_drained_and_the_other_stays(
    gateway_url: str, prefix: str
) -> None:
    async with (
        gateway_process(gateway_url, prefix, node_name="gateway-1") as leaving,
        gateway_process(gateway_url, prefix) as staying,
        connected(leaving.url, make_token("u")) as sent_away,
        connected(staying.url, make_token("v")) as kept,
    ):
        names = await shown(gateway_url, prefix)
        assert len(names) == 2
        (name,) = [each for each in names if f"node={each} " in leaving.output]
        assert name.rpartition("-")[0] == "gateway-1"
        code, out, err = await gateway(gateway_url, prefix, "drain", "gateway-1")
        assert (code, err) == (0, "")
        assert out in {f"{name} is draining\n", f"{name} is gone\n"}
        assert await sent_away.expect_close() == (1001, "draining")
        assert await asyncio.wait_for(leaving.process.wait(), 10) == 0
        await kept.sync()
        # Its lease went with it.
        code, out, err = await gateway(gateway_url, prefix, "drain", name)
        assert (code, out) == (2, "")
        assert err == f"gateway: there is no living node {name!r}\n"


def test_a_name_that_several_nodes_have_is_not_enough() -> None:
    nodes = ["a-1f", "a-2f", "a-b-1f", "a-1f-3f"]
    assert [_full_name(nodes, given) for given in (*nodes, "a-b", "c")] == [*nodes, "a-b-1f", "c"]
    with pytest.raises(UsageError, match="several gateways are called a: a-1f, a-2f"):
        _full_name(nodes, "a")


async def test_a_node_that_drains_already_is_left_alone(redis_url: str, prefix: str) -> None:
    # Its reports come three times in a lease, and the delay is longer than that.
    slow = {"drain_delay_seconds": 60, "node_lease_seconds": 2}
    async with gateway_process(redis_url, prefix, **slow) as node:
        (name,) = await shown(redis_url, prefix)
        assert await gateway(redis_url, prefix, "drain", name) == (0, f"{name} is draining\n", "")
        commands = node.output.count("drain_commanded")
        again = await gateway(redis_url, prefix, "drain", name, "--json")
        assert (again[0], json.loads(again[1])) == (0, {"node": name, "state": "draining"})
        assert (await gateway(redis_url, prefix, "drain", name))[
            1
        ] == f"{name} is draining already\n"
        assert node.output.count("drain_commanded") == commands == 1


async def test_a_node_that_hangs_is_told_of(redis_url: str, prefix: str) -> None:
    async with gateway_process(redis_url, prefix, node_lease_seconds=30) as node:
        (name,) = await shown(redis_url, prefix)
        node.freeze()
        code, out, err = await gateway(redis_url, prefix, "drain", name, "--wait", "0.5")
        assert (code, out) == (1, "")
        assert err.startswith(f"gateway: {name} was told to drain and has not said within 0.5 s")
        code, out, _ = await gateway(redis_url, prefix, "drain", name, "--wait", "0", "--json")
        assert (code, json.loads(out)) == (1, {"node": name, "state": "silent"})


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("drain", "n", "--wait", "nan"), "--wait must be 0 to 3600 seconds"),
        (("top", "--every", "0"), "--every must be 0.1 to 3600 seconds"),
    ],
)
async def test_a_time_that_is_none_is_refused(command: tuple[str, ...], told: str) -> None:
    where = {"GATEWAY_REDIS_URL": "redis://127.0.0.1:1"}
    assert await run(*command, **where) == (2, "", f"gateway: {told}\n")


@pytest.mark.parametrize("command", [("top", "--json"), ("drain", "n")])
async def test_a_mistake_or_a_redis_that_is_not_there_is_one_line(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    code, out, err = await run(*command, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("gateway: no Redis given: set GATEWAY_REDIS_URL")
    assert err.count("\n") == 1
    code, out, err = await run(*command, GATEWAY_REDIS_URL=f"redis://127.0.0.1:{free_port()}")
    assert (code, out) == (1, "")
    assert err.startswith("gateway: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["acl", "top", "drain", "load", "webhooks"])
async def test_the_help_does_not_promise_a_redis_that_such_a_command_does_not_start(
    command: str,
) -> None:
    code, out, _ = await run(command, "--help")
    assert code == 0
    assert "development mode starts" not in out
    assert ("make run" in out) == (command != "acl")  # which asks no Redis


async def test_in_a_checkout_the_redis_of_make_run_is_found(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    (tmp_path / ".gateway").mkdir()
    place = tmp_path / ".gateway" / "redis.url"
    place.write_text(f"{redis_url}\n")
    folder = tmp_path / "deeper"
    folder.mkdir()

    async def here(*command: str) -> tuple[int, str, str]:
        settings = {"GATEWAY_REDIS_PREFIX": prefix, "GATEWAY_JWT_SECRET": SECRET}
        return await run(*command, cwd=folder, **settings)

    async with gateway_process(redis_url, prefix) as node:
        size = ("--connections", "1", "--rate", "10", "--seconds", "0.5")
        assert (await here("load", "--url", node.url, *size))[0] == 0
        _, out, _ = await here("top", "--json")
        (shown,) = json.loads(out)["nodes"]
        assert (await here("drain", shown["name"]))[0] == 0
        assert await asyncio.wait_for(node.process.wait(), 10) == 0
    place.write_text("nowhere://\n")
    (folder / "secret").write_text("s" * 32)
    code, _, err = await here("webhooks", "--url", "https://a.example", "--secret-file", "secret")
    assert code == 2
    assert "unix://" in err
