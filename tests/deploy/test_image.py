"""What the Dockerfile does, done without a container engine: its pip commands, and its health check."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.processes import gateway_process
from tests.support.programs import cannot_run
from tests.support.redis_server import free_port

ROOT = Path(__file__).parents[2]

# A pip that builds and installs what it is told, without what that needs, to a folder of its own. That the lock can be
# installed is shown by tests/packaging/test_lock.py.
PIP = """\
#!/bin/sh
case "$*" in
  *" --require-hashes --requirement requirements.lock") exec test -s requirements.lock;;
  *" --target "*) exec {python} -m pip "$@";;
esac
exec {python} -m pip "$@" --no-deps --target "$(mktemp -d {installed}/XXXXXX)" --disable-pip-version-check
"""


def copy(instruction: str, source: Path) -> None:
    """What COPY does: files into a folder, a folder's content into a folder."""
    *names, target = instruction.split()[1:]
    for name in names:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / target, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / target)


@pytest.mark.xdist_group("packaging")
@pytest.mark.timeout(300)
def test_the_image_installs_from_no_more_than_it_copies(
    dockerfile: list[str], tmp_path: Path
) -> None:
    source, programs, installed = (tmp_path / name for name in ("src", "bin", "installed"))
    for folder in (source, programs, installed):
        folder.mkdir()
    (programs / "pip").write_text(PIP.format(python=sys.executable, installed=installed))
    (programs / "pip").chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}"}
    for line in dockerfile:
        if line.startswith("COPY") and "--from" not in line:
            copy(line, source)
        elif line.startswith("RUN") and "pip install" in line:
            command = ["sh", "-c", line.removeprefix("RUN")]
            done = subprocess.run(
                command, cwd=source, env=environment, capture_output=True, text=True, check=False
            )
            if re.search(r"No matching distribution found for setuptools|Max retries", done.stderr):
                cannot_run("setuptools, which builds the package, is not to be had")
            assert done.returncode == 0, done.stderr
    (folder,) = installed.iterdir()
    complete = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert {"gateway/app.py", "publisher/contract/scripts/publish.lua"} <= complete
    assert any(
        re.fullmatch(r"realtime_gateway-.*\.dist-info/licenses/LICENSE", each) for each in complete
    )


async def health(dockerfile: list[str], port: int) -> int:
    """Run the image's health check, with the environment of an image whose internal port was changed."""
    (instruction,) = [line for line in dockerfile if line.startswith("HEALTHCHECK")]
    python, *arguments = json.loads(instruction[instruction.index("[") :])
    assert python == "python"
    environment = dict(re.findall(r"(GATEWAY_\w+)=(\S+)", " ".join(dockerfile)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env={**environment, "GATEWAY_INTERNAL_PORT": str(port), "http_proxy": "http://127.0.0.1:9"},
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


async def test_the_image_is_healthy_while_its_gateway_is_ready_on_whatever_internal_port(
    dockerfile: list[str], redis_url: str, prefix: str
) -> None:
    async with gateway_process(redis_url, prefix) as node:
        assert await health(dockerfile, node.internal_port) == 0
        await node.terminate()
        assert await health(dockerfile, node.internal_port) == 1
    assert await health(dockerfile, free_port()) == 1


async def test_the_image_is_not_healthy_while_its_gateway_is_not_ready(
    dockerfile: list[str],
) -> None:
    async def readyz(_request: web.Request) -> web.Response:
        return web.json_response({"ready": False}, status=503)

    app = web.Application()
    app.router.add_get("/readyz", readyz)
    async with TestServer(app, host="127.0.0.1") as server:
        assert server.port is not None
        assert await health(dockerfile, server.port) == 1
