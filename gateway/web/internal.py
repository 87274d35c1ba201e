"""The internal port: health, readiness and metrics. Not for clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST


def internal_app(
    readiness: Callable[[], Mapping[str, bool]], metrics: Callable[[], bytes]
) -> web.Application:
    """``/healthz`` (the process turns its loop), ``/readyz`` (every check holds), ``/metrics``."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        checks = readiness()
        ready = all(checks.values())
        return web.json_response(
            {"ready": ready, "checks": dict(checks)}, status=200 if ready else 503
        )

    async def scrape(_request: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    return app
