"""A receiver of OTLP/HTTP: what programs send of their spans, as the protocol has it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.waiting import until

_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Seen:
    """A span as it has come; ``service`` are the attributes of who has sent it."""

    span: Span
    service: dict[str, Any]

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def id(self) -> str:
        return self.span.span_id.hex()

    @property
    def above(self) -> str:
        return self.span.parent_span_id.hex()

    @property
    def trace(self) -> str:
        return self.span.trace_id.hex()

    @property
    def attributes(self) -> dict[str, Any]:
        return _values(self.span.attributes)

    @property
    def events(self) -> list[str]:
        return [each.name for each in self.span.events]


@dataclass
class Collector:
    """``hangs``: it takes requests and does not answer, until it is set."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    requests: int = 0
    headers: list[Any] = field(default_factory=list)
    answering: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def environment(self) -> dict[str, str]:
        """What leads a program to it, soon after each span."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    async def take(self, request: web.Request) -> web.Response:
        self.requests += 1
        await self.answering.wait()
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        assert request.content_type == "application/x-protobuf"
        self.headers.append(request.headers)
        for sender in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _values(sender.resource.attributes)
            for scope in sender.scope_spans:
                self.spans += [Seen(each, service) for each in scope.spans]
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )

    def named(self, name: str) -> list[Seen]:
        return [each for each in self.spans if each.name == name]

    async def until(self, name: str, count: int = 1) -> list[Seen]:
        """The spans of that name, once there are so many."""
        try:
            await until(lambda: len(self.named(name)) >= count, _PATIENCE_SECONDS)
        except BaseException as error:
            error.add_note(f"there are {[each.name for each in self.spans]}")
            raise
        found = self.named(name)
        assert len(found) == count, [each.name for each in self.spans]
        return found


def _values(attributes: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value") or "") for each in attributes
    }


@contextlib.asynccontextmanager
async def running_collector(*, hangs: bool = False) -> AsyncIterator[Collector]:
    """A collector at a free port."""
    collector = Collector()
    if not hangs:
        collector.answering.set()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        collector.answering.set()
        await runner.cleanup()
