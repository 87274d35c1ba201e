"""Gateway nodes as processes of their own, the way an operator runs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.redis_server import free_port
from tests.support.tokens import SECRET
from tests.support.waiting import until

START_SECONDS = 20.0
STOP_SECONDS = 20.0

_AS_A_SERVICE_MANAGER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}; "
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)
"""Hands over a socket as systemd does: as file 3, and with the process's own number."""


@dataclass
class GatewayProcess:
    """A running ``gateway serve``."""

    process: asyncio.subprocess.Process
    port: int
    internal_port: int
    log: Path
    workers: int = 1
    tls: bool = False

    @property
    def url(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}"

    @property
    def internal_url(self) -> str:
        return f"http://127.0.0.1:{self.internal_port}"

    @property
    def output(self) -> str:
        """All it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    async def is_ready(self) -> bool:
        """Whether ``/readyz`` of each worker says so; raises when it has ended instead."""
        if self.process.returncode is not None:
            raise RuntimeError(f"gateway serve ended with {self.process.returncode}")
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                for port in range(self.internal_port, self.internal_port + self.workers):
                    async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                        if answer.status != 200:
                            return False
            except (aiohttp.ClientError, TimeoutError):
                return False
        return True

    async def get(self, path: str) -> tuple[int, str]:
        """Ask the internal port."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.internal_url + path) as answer,
        ):
            return answer.status, await answer.text()

    async def terminate(self) -> int:
        """Ask it to drain and end, and return its exit code."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> int:
        """End it without warning."""
        return await self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang: its connections stay open, and it does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    @property
    def resident_bytes(self) -> int:
        """The memory it holds (Linux: proc(5), ``VmRSS``)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii", errors="replace")
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    @property
    def peak_bytes(self) -> int:
        """The most memory it has held (``VmHWM``), as far as that is not forgotten."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def forget_peak(self) -> None:
        """Let ``peak_bytes`` begin anew (proc(5), ``clear_refs``)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", "ascii")

    async def _end(self, number: signal.Signals) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        async with asyncio.timeout(STOP_SECONDS):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def gateway_process(
    redis_url: str,
    prefix: str,
    *,
    port: int | None = None,
    internal_port: int | None = None,
    workers: int = 1,
    code: Path | None = None,
    files: int | None = None,
    passed: socket.socket | None = None,
    environment: Mapping[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[GatewayProcess]:
    """Run a node until the block ends; its output is told with whatever error leaves the block.

    Args:
        redis_url: the Redis it shares with the others.
        prefix: of its keys there.
        port: for clients; a free one unless given.
        internal_port: for health, readiness and metrics; likewise. Further workers have the next ones.
        workers: how many processes serve.
        code: the folder whose gateway it is; this one's unless given.
        files: how many it may open; as many as this process unless given.
        passed: the socket that it is handed over, as systemd does it.
        environment: further variables.
        settings: further settings by their names, as of ``gateway.settings.Settings``; ``None`` for one that is not set.
    """
    port, internal_port = port or free_port(), internal_port or free_port(workers)
    given = {
        "host": "127.0.0.1",
        "internal_port": internal_port,
        "workers": workers,
        "redis_url": redis_url,
        "redis_prefix": prefix,
        "jwt_secret": SECRET,
        "drain_delay_seconds": 0,
        **settings,
    }
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    inherited |= environment or {}
    if code is not None:
        inherited["PYTHONPATH"] = str(code)
    handed = () if passed is None else (passed.fileno(),)
    with tempfile.TemporaryDirectory(prefix="gateway-") as folder:
        log = Path(folder) / "output"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(() if files is None else ("sh", "-c", f'ulimit -n {files}; exec "$@"', "sh")),
                *(sys.executable, *(("-c", _AS_A_SERVICE_MANAGER, str(*handed)) if handed else ())),
                *("-m", "gateway", "serve", "--port", str(port)),
                pass_fds=handed,
                env=inherited
                | {f"GATEWAY_{name.upper()}": str(v) for name, v in given.items() if v is not None},
                cwd=code,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C at the terminal is for pytest, which then ends the node in order.
                start_new_session=True,
            )
        tls = "tls_certificate" in settings
        node = GatewayProcess(process, port, internal_port, log, workers, tls)
        try:
            await until(node.is_ready, START_SECONDS)
            yield node
        except BaseException as error:
            error.add_note(f"Output of gateway serve on port {port}:\n{node.output}")
            raise
        finally:
            await node.kill()
