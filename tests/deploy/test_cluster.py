"""`make cluster`: the deployment of compose.yaml as processes of this machine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy import cluster
from gateway.development.login import make_token
from gateway.settings import Settings
from publisher import AsyncPublisher
from tests.support.client import connected
from tests.support.programs import RequireProgram, require_module
from tests.support.redis_server import free_port
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "deploy" / "cluster.py"
START_SECONDS = 40.0
END_SECONDS = 10.0
PORTS = 14
PORTS_4000 = cluster.Ports(4000)


@pytest.fixture(scope="module")
def compose() -> Any:
    return require_module("yaml").safe_load((ROOT / "deploy" / "compose.yaml").read_text())


def of_compose(compose: Any) -> set[str]:
    """The services that run without being asked for."""
    return {name for name, each in compose["services"].items() if "profiles" not in each}


def api_key(found: dict[str, str]) -> str:
    return Path(found["api-key"].removeprefix("file://")).read_text().strip()


async def publish_by_http(found: dict[str, str], channel: str, data: object) -> None:
    key = api_key(found)
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session,
        session.post(
            f"{found['api']}/v1/publish", json={"channel": channel, "data": data}
        ) as answer,
    ):
        assert answer.status == 200


async def started(port: int, folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), "--base-port", str(port), "--folder", str(folder)),
        env=os.environ | {"PYTHONPATH": str(ROOT), "GATEWAY_PORT": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )


async def places(process: asyncio.subprocess.Process) -> dict[str, str]:
    """What it says of each service, once all of them are there."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    async with asyncio.timeout(START_SECONDS):
        while "logs" not in found:
            line = (await process.stdout.readline()).decode()
            assert line, "it has ended"
            name, _, place = line.strip().partition(": ")
            found[name] = place
    return found


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def targets(url: str) -> list[str]:
    with urllib.request.urlopen(f"{url}/api/v1/targets", timeout=2) as answer:
        return [each["health"] for each in json.load(answer)["data"]["activeTargets"]]


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_all_that_compose_has_runs_and_one_ctrl_c_ends_it(
    compose: Any, tmp_path: Path, require_program: RequireProgram
) -> None:
    for program in ("nginx", "prometheus"):
        require_program(program)
    base = free_port(PORTS)
    process = await started(base, tmp_path)
    assert process.stdout is not None
    try:
        found = await places(process)
        assert set(found) == {*of_compose(compose), "api", "api-key", "logs"}
        assert [found[f"gateway-{number}"] for number in (1, 2, 3)] == [
            f"ws://127.0.0.1:{base + number}" for number in (1, 2, 3)
        ]
        # `gateway drain gateway-2` names one of those that are shown.
        async with AsyncPublisher.from_url(found["redis"]) as publisher:
            names = {node.name.rpartition("-")[0] for node in await publisher.nodes()}
        assert names == {"gateway-1", "gateway-2", "gateway-3"}
        # A message goes all the way, and a token is signed with the secret in the folder.
        secret = (tmp_path / "jwt-secret").read_text().strip()
        token = make_token(secret, "u", [], 60, Settings())
        async with (
            AsyncPublisher.from_url(found["redis"]) as publisher,
            connected(found["nginx"], token) as client,
        ):
            await client.subscribe("notifications/u")
            await publisher.publish("notifications/u", {"message": "It works"})
            assert (await client.receive())["data"]["message"] == "It works"
            await publish_by_http(found, "notifications/u", {"message": "Over HTTP too"})
            assert (await client.receive())["data"]["message"] == "Over HTTP too"
        await until(lambda: targets(found["prometheus"]) == ["up"] * 3, START_SECONDS)
        # What ends by itself comes back, as with Compose.
        os.kill(pid_at(base + 2), signal.SIGKILL)
        line = (await process.stdout.readline()).decode()
        assert line == "gateway-2: ended with -9, is started again\n"
        await until(lambda: is_open(base + 2), START_SECONDS)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(END_SECONDS):
            assert await process.wait() == 0
        assert [port for port in range(base, base + PORTS) if is_open(port)] == []
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def pid_at(port: int) -> int:
    """The process that listens at a port of 127.0.0.1 (proc(5))."""
    sought = f"0100007F:{port:04X} 00000000:0000 0A"
    inode = next(
        line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines() if sought in line
    )
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) == f"socket:[{inode}]":
                return int(link.parts[2])
        except OSError:
            continue
    raise LookupError(port)


async def test_a_port_in_use_is_named_with_the_way_out(tmp_path: Path) -> None:
    base = free_port(PORTS)
    with socket.create_server(("127.0.0.1", base + 5)):
        process = await started(base, tmp_path)
        out, _ = await process.communicate()
    assert process.returncode == 1
    assert f"port {base + 5} cannot be had" in out.decode()
    assert f"BASE_PORT={base + 100}" in out.decode()


def test_without_the_programs_around_them_the_gateways_run_and_it_is_said(
    tmp_path: Path, compose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "find", lambda _name: None)
    services, missing = cluster.planned(tmp_path, PORTS_4000, cluster.Secrets("secret", "key"))
    names = [service.name for service in services]
    assert names == ["redis", "gateway-1", "gateway-2", "gateway-3"]
    assert {*names, *missing} == of_compose(compose)


def test_redis_has_the_options_of_compose(compose: Any) -> None:
    assert list(cluster.REDIS_OPTIONS) == compose["services"]["redis"]["command"][1:]


def test_no_address_of_compose_is_left_in_what_is_copied(tmp_path: Path) -> None:
    for folder in ("prometheus", "grafana", "alertmanager"):
        cluster.copied(ROOT / "deploy" / folder, tmp_path / folder, PORTS_4000)
    left = re.compile(r"(?:https?://|- )(?:gateway-\d|prometheus|alertmanager):\d+")
    texts = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert texts
    assert [path for path, text in texts.items() if left.search(text)] == []


def test_make_cluster_runs_it() -> None:
    rules = (ROOT / "Makefile").read_text()
    (recipe,) = re.findall(r"^cluster:.*\n((?:\t.*\n)+)", rules, re.MULTILINE)
    assert "deploy/cluster.py" in recipe
    assert "$(BASE_PORT)" in recipe


def test_the_gateways_have_the_settings_of_compose(compose: Any) -> None:
    ours = cluster.gateway(0, PORTS_4000, cluster.Secrets("secret", "a-key")).environment
    theirs = compose["services"]["gateway-1"]["environment"]
    keys = re.sub(r"\$\{GATEWAY_API_KEY:\?[^}]*\}", "a-key", theirs["GATEWAY_API_KEYS"])
    assert json.loads(ours["GATEWAY_API_KEYS"]) == json.loads(keys)
    # Of the others those that a container has of its own, or that bound what a machine of that size bears.
    assert {name for name in theirs if name.startswith("GATEWAY_")} - ours.keys() == {
        *("GATEWAY_API_HOST", "GATEWAY_EVENTS", "GATEWAY_MAX_CONNECTIONS"),
    }
