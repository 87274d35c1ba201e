"""The process of ``host.py``: ``python -m gateway.testing.serving FOLDER``.

A line of JSON on standard input is a command, and one on standard output its answer. When standard input is closed, everything ends.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import traceback
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from gateway import logs, serve
from gateway.app import Addresses
from gateway.development.login import make_token
from gateway.development.redis_server import EmbeddedRedis, EmbeddedRedisError
from gateway.options import mistakes
from gateway.settings import Settings, UsageError

_DEFAULTS: Final[dict[str, Any]] = {
    "host": "127.0.0.1",
    "port": 0,
    "internal_port": 0,
    "max_connections": 1_000,
    # A test does not wait for what spreads a deployment's load.
    "confirm_interval_seconds": 0.1,
    "drain_delay_seconds": 0.0,
    "drain_seconds": 0.0,
    "log_level": "warning",
}

_NAMES: Final = "names are those of docs/configuration.md in lower case, without GATEWAY_"

_READY_SECONDS: Final = 10.0
"""If a gateway takes no connections by then, it is looked whether there is a Redis for it."""


class _Running:
    """A gateway that takes connections, until it is told to end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._told = asyncio.Event()
        self._ready: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
        running = serve.run_node(settings, self._told, lambda _: None, self._ready.set_result)
        self._task = asyncio.create_task(running, name="the gateway")

    async def ready(self) -> int:
        """The clients' port. Raises as :func:`gateway.serve.run_node` does, and where Redis cannot be used."""
        both: set[asyncio.Future[Any]] = {self._task, self._ready}
        done, _ = await asyncio.wait(
            both, timeout=_READY_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            await self._look_for_redis()
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            await self._task
        return self._ready.result().public[1]

    async def _look_for_redis(self) -> None:
        from gateway.check import check  # noqa: PLC0415 - not for who needs none

        found = await check(self.settings)
        if not found["ok"]:
            raise UsageError("; ".join(found["errors"]))

    async def end(self) -> None:
        """End it."""
        self._told.set()
        await self._task


class Server:
    """Carries out the commands. Its Redis is started for the first gateway that needs one.

    Args:
        folder: for the data of its Redis.
        stack: ends what it has started.
    """

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._redis_url: str | None = None
        self._running: _Running | None = None

    async def answer(self, line: bytes) -> dict[str, Any]:
        """What a command leads to, with its number; ``error`` where it could not be done."""
        command = json.loads(line)
        number = command.pop("number")
        return {**await self._carry_out(command), "number": number}

    async def _carry_out(self, command: dict[str, Any]) -> dict[str, Any]:
        try:
            match command.pop("command"):
                case "serve":
                    return await self._serve(command["settings"])
                case "token":
                    return {"token": self._token(**command)}
                case _:
                    await self.end()
                    return {}
        except (EmbeddedRedisError, UsageError) as error:
            return {"error": str(error)}
        except ValidationError as error:
            found = "\n  ".join(mistakes(error, variables=False))
            return {"error": f"realtime_gateway_settings ({_NAMES}):\n  {found}"}
        except Exception as error:  # noqa: BLE001 - whatever a test meets, the next one has its gateway
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"}

    async def _serve(self, given: dict[str, Any]) -> dict[str, Any]:
        await self.end()
        prefix = f"test-{secrets.token_hex(6)}"
        own: dict[str, Any] = {"redis_prefix": prefix}
        if "redis_url" not in given:
            own["redis_url"] = await self._own_redis()
        keys = {"jwt_secret", "jwt_public_key", "jwt_jwks_url", "jwt_discovery", "jwt_keys"}
        if not keys & given.keys():
            own["jwt_secret"] = secrets.token_urlsafe(48)
        settings = Settings(**{**_DEFAULTS, **own, **given})
        logs.configure(settings.log_level, settings.log_format)
        self._running = _Running(settings)
        try:
            port = await self._running.ready()
        except BaseException:
            await self.end()
            raise
        secret, url = settings.jwt_secret, settings.redis_url
        assert url is not None
        return {
            "port": port,
            "redis_url": url.get_secret_value(),
            "prefix": settings.redis_prefix,
            "jwt_secret": secret and secret.get_secret_value(),
        }

    async def _own_redis(self) -> str:
        if self._redis_url is None:
            server = EmbeddedRedis(self._folder)
            self._redis_url = await server.start()
            self._stack.push_async_callback(server.stop)
        return self._redis_url

    def _token(self, user: str, channels: list[str], lifetime: int) -> str:
        if self._running is None:
            raise UsageError("the test of this gateway has ended, and the gateway with it")
        settings = self._running.settings
        if settings.jwt_secret is None:
            raise UsageError("token() needs the gateway's jwt_secret: sign with your own key")
        secret = settings.jwt_secret.get_secret_value()
        return make_token(secret, user, channels, lifetime, settings)

    async def end(self) -> None:
        """End the gateway that runs, if one does."""
        running, self._running = self._running, None
        if running is not None:
            await running.end()


async def _main(folder: Path) -> None:
    reader = asyncio.StreamReader(limit=2**24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    async with AsyncExitStack() as stack:
        server = Server(folder, stack)
        stack.push_async_callback(server.end)
        while line := await reader.readline():
            answer = json.dumps(await server.answer(line))
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    serve.run(_main(Path(sys.argv[1])))
