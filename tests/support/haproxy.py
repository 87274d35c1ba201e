"""HAProxy as the deployment has it, in front of gateways of the tests' own."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.redis_server import free_port
from tests.support.requests import answer_to, request
from tests.support.waiting import until

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"


@dataclass
class HAProxy:
    """HAProxy with the deployment's configuration, and addresses of the test's own.

    ``says``: what a connection begins with, where a test chooses addresses by the PROXY protocol.
    """

    program: str
    file: Path
    port: int
    says: bytes = b""

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """Its log, as it comes out of a container."""
        return self.file.with_suffix(".log").read_text()

    @property
    def command(self) -> tuple[str, ...]:
        return self.program, "-db", "-f", str(self.file)

    def change(self, old: str, new: str) -> None:
        """Word something otherwise in its configuration."""
        text = self.file.read_text()
        assert text.count(old) == 1, old
        self.file.write_text(text.replace(old, new))

    def choose_addresses(self) -> None:
        """Let each connection say from where it comes."""
        self.change(f"bind 127.0.0.1:{self.port}", f"bind 127.0.0.1:{self.port} accept-proxy")
        self.says = b"PROXY UNKNOWN\r\n"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with self.file.with_suffix(".log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            await until(self.is_up)
            yield
        except BaseException as error:
            error.add_note(f"Output of HAProxy:\n{self.output}")
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def is_up(self) -> bool:
        asked = request("GET /healthz HTTP/1.1", "Host: x", "Connection: close")
        try:
            return (await answer_to(self.url, self.says + asked)).status == 200
        except OSError:
            return False


def haproxy_before(program: str, folder: Path, *ports: int) -> HAProxy:
    """The deployment's haproxy.cfg in ``folder``, with gateways at these ports."""
    port = free_port()
    text = CONFIGURATION.read_text().replace("bind :80", f"bind 127.0.0.1:{port}")
    # It does not start where it may open fewer files than its connections need.
    lines = text.replace("maxconn 60000", "maxconn 1000").splitlines()
    [pattern, *_] = [line for line in lines if re.match(r"    server gateway-1 ", line)]
    kept = [line for line in lines if not line.startswith("    server ")]
    for number, each in enumerate(ports, 1):
        kept.append(
            pattern.replace("gateway-1:3001", f"127.0.0.1:{each}").replace(
                "server gateway-1", f"server gateway-{number}"
            )
        )
    folder.mkdir(exist_ok=True)
    file = folder / "haproxy.cfg"
    file.write_text("\n".join([*kept, ""]))
    return HAProxy(program, file, port)
