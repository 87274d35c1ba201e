"""nginx as the deployment has it, in front of gateways of the tests' own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from deploy.cluster import configure_nginx
from tests.support.redis_server import free_port
from tests.support.waiting import until

NGINX = Path(__file__).parents[2] / "deploy" / "nginx"


@dataclass
class Nginx:
    """nginx with the very nginx.conf, and addresses of the test's own."""

    command: tuple[str, ...]
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def logs(self) -> str:
        """Both logs, as they come out of the container."""
        return (self.folder / "output").read_text()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        # Appending, for nginx opens /dev/stdout anew: at the file's beginning.
        with (self.folder / "output").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            await until(self.is_up)
            yield
        except BaseException as error:
            error.add_note(f"Output of nginx:\n{self.logs}")
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()

    async def is_up(self) -> bool:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(f"{self.http_url}/healthz") as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False


def nginx_before(program: str, folder: Path, *ports: int) -> Nginx:
    """The deployment's nginx.conf in ``folder``, with gateways at these ports."""
    port = free_port()
    return Nginx(configure_nginx(program, folder, port, ports), folder, port)
