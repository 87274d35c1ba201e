"""Prometheus and Alertmanager with the product's configurations, and somebody whom Alertmanager calls."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from tests.alerts.faster import faster
from tests.support.programs import require_program
from tests.support.prometheus import Prometheus, prometheus_scraping
from tests.support.redis_server import free_port
from tests.support.served import served
from tests.support.waiting import until

_DEPLOY: Final = Path(__file__).parents[2] / "deploy"
_START_SECONDS: Final = 30.0
_TOLD_AGAIN: Final = "1s"
"""So often Prometheus tells Alertmanager of what goes on."""


@dataclass
class Pager:
    """Whoever Alertmanager calls: what it was told of each alert last, ``firing`` or ``resolved``."""

    told: dict[str, str] = field(default_factory=dict)

    async def take(self, request: web.Request) -> web.Response:
        """A notification (Alertmanager's webhook, version 4)."""
        notification: dict[str, Any] = await request.json()
        self.told[notification["groupLabels"]["alertname"]] = notification["status"]
        return web.Response()


@dataclass(frozen=True)
class Firing:
    """An alert that Prometheus holds for true."""

    labels: dict[str, str]
    summary: str


@dataclass(frozen=True)
class Monitoring:
    """What watches gateways."""

    prometheus: Prometheus
    pager: Pager
    alertmanager: str

    async def heard(self, alert: str) -> str:
        """Who was told: ``somebody``, or for now nobody, for another alert that says the same (``inhibited``)."""
        if self.pager.told.get(alert) == "firing":
            return "somebody"
        async with self.prometheus.session.get(
            f"http://{self.alertmanager}/api/v2/alerts", params={"filter": f'alertname="{alert}"'}
        ) as answer:
            found = await answer.json()
        return "inhibited" if any(each["status"]["inhibitedBy"] for each in found) else ""

    async def firing(self, alert: str) -> Firing | None:
        """One of the alerts of this name that fire."""
        for each in await self.prometheus.alerts():
            if each["labels"]["alertname"] == alert and each["state"] == "firing":
                return Firing(each["labels"], each["annotations"]["summary"])
        return None

    async def others(self, alert: str) -> list[str]:
        """The names of the other alerts that fire."""
        found = {
            each["labels"]["alertname"]
            for each in await self.prometheus.alerts()
            if each["state"] == "firing"
        }
        return sorted(found - {alert})


@contextlib.asynccontextmanager
async def monitoring(
    folder: Path, targets: Sequence[str], speed: float
) -> AsyncIterator[Monitoring]:
    """Watch the gateways with these internal ports (``host:port``) until the block ends; time passes ``speed`` times as fast."""
    below = folder / f"monitoring-{secrets.token_hex(2)}"
    below.mkdir()
    rules = (_DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8")
    (below / "alerts.yml").write_text(faster(rules, speed))
    configuration = (_DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8")
    pager = Pager()
    async with _alertmanager(below, pager, speed) as address:
        text = faster(configuration, speed).replace("alertmanager:9093", address)
        async with prometheus_scraping(
            require_program("prometheus"),
            below,
            targets,
            text,
            options=(f"--rules.alert.resend-delay={_TOLD_AGAIN}",),
        ) as prometheus:
            yield Monitoring(prometheus, pager, address)


@contextlib.asynccontextmanager
async def _alertmanager(folder: Path, pager: Pager, speed: float) -> AsyncIterator[str]:
    """One with the product's routes, which calls the pager; yields its address."""
    app = web.Application()
    app.router.add_post("/", pager.take)
    async with served(app) as port:
        text = (_DEPLOY / "alertmanager" / "alertmanager.yml").read_text("utf-8")
        head, receiver, _ = text.rpartition("  - name: operators\n")
        assert receiver
        calls = f"    webhook_configs:\n      - url: http://127.0.0.1:{port}/\n"
        file = folder / "alertmanager.yml"
        file.write_text(faster(head, speed) + receiver + calls)
        address = f"127.0.0.1:{free_port()}"
        with (folder / "alertmanager.log").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                require_program("prometheus-alertmanager"),
                *(f"--config.file={file}", f"--storage.path={folder / 'alertmanager'}"),
                *(f"--web.listen-address={address}", "--cluster.listen-address="),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            await until(lambda: _is_ready(address), _START_SECONDS)
            yield address
        finally:
            process.kill()
            await process.wait()


async def _is_ready(address: str) -> bool:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"http://{address}/-/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False
