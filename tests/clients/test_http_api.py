"""The clients of docs/http-api.md publish as they stand there."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from publisher import AsyncPublisher
from tests.support.api import KEY, keys_in
from tests.support.nodes import running_node
from tests.support.programs import cannot_build, require_program, require_toolchain

PAGE = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text("utf-8")
_MOST_SECONDS = 50  # Go compiles its HTTP library at the first time.


def php() -> str:
    """PHP with its extension for HTTP."""
    found = require_toolchain("php", "/usr/bin", "install php-cli and php-curl")
    modules = subprocess.run([found, "-m"], capture_output=True, text=True, check=True).stdout
    if "curl" not in modules.split():
        cannot_build("php has no curl: install php-curl")
    return found


CLIENTS: dict[str, tuple[str, Callable[[], list[str]]]] = {
    "curl": ("publish.sh", lambda: ["sh"] if require_program("curl") else []),
    "node": ("publish.mjs", lambda: [require_program("node")]),
    "go": (
        "publish.go",
        lambda: [require_toolchain("go", "/usr/local/go/bin", "install Go"), "run"],
    ),
    "php": ("publish.php", lambda: [php()]),
    "java": (
        "Publish.java",
        lambda: [require_toolchain("java", "/usr/bin", "install a JDK"), "-XX:TieredStopAtLevel=1"],
    ),
}


@pytest.mark.parametrize("name", CLIENTS)
async def test_the_client_publishes_once_however_often_it_is_run(
    name: str, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    (program,) = re.findall(rf"<!-- tested: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    file, command = CLIENTS[name][0], CLIENTS[name][1]()
    (tmp_path / file).write_text(program, "utf-8")
    keys = SecretStr(f"@{keys_in(tmp_path)}")
    async with (
        running_node(redis_url, prefix, api_port=0, api_keys=keys) as node,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        told = [await _run([*command, file], tmp_path, node.api_url) for _ in range(2)]
        (entry,) = await publisher.history("notifications/user-456")
    assert entry.data == {"title": "Paid", "message": "Order 7 is paid"}
    assert all(str(entry.id) in each for each in told)


async def _run(command: list[str], folder: Path, url: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=os.environ | {"API_URL": url, "API_KEY": KEY, "GOTOOLCHAIN": "local"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await asyncio.wait_for(process.communicate(), _MOST_SECONDS)
    assert process.returncode == 0, error.decode(sys.getdefaultencoding(), "replace")
    return out.decode()
