"""The configurations of docs/proxies.md: nginx's serves, the others are what their programs take."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.deploy.test_kubernetes import VERSIONS
from tests.support.client import connected
from tests.support.nodes import running_node
from tests.support.programs import require_module, require_program
from tests.support.redis_server import free_port
from tests.support.tokens import make_token
from tests.support.waiting import PATIENCE, until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "proxies.md").read_text("utf-8")

NGINX = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
{location}
    }}
}}
"""


def shown(name: str) -> list[str]:
    return re.findall(rf"<!-- tested: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)


def parsed(name: str) -> list[Any]:
    yaml = require_module("yaml")
    return [yaml.safe_load(each) for each in shown(name)]


async def test_the_lines_for_nginx_let_a_client_through(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    program = require_program("nginx")
    (location,) = shown("nginx")
    (setting,) = re.findall(r"GATEWAY_TRUSTED_PROXIES=([^`\s]+)", PAGE)
    port = free_port()
    path = {"path": "/realtime", "trusted_proxies": [setting]}
    async with running_node(redis_url, prefix, **path) as node:
        there = node.url.rpartition(":")[2]
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(
            NGINX.format(
                folder=tmp_path,
                port=port,
                location=location.replace("127.0.0.1:3001", f"127.0.0.1:{there}"),
            )
        )
        nginx = await asyncio.create_subprocess_exec(program, "-c", str(configuration))
        try:
            await until((tmp_path / "nginx.pid").exists)
            url = f"ws://127.0.0.1:{port}/realtime?token={make_token('user-1')}"
            async with connected(url) as client:
                await client.send({"type": "heartbeat"})
                await client.expect(type="heartbeat")
            http = url.replace("ws", "http", 1).partition("?")[0]
            stream = f"{http}/sse?channel=notifications/user-1&token={make_token('user-1')}"
            async with aiohttp.ClientSession() as session, session.get(stream) as answer:
                # It comes although the answer goes on.
                async with asyncio.timeout(PATIENCE):
                    while b'"subscribed"' not in await answer.content.readuntil(b"\n\n"):
                        pass
        finally:
            nginx.terminate()
            await nginx.wait()
    assert (tmp_path / "access.log").read_text() == ""


def test_the_configuration_of_traefik_hangs_together() -> None:
    static, dynamic = parsed("traefik")
    http = dynamic["http"]
    (router,) = http["routers"].values()
    assert set(router["entryPoints"]) <= set(static["entryPoints"])
    assert set(router["middlewares"]) == set(http["middlewares"])
    assert [router["service"]] == list(http["services"])


@pytest.mark.parametrize("kind", ["HTTPRoute", "Ingress"])
def test_the_routes_of_kubernetes_lead_to_the_port_for_clients(kind: str) -> None:
    (route,) = [each for each in parsed("kubernetes") if each["kind"] == kind]
    if kind == "Ingress":
        validate = require_module("kubernetes_validate")
        validate.validate(route, VERSIONS[-1], strict=True)
        (path,) = route["spec"]["rules"][0]["http"]["paths"]
        service = path["backend"]["service"]
        name, port = service["name"], service["port"]["number"]
    else:
        (backend,) = route["spec"]["rules"][0]["backendRefs"]
        name, port = backend["name"], backend["port"]
    manifests = (ROOT / "deploy" / "kubernetes" / "gateway.yaml").read_text()
    (there,) = [
        each
        for each in require_module("yaml").safe_load_all(manifests)
        if each and each["kind"] == "Service" and each["metadata"]["name"] == name
    ]
    assert port in [each["port"] for each in there["spec"]["ports"]]
