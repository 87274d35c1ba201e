"""Traces from a backend to its users' clients, as a collector of OTLP sees them from real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from publisher import AsyncPublisher
from tests.support.api import KEY, KEYS
from tests.support.client import connected
from tests.support.collector import Collector, running_collector
from tests.support.processes import gateway_process
from tests.support.redis_server import free_port
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until

CHANNEL = "notifications/ann@example.org"
USER = "ann@example.org"
TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{ABOVE}-01"

_SHOP = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from publisher import Publisher

provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
url, prefix, channel = sys.argv[1:]
with Publisher.from_url(url, prefix=prefix) as publisher:
    with trace.get_tracer("shop").start_as_current_span("order"):
        publisher.publish(channel, "secret text")
"""


async def run(collector: Collector, program: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, env=os.environ | collector.environment
    )
    async with asyncio.timeout(30):
        assert await process.wait() == 0


def settings(collector: Collector, **further: Any) -> dict[str, Any]:
    return {
        "environment": collector.environment,
        "tracing": True,
        "confirm_interval_seconds": 0.1,
        **further,
    }


async def test_the_whole_way_of_a_message_is_one_trace(
    gateway_url: str, publisher_url: str, prefix: str
) -> None:
    async with (
        running_collector() as collector,
        gateway_process(gateway_url, prefix, **settings(collector)) as first,
        gateway_process(gateway_url, prefix, **settings(collector)) as second,
        gateway_process(gateway_url, prefix, **settings(collector)),  # nobody listens there
        connected(first.url, make_token(USER)) as phone,
        connected(first.url, make_token(USER)) as laptop,
        connected(second.url, make_token(USER)) as tablet,
    ):
        devices = (phone, laptop, tablet)
        for each in devices:
            await each.subscribe(CHANNEL)
        await run(collector, _SHOP, publisher_url, prefix, CHANNEL)
        for each in devices:
            message = await each.receive()
            assert (message["data"], set(message)) == (
                "secret text",
                {"type", "channel", "data", "timestamp", "id"},
            )
        (order,) = await collector.until("order")
        (publish,) = await collector.until("publish notifications")
        fan_outs = await collector.until("fan-out notifications", 2)
        confirms = await collector.until("confirm notifications", 2)
    assert len(collector.spans) == 6
    assert {each.trace for each in collector.spans} == {order.trace}
    assert publish.above == order.id
    assert {each.above for each in fan_outs} == {publish.id}
    assert {each.above for each in confirms} == {each.id for each in fan_outs}
    assert publish.service["service.name"] == "shop"
    for fan_out in fan_outs:
        (confirm,) = [each for each in confirms if each.above == fan_out.id]
        assert confirm.service == fan_out.service
        assert fan_out.service["service.name"] == "realtime-gateway"
        receivers = fan_out.attributes["gateway.receivers"]
        assert confirm.attributes["gateway.confirmed"] == receivers
        # From the log on, by the clock of Redis: all of them are this machine's, which a moment is allowed for.
        assert abs(fan_out.span.start_time_unix_nano / 1000 - message["id"]) < 50_000
        assert fan_out.span.start_time_unix_nano <= fan_out.span.end_time_unix_nano
        assert confirm.span.start_time_unix_nano == fan_out.span.end_time_unix_nano
        assert confirm.span.start_time_unix_nano <= confirm.span.end_time_unix_nano
        assert (fan_out.events, confirm.events) == (["received"], ["first confirmation"])
    assert sorted(each.attributes["gateway.receivers"] for each in fan_outs) == [1, 2]
    assert len({each.service["service.instance.id"] for each in fan_outs}) == 2
    for each in (publish, *fan_outs, *confirms):
        assert each.attributes["messaging.system"] == "realtime_gateway"
        assert each.attributes["messaging.destination.name"] == "notifications"
        assert each.attributes["messaging.message.id"] == str(message["id"])
        # Nobody's id, and nothing that was sent.
        told = f"{each.span} {each.service}"
        assert "ann" not in told
        assert "secret" not in told


async def test_a_channel_of_many_has_two_spans_and_who_is_silent_is_told(
    gateway_url: str, publisher_url: str, prefix: str
) -> None:
    public = {"news": {"owner": "anyone"}}
    async with (
        running_collector() as collector,
        AsyncPublisher.from_url(publisher_url, prefix=prefix) as publisher,
        gateway_process(
            gateway_url, prefix, **settings(collector, namespaces=json.dumps(public))
        ) as node,
        contextlib.AsyncExitStack() as stack,
    ):
        crowd = [
            await stack.enter_async_context(connected(node.url, make_token(f"u{number}")))
            for number in range(20)
        ]
        for each in crowd:
            await each.subscribe("news/today")
        silent = crowd.pop()
        silent.socket._reader._protocol.pause_reading()  # type: ignore[attr-defined]
        await publisher.publish("news/today", 1, traceparent=GIVEN)
        for each in crowd:
            assert await each.data(1) == [1]
        (fan_out,) = await collector.until("fan-out news")
        assert (fan_out.trace, fan_out.above) == (TRACE, ABOVE)
        assert fan_out.attributes["gateway.receivers"] == 20
        # A node that ends waits for nobody's confirmation.
        await node.terminate()
        (confirm,) = await collector.until("confirm news")
    assert confirm.attributes["gateway.receivers"] == 20
    assert confirm.attributes["gateway.confirmed"] == 19
    assert len(collector.spans) == 2


async def test_scheduled_and_several_messages_keep_their_traces(
    gateway_url: str, publisher_url: str, prefix: str
) -> None:
    async with (
        running_collector() as collector,
        AsyncPublisher.from_url(publisher_url, prefix=prefix) as publisher,
        gateway_process(gateway_url, prefix, **settings(collector)) as node,
        connected(node.url, make_token(USER)) as client,
    ):
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, "later", at=time.time() + 0.2, traceparent=GIVEN)
        await publisher.broadcast("now", channels=[CHANNEL], traceparent=GIVEN)
        await publisher.publish(CHANNEL, "untraced")
        assert sorted(await client.data(3)) == ["later", "now", "untraced"]
        fan_outs = await collector.until("fan-out notifications", 2)
        confirms = await collector.until("confirm notifications", 2)
    assert {(each.trace, each.above) for each in fan_outs} == {(TRACE, ABOVE)}
    assert {each.above for each in confirms} == {each.id for each in fan_outs}


async def test_a_request_to_the_http_api_brings_its_trace_along(
    gateway_url: str, prefix: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(KEYS), "utf-8")
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    line = json.dumps({"channel": CHANNEL, "data": 1})
    asked = (
        ("publish", line, "application/json", GIVEN),
        ("publish-many", line, "application/x-ndjson", GIVEN),
        ("broadcast", json.dumps({"users": [USER], "data": 1}), "application/json", GIVEN),
        # As the specification says, one that is malformed counts as not given.
        ("publish", line, "application/json", "00-nonsense"),
    )
    async with (
        running_collector() as collector,
        gateway_process(
            gateway_url, prefix, **settings(collector, api_port=port, api_keys=f"@{keys}")
        ) as node,
        connected(node.url, make_token(USER)) as client,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session,
    ):
        await client.subscribe(CHANNEL)
        for path, body, kind, trace in asked:
            headers = {"Content-Type": kind, "traceparent": trace}
            async with session.post(f"{url}/{path}", data=body, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
            assert await client.data(1) == [1]
        await collector.until("confirm notifications", 3)
        fan_outs = collector.named("fan-out notifications")
        publishes = collector.named("publish notifications")
    assert {each.trace for each in collector.spans} == {TRACE}
    assert len(fan_outs) == 3
    # A publish of the gateway's own library is a span, too.
    assert [each.above for each in publishes] == [ABOVE]
    assert {each.above for each in fan_outs} == {ABOVE, publishes[0].id}


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_collector_that_is_away_or_hangs_holds_nobody_up(
    gateway_url: str, publisher_url: str, prefix: str, hangs: bool
) -> None:
    async with (
        running_collector(hangs=True) as collector,
        AsyncPublisher.from_url(publisher_url, prefix=prefix) as publisher,
    ):
        given = settings(collector, drain_seconds=0)
        if not hangs:
            nowhere = f"http://127.0.0.1:{free_port()}"
            given["environment"] |= {
                "OTEL_EXPORTER_OTLP_ENDPOINT": nowhere,
                "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            }
        async with gateway_process(gateway_url, prefix, **given) as node:
            async with connected(node.url, make_token(USER)) as client:
                await client.subscribe(CHANNEL)
                began = time.monotonic()
                for number in range(200):
                    await publisher.publish(CHANNEL, number, traceparent=GIVEN)
                assert await client.data(200) == list(range(200))
                assert time.monotonic() - began < 5
                await until(lambda: collector.requests or "spans_not_taken" in node.output)
            began = time.monotonic()
            assert await node.terminate() == 0
            assert time.monotonic() - began < 6
            assert "Traceback" not in node.output
            # Once in a while, and not for each batch.
            assert node.output.count("spans_not_taken") == (not hangs)


_NODE = """
import asyncio, sys, threading
import redis, redis.asyncio
before = set(sys.modules)
from gateway.app import Gateway
from gateway.node.opener import Opener
from gateway.node.stats import Stats
from gateway.settings import Settings

opener = Opener(None, Stats(), {}, lambda: 0.0)

async def serve():
    gateway = Gateway(Settings(port=0, internal_port=0))
    await gateway.start()
    await gateway.until_ready()
    print(gateway.delivery._receiver("news/a", opener).func == gateway.hub.receive)
    await gateway.stop()

asyncio.run(serve())
print([each for each in set(sys.modules) - before if each.startswith(("opentelemetry", "google"))])
print([each.name for each in threading.enumerate() if each.name.startswith("Otel")])
"""


@pytest.mark.parametrize("tracing", [False, True])
async def test_without_the_setting_nothing_of_it_is_loaded(
    gateway_url: str, prefix: str, tracing: bool
) -> None:
    """Live messages go to the hub itself. Whoever imports the redis package has some of its modules by now: that does so itself where they are installed."""
    given = {
        "REDIS_URL": gateway_url,
        "REDIS_PREFIX": prefix,
        "JWT_SECRET": SECRET,
        "DRAIN_DELAY_SECONDS": "0",
        "TRACING": str(tracing),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _NODE),
        env=os.environ | {f"GATEWAY_{name}": value for name, value in given.items()},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert (output.decode() == "True\n[]\n[]\n") is not tracing
