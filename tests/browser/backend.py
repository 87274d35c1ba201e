"""What the platform's backend does, with the very commands that its people would type."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from publisher.contract.keys import Keys
from tests.support.waiting import until


@dataclass(frozen=True)
class Backend:
    """The ``publisher`` command, and a look at what it is about."""

    redis_url: str
    prefix: str

    async def publisher(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run ``publisher``, which must end with ``code``, and return what it prints."""
        return await self.execute(sys.executable, "-m", "publisher", *arguments, code=code)

    async def execute(self, *command: str, code: int = 0) -> dict[str, Any]:
        """Run a command that prints JSON, told of Redis through its environment."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ
            | {
                "PUBLISHER_REDIS_URL": self.redis_url,
                "PUBLISHER_REDIS_PREFIX": self.prefix,
            },
        )
        output, errors = await process.communicate()
        assert process.returncode == code, errors.decode()
        printed: dict[str, Any] = json.loads(output)
        return printed

    async def run(self, session: str, user: str, program: str, code: int = 0) -> int:
        """Have a Python program's result published; returns the message's id."""
        command = (sys.executable, "-c", program)
        arguments = ("--session", session, "--user", user, "--", *command)
        return int((await self.publisher("run", *arguments, code=code))["id"])

    async def notify(self, user: str, **options: str) -> int:
        """Send a notification; returns the message's id."""
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return int((await self.publisher("notify", user, *arguments))["id"])

    async def confirmed(self, user: str, channel: str, id: int) -> None:
        """Wait until it is known that everything up to ``id`` has reached the user."""
        key = Keys(self.prefix).confirmed(channel)
        async with redis.asyncio.Redis.from_url(self.redis_url) as client:

            async def is_confirmed() -> bool:
                return int(await client.zscore(key, user) or 0) >= id

            await until(is_confirmed)
