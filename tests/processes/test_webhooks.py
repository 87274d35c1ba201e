"""``gateway webhooks`` as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from gateway.webhooks.signing import has_bare_text, secrets_of
from tests.processes.test_serve import run
from tests.support.client import connected
from tests.support.processes import gateway_process
from tests.support.tokens import make_token
from tests.support.waiting import until

SECRET = "0123456789abcdef0123456789abcdef"


async def test_what_happens_at_a_gateway_arrives_at_the_url(
    gateway_url: str, publisher_url: str, prefix: str, tmp_path: Path
) -> None:
    arrived: list[dict[str, object]] = []

    async def take(request: web.Request) -> web.Response:
        arrived.append(json.loads(await request.read()))
        return web.Response(status=410 if len(arrived) > 2 else 204)

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    command = ("webhooks", "--url", url, "--secret-file", str(secret), "--start", "oldest")
    environment = {
        **os.environ,
        "PUBLISHER_REDIS_URL": publisher_url,
        "GATEWAY_REDIS_PREFIX": prefix,
    }

    async def begin() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *command), env=environment
        )

    async with gateway_process(gateway_url, prefix, events="connected,disconnected") as node:
        sender = await begin()
        try:
            async with connected(node.url, make_token("u")):
                await until(lambda: len(arrived) == 1)
            await until(lambda: len(arrived) == 2)
            sender.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(sender.wait(), 10) == 0
            sender = await begin()
            async with connected(node.url, make_token("v")):
                assert await asyncio.wait_for(sender.wait(), 20) == 3  # it was told 410
        finally:
            if sender.returncode is None:
                sender.kill()
            await runner.cleanup()
    assert [each["type"] for each in arrived] == ["connected", "disconnected", "connected"]


@pytest.mark.parametrize(("begin", "warned"), [("", True), ("whsec_", False)])
async def test_a_secret_that_libraries_would_take_for_another_is_warned_of(
    begin: str, warned: bool, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(begin + SECRET)
    command = ("webhooks", "--url", "https://a.example/", "--secret-file", str(file))
    _, _, error = await run(*command)
    assert ("webhook_secret_is_text" in error) == warned
    assert SECRET not in error


@pytest.mark.parametrize("page", ["deploy/compose.yaml", "docs/deployment.md"])
def test_the_secrets_that_are_made_by_our_pages_are_as_libraries_expect_them(page: str) -> None:
    text = (Path(__file__).parents[2] / page).read_text("utf-8")
    lines = [line for line in text.splitlines() if "webhook-secret" in line and "openssl" in line]
    assert lines
    for line in lines:
        made = re.search(
            r"""(printf '\S+' |webhook-secret=)("\S*\$\(openssl rand -base64 32\)")""", line
        )
        assert made is not None, line
        how = made[1] if made[1].startswith("printf") else "printf %s "
        secret = subprocess.check_output(["bash", "-c", how + made[2]], text=True)
        assert len(secrets_of(secret)[0]) == 32
        assert not has_bare_text(secret), line


@pytest.mark.parametrize(
    ("url", "secret", "told"),
    [
        ("http://a.example/", SECRET, "--url: it must begin with https://"),
        ("https://u:p@a.example/", SECRET, "put it into a file, and give @FILE"),
        ("@missing", SECRET, "--url: it begins with @ and so names a file, which cannot be read"),
        ("https://a.example/", "short", "--secret-file: a secret has 5 bytes"),
        ("https://a.example/", None, "--secret-file: No such file"),
        ("https://a.example/", SECRET, "no Redis given: set GATEWAY_REDIS_URL"),
    ],
)
async def test_what_cannot_be_used_is_told(
    url: str, secret: str | None, told: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    if secret is not None:
        file.write_text(secret)
    code, _, error = await run("webhooks", "--url", url, "--secret-file", str(file), cwd=tmp_path)
    assert code == 2
    assert told in error
