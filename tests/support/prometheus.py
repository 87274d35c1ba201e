"""A Prometheus of the test's own, which scrapes often and is asked by HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.redis_server import free_port
from tests.support.waiting import until

_START_SECONDS = 30.0
_INTERVAL = "500ms"
RATE_INTERVAL = "10s"
"""In the place of Grafana's ``$__rate_interval``: some scrapes."""


@dataclass(frozen=True)
class Series:
    """One that a query gives: its labels, and its values by their seconds since 1970."""

    labels: dict[str, str]
    values: list[tuple[float, float]]


@dataclass(frozen=True)
class Prometheus:
    """A running server, and what is asked of it."""

    url: str
    session: aiohttp.ClientSession
    process: asyncio.subprocess.Process
    file: Path

    def watch(self, targets: Sequence[str]) -> None:
        """Scrape these, ``host:port`` each, and no others from now on."""
        self.file.write_text(_with_targets(self.file.read_text(), targets))
        self.process.send_signal(signal.SIGHUP)

    async def alerts(self) -> list[dict[str, Any]]:
        """All alerts that are pending or firing, as its API tells them."""
        async with self.session.get(f"{self.url}/api/v1/alerts") as answer:
            found: list[dict[str, Any]] = (await answer.json())["data"]["alerts"]
        return found

    async def query(self, expression: str) -> list[Series]:
        """What an expression gives now."""
        result = await self._ask("query", query=expression)
        return [
            Series(each["metric"], [(float(each["value"][0]), float(each["value"][1]))])
            for each in result
        ]

    async def over(
        self, expression: str, start: float, end: float, step: float = 1.0
    ) -> list[Series]:
        """What it gives from ``start`` to ``end``, in seconds since 1970."""
        result = await self._ask(
            "query_range", query=expression, start=f"{start}", end=f"{end}", step=f"{step}"
        )
        return [
            Series(each["metric"], [(float(at), float(value)) for at, value in each["values"]])
            for each in result
        ]

    async def _ask(self, what: str, **parameters: str) -> list[dict[str, Any]]:
        async with self.session.post(f"{self.url}/api/v1/{what}", data=parameters) as answer:
            found = await answer.json()
        assert found["status"] == "success", found
        result: list[dict[str, Any]] = found["data"]["result"]
        return result

    async def is_ready(self) -> bool:
        try:
            async with self.session.get(f"{self.url}/-/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


@contextlib.asynccontextmanager
async def prometheus_scraping(
    program: str,
    folder: Path,
    targets: Sequence[str],
    configuration: str,
    options: Sequence[str] = (),
) -> AsyncIterator[Prometheus]:
    """Run one until the block ends.

    Args:
        program: its path.
        folder: for its files.
        targets: ``host:port`` of each gateway's internal port.
        configuration: that of the product, in which the targets and intervals of 15 s are replaced.
        options: further ones of the program.
    """
    file = folder / "prometheus.yml"
    file.write_text(_with_targets(configuration, targets).replace("15s", _INTERVAL))
    port = free_port()
    with (folder / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            *options,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        async with aiohttp.ClientSession() as session:
            server = Prometheus(f"http://127.0.0.1:{port}", session, process, file)
            await until(server.is_ready, _START_SECONDS)
            yield server
    except BaseException as error:
        error.add_note(f"Output of Prometheus:\n{(folder / 'output').read_text()}")
        raise
    finally:
        process.kill()
        await process.wait()


def _with_targets(configuration: str, targets: Sequence[str]) -> str:
    listed = "\n".join(f"          - {each}" for each in targets)
    # The last ones: before them are those of the Alertmanager.
    head, _, old = configuration.rpartition("      - targets:\n")
    rest = "\n".join(line for line in old.splitlines() if not line.startswith("          - "))
    return f"{head}      - targets:\n{listed}\n{rest}\n"
