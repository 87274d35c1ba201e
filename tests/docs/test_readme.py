"""The first commands of the README, in both languages, do what it says."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.docs.editions import pairs
from tests.processes.test_development import development
from tests.support.client import connected

ENGLISH, CHINESE = pairs()["README.md"]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("text", [ENGLISH.text, CHINESE.text], ids=["English", "Chinese"])
async def test_what_is_published_by_the_first_commands_arrives(text: str, tmp_path: Path) -> None:
    (commands,) = re.findall(r"```sh\n(\.venv/bin/publisher notify .*?)```", text, re.DOTALL)
    program = tmp_path / ".venv" / "bin" / "publisher"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m publisher "$@"\n')
    program.chmod(0o755)
    async with development(tmp_path) as (_, printed):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PUBLISHER_")}
        process = await asyncio.create_subprocess_exec(
            *("sh", "-ec", commands),
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await asyncio.wait_for(process.wait(), 20) == 0
        match = re.search(r"(ws://localhost:\d+)\?token=(\S+)", printed)
        assert match is not None
        async with connected(match[1], match[2]) as client:
            # Nobody was there when they were published.
            await client.subscribe("notifications/user-123")
            await client.expect(
                type="notifications", data={"title": "Hello", "message": "It works"}
            )
            await client.subscribe("run-results/demo")
            result = await client.expect(type="run-results")
            assert result["data"]["stdout"] == "42\n"
