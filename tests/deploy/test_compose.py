"""compose.yaml and the Dockerfile against the code they run; no container engine is needed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.api.keys import Scope, parse
from gateway.settings import Settings
from publisher.redis_address import PREFIX_VARIABLE, URL_VARIABLE
from tests.support.client import connected
from tests.support.processes import gateway_process
from tests.support.programs import require_module
from tests.support.redis_server import RedisServer, redis_server
from tests.support.tokens import SECRET
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KEY = "k" * 32
GATEWAYS = ("gateway-1", "gateway-2", "gateway-3")


@pytest.fixture(scope="module")
def compose() -> Any:
    return require_module("yaml").safe_load((DEPLOY / "compose.yaml").read_text())


def environment_of_image(dockerfile: list[str]) -> dict[str, str]:
    return dict(re.findall(r"(GATEWAY_\w+)=(\S+)", " ".join(dockerfile)))


def test_there_are_three_gateways_a_redis_a_balancer_and_what_watches_them(compose):
    assert set(compose["services"]) == {
        *GATEWAYS,
        *("redis", "webhooks", "nginx", "prometheus", "alertmanager", "grafana"),
    }


@pytest.mark.parametrize("name", GATEWAYS)
def test_the_gateways_settings_exist_and_are_enough_to_serve(
    compose, dockerfile, name, monkeypatch
):
    given = {**environment_of_image(dockerfile), **compose["services"][name]["environment"]}
    assert given.pop(URL_VARIABLE) == given["GATEWAY_REDIS_URL"]
    given = {variable: filled_in(value) for variable, value in given.items()}
    for variable, value in given.items():
        assert variable.removeprefix("GATEWAY_").lower() in Settings.model_fields
        monkeypatch.setenv(variable, value)
    settings = Settings()
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value().startswith("redis://redis:")
    assert settings.jwt_secret is not None
    # Loopback, the default, would hide the container from Prometheus, and from backends.
    assert settings.internal_host == settings.api_host == "0.0.0.0"
    assert settings.api_keys is not None
    (key,) = parse(settings.api_keys.get_secret_value()).values()
    assert key.scopes == set(Scope)
    assert settings.events == []


def filled_in(value: str) -> str:
    """With variables of this machine, as Compose replaces them."""
    return re.sub(r"\$\{\w+:(\?|-)[^}]*\}", lambda found: KEY if found[1] == "?" else "", value)


def test_the_secrets_come_from_outside_and_cannot_be_forgotten(compose):
    for name in GATEWAYS:
        environment = compose["services"][name]["environment"]
        assert environment["GATEWAY_JWT_SECRET"].startswith("${GATEWAY_JWT_SECRET:?")
        assert '"key": "${GATEWAY_API_KEY:?' in environment["GATEWAY_API_KEYS"]


def test_backends_reach_the_api_of_every_gateway_by_one_name_and_on_this_machine_that_of_one(
    compose,
):
    for name in GATEWAYS:
        service = compose["services"][name]
        assert service["networks"]["default"]["aliases"] == ["api"]
        port = service["environment"]["GATEWAY_API_PORT"]
        published = [f"127.0.0.1:{port}:{port}"] if name == "gateway-1" else None
        assert service.get("ports") == published
        assert f"http://api:{port}" in (DEPLOY / "compose.yaml").read_text()


async def test_webhooks_run_where_they_are_asked_for_and_begin_to_send(
    compose, redis_url, prefix, tmp_path
):
    service = compose["services"]["webhooks"]
    assert service["profiles"] == ["webhooks"]
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    command = service["command"]
    for volume in service["volumes"]:
        here, there, _ = volume.split(":")
        name = Path(here).name
        assert f"deploy/{name}" in ignored
        made = re.search(rf"umask 077; (.*) > deploy/{name}", text)
        assert made is not None
        (tmp_path / name).write_bytes(
            await asyncio.to_thread(subprocess.check_output, ["bash", "-c", made[1]])
        )
        command = [each.replace(there, str(tmp_path / name)) for each in command]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *command),
        env={**os.environ, URL_VARIABLE: redis_url, "GATEWAY_REDIS_PREFIX": prefix},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    assert b"webhooks_started" in await process.stderr.readline()
    process.terminate()
    await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_gateway_has_more_time_than_its_drain_takes(compose, name):
    gateway = compose["services"][name]
    grace = int(gateway["stop_grace_period"].removesuffix("s"))
    environment = gateway["environment"]
    drain = sum(int(environment[f"GATEWAY_DRAIN_{name}"]) for name in ("DELAY_SECONDS", "SECONDS"))
    assert grace >= drain + 10
    assert gateway["ulimits"]["nofile"] > int(gateway["environment"]["GATEWAY_MAX_CONNECTIONS"])


def test_only_the_balancer_is_open_to_the_world(compose):
    published = {
        name: service["ports"]
        for name, service in compose["services"].items()
        if "ports" in service
    }
    assert published.pop("nginx")
    assert published
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_the_gateways_believe_nginx_about_addresses_and_nobody_else(compose):
    nginx = compose["services"]["nginx"]["networks"]["default"]["ipv4_address"]
    for name in GATEWAYS:
        assert compose["services"][name]["environment"]["GATEWAY_TRUSTED_PROXIES"] == nginx
    (network,) = compose["networks"]["default"]["ipam"]["config"]
    assert ip_address(nginx) in ip_network(network["subnet"])
    # No other container can be given it.
    assert ip_address(nginx) not in ip_network(network["ip_range"])
    assert nginx != network["gateway"]


def test_the_addresses_in_all_files_are_the_services(compose, dockerfile):
    image = environment_of_image(dockerfile)
    upstream = re.findall(
        r"^server (\S+)", (DEPLOY / "nginx/upstream.conf").read_text(), re.MULTILINE
    )
    assert upstream == [f"{name}:{image['GATEWAY_PORT']}" for name in GATEWAYS]
    targets = re.findall(r"- (gateway-\S+)", (DEPLOY / "prometheus/prometheus.yml").read_text())
    assert targets == [f"{name}:{image['GATEWAY_INTERNAL_PORT']}" for name in GATEWAYS]
    inside = compose["services"]["nginx"]["ports"][0].partition(":")[2]
    assert re.search(
        rf"^listen {inside}\b", (DEPLOY / "nginx/listen.conf").read_text(), re.MULTILINE
    )


def test_what_is_mounted_exists(compose):
    for service in compose["services"].values():
        # Those of a profile are made by whoever asks for it.
        for volume in service.get("volumes", ()) if "profiles" not in service else ():
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists()
            else:
                assert source in compose["volumes"]


async def test_redis_is_not_healthy_while_it_loads_its_data(compose, tmp_path, require_program):
    kind, program, *arguments = compose["services"]["redis"]["healthcheck"]["test"]
    assert kind == "CMD"
    server = RedisServer(tmp_path, "--appendonly", "yes")
    command = [require_program(program), "-p", str(server.port), *arguments]

    def check() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, capture_output=True, check=False)

    server.start()
    with redis.Redis(port=server.port) as client:
        client.mset({f"filler:{number}": number for number in range(2_000)})
        client.bgrewriteaof()
        await until(lambda: server.log_has("Background AOF rewrite finished"))
    server.kill()
    assert check().returncode != 0
    server._options += (
        *("--key-load-delay", "1000"),
        *("--loading-process-events-interval-bytes", "1024"),
    )
    restarting = asyncio.create_task(asyncio.to_thread(server.restart))
    try:
        loading = await until(
            lambda: (done := check()) and b"LOADING" in done.stdout + done.stderr and done
        )
        assert loading.returncode != 0
        await restarting
        assert check().returncode == 0
    finally:
        await restarting
        server.stop()


async def test_the_first_lines_lead_to_a_first_message(compose, redis_url, prefix):
    """Each command that is for a gateway's container, with its environment and a Redis and a gateway of the test's."""
    text = (DEPLOY / "compose.yaml").read_text()
    head = text.partition("\nname:")[0].replace("\n# ", "\n")
    publish, token, connect = re.findall(
        r"^  docker compose exec gateway-1 (.*)$", head, re.MULTILINE
    )
    environment = {
        **{
            name: filled_in(value)
            for name, value in compose["services"]["gateway-1"]["environment"].items()
        },
        "GATEWAY_REDIS_URL": redis_url,
        URL_VARIABLE: redis_url,
        PREFIX_VARIABLE: prefix,
        "GATEWAY_JWT_SECRET": SECRET,
    }

    async def run(command: str) -> str:
        name, *arguments = shlex.split(command)
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).parent / name), *arguments),
            env={"PATH": os.defpath, **environment},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode().strip()

    async with gateway_process(redis_url, prefix) as node:
        await run(publish)
        program, url = shlex.split(connect)
        assert program in {each.name for each in entry_points(group="console_scripts")}
        assert url.startswith("ws://nginx?token=")
        (listen,) = re.findall(r"listen (\d+)", (DEPLOY / "nginx" / "listen.conf").read_text())
        assert listen == "80"
        address = url.replace("ws://nginx", node.url).replace("TOKEN", await run(token))
        async with connected(address) as client:
            (line,) = re.findall(r"type (\{.*?\})\.", head)
            await client.send(line)
            await client.expect(type="subscribed")
            assert (await client.receive())["data"]["message"] == "It works"


def test_the_readme_shows_the_same_commands():
    shown = re.findall(
        r"^#   (export COMPOSE_FILE.*|docker compose .*)$",
        (DEPLOY / "compose.yaml").read_text(),
        re.MULTILINE,
    )
    assert len(shown) == 5
    assert "\n".join(shown) in (ROOT / "README.md").read_text()


def test_redis_understands_its_options(compose, tmp_path):
    options = compose["services"]["redis"]["command"][1:]
    with redis_server(tmp_path, *options) as url, redis.Redis.from_url(url) as client:
        config = client.config_get(
            "appendonly",
            "appendfsync",
            "maxmemory",
            "maxmemory-policy",
            "client-output-buffer-limit",
        )
    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "everysec"
    assert config["maxmemory-policy"] == "noeviction"
    assert int(config["maxmemory"]) == 2**30
    assert f"pubsub {256 * 2**20} {64 * 2**20} 60" in config["client-output-buffer-limit"]


def test_the_image_does_not_run_as_root(dockerfile):
    last_stage = dockerfile[
        max(i for i, line in enumerate(dockerfile) if line.startswith("FROM")) :
    ]
    users = [line for line in last_stage if line.startswith("USER")]
    assert users
    # By number, so that an orchestrator can see that it is not root.
    assert int(users[-1].split()[1]) > 0


def test_the_process_gets_its_signals(dockerfile):
    """In shell form a shell would be process 1, and SIGTERM would end there."""
    for instruction in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        (line,) = [line for line in dockerfile if line.startswith(instruction)]
        assert json.loads(line[line.index("[") :])
    assert "STOPSIGNAL SIGTERM" in dockerfile
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (entrypoint,) = [line for line in dockerfile if line.startswith("ENTRYPOINT")]
    assert json.loads(entrypoint.removeprefix("ENTRYPOINT"))[0] in project["scripts"]


def test_all_that_is_copied_into_the_image_is_sent_to_the_builder(dockerfile):
    allowed = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = {
        name
        for line in dockerfile
        if line.startswith("COPY") and "--from" not in line
        for name in line.split()[1:-1]
    }
    assert copied == set(allowed)
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_installs_the_gateway_and_not_only_the_publisher(dockerfile):
    # The lock is that of the extra (tests/packaging/test_lock.py).
    assert any("pip install" in line and "requirements.lock" in line for line in dockerfile)


def test_every_image_of_others_is_pinned_to_a_version(compose, dockerfile):
    images = [service["image"] for service in compose["services"].values()]
    images += [line.partition("=")[2] for line in dockerfile if line.startswith("ARG PYTHON=")]
    others = {image for image in images if image != compose["x-gateway"]["image"]}
    assert len(others) >= 5
    assert [image for image in others if not re.search(r":v?\d+\.?\d*", image)] == []


def test_prometheus_tells_alertmanager_which_sends_alerts_to_somebody(compose):
    load = require_module("yaml").safe_load
    prometheus = load((DEPLOY / "prometheus/prometheus.yml").read_text())
    ((target,),) = [
        each["static_configs"][0]["targets"] for each in prometheus["alerting"]["alertmanagers"]
    ]
    name, _, port = target.partition(":")
    assert compose["services"][name]["ports"] == [f"127.0.0.1:{port}:{port}"]
    settings = load((DEPLOY / "alertmanager/alertmanager.yml").read_text())
    receivers = {each["name"] for each in settings["receivers"]}
    assert {settings["route"]["receiver"]} <= receivers
    # Its rules name alerts that there are.
    alerts = set(re.findall(r"- alert: (\w+)", (DEPLOY / "prometheus/alerts.yml").read_text()))
    named = re.findall(
        r'alertname =~? "([\w|]+)"', (DEPLOY / "alertmanager/alertmanager.yml").read_text()
    )
    assert named
    assert {name for each in named for name in each.split("|")} <= alerts
