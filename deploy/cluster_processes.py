"""Processes of this machine that are kept running until told, as Compose keeps containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 8.0
"""What has not ended then is killed, so that all is over within ten seconds."""
_RESTART_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Service:
    """A program, and how it is seen to be ready.

    Args:
        name: as in compose.yaml.
        url: what is told of it.
        command: the program and its arguments.
        check: a URL that answers 200 when it is ready; for ``tcp://`` one that takes connections.
        environment: further variables.
    """

    name: str
    url: str
    command: Sequence[str]
    check: str
    environment: dict[str, str] = field(default_factory=dict)


class CannotStart(Exception):
    """The message says why."""


class Processes:
    """Runs the services until told, and starts again what ends by itself, as `restart: unless-stopped` does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    def end(self) -> None:
        """Let ``run`` return."""
        self._told.set()

    async def run(self, groups: Sequence[Sequence[Service]], also: Mapping[str, str]) -> None:
        """Start them, say where they are, and end them when told.

        Args:
            groups: each needs the ones before, which are ready when it starts. What is in the first ends last.
            also: what else is told, by its name.

        Raises:
            CannotStart: one is not ready in time.
        """
        try:
            for group in groups:
                self._keepers += [asyncio.create_task(self._keep(each)) for each in group]
                await asyncio.gather(*(self._ready(each) for each in group))
                if self._told.is_set():
                    return
            services = {each.name: each.url for group in groups for each in group}
            for name, place in {**services, **also}.items():
                say(f"{name}: {place}")
            await self._told.wait()
            say("ending")
        finally:
            await self._end({each.name for each in groups[0]})

    async def _keep(self, service: Service) -> None:
        while not self._told.is_set():
            log = (self._folder / f"{service.name}.log").open("ab")
            with log:
                process = await asyncio.create_subprocess_exec(
                    *service.command,
                    env=without_grafanas() | service.environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C is for this process, which ends them in order.
                    start_new_session=True,
                )
            self._processes[service.name] = process
            status = await process.wait()
            if not self._told.is_set():
                say(f"{service.name}: ended with {status}, is started again")
                await asyncio.sleep(_RESTART_SECONDS)

    async def _ready(self, service: Service) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not self._told.is_set() and not await asyncio.to_thread(  # noqa: ASYNC110 - it is another process's state
                    answers, service.check
                ):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            log = self._folder / f"{service.name}.log"
            raise CannotStart(f"{service.name} is not ready; its log is {log}") from None

    async def _end(self, last: set[str]) -> None:
        self._told.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._terminate(self._processes.keys() - last)
                await self._terminate(last)
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(each.wait() for each in self._processes.values()))

    async def _terminate(self, names: set[str]) -> None:
        processes = [self._processes[name] for name in names if name in self._processes]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await asyncio.gather(*(process.wait() for process in processes))


def without_grafanas() -> dict[str, str]:
    """The environment without settings that are meant for another Grafana. Those of gateways are taken over."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GF_")}


def answers(check: str) -> bool:
    """Whether who is behind this URL is ready."""
    if check.startswith("tcp://"):
        host, port = check.removeprefix("tcp://").split(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return True
        return False
    try:
        with urllib.request.urlopen(check, timeout=2) as answer:  # noqa: S310 - addresses of ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201
