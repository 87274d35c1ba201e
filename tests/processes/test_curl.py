"""``curl -N`` as docs/without-websocket.md has it."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from publisher import AsyncPublisher
from tests.support.processes import gateway_process
from tests.support.programs import RequireProgram
from tests.support.tokens import make_token
from tests.support.waiting import PATIENCE

DOCUMENTED = Path(__file__).parents[2] / "docs" / "without-websocket.md"


async def test_curl_shows_messages_as_they_come(
    redis_url: str, prefix: str, require_program: RequireProgram
) -> None:
    require_program("curl")
    (command,) = re.findall(
        r"^```sh\n(curl .*?)^```$", DOCUMENTED.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    async with (
        gateway_process(redis_url, prefix) as gateway,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        await publisher.publish("notifications/user-123", "missed")
        process = await asyncio.create_subprocess_shell(
            "exec " + command.replace("localhost:3001", f"127.0.0.1:{gateway.port}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | {"TOKEN": make_token("user-123")},
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
                while b"missed" not in await process.stdout.readline():
                    pass
                await publisher.publish("notifications/user-123", "live")
                while b"live" not in await process.stdout.readline():
                    pass
        finally:
            process.kill()
            await process.wait()
