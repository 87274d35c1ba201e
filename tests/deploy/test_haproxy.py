"""The very haproxy.cfg of the deployment, in front of real gateway processes."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.settings import Settings
from publisher import AsyncPublisher
from tests.deploy.without_websocket import streams_and_polls_pass
from tests.support.client import connected
from tests.support.haproxy import CONFIGURATION, HAProxy, haproxy_before
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.programs import RequireProgram
from tests.support.redis_server import free_port
from tests.support.requests import Answer, answer_to, handshake, line, request
from tests.support.tokens import make_token
from tests.support.waiting import until


@pytest.fixture
def haproxy(tmp_path: Path, require_program: RequireProgram) -> Callable[..., HAProxy]:
    """``haproxy(*ports)`` is an HAProxy in front of gateways at these ports."""
    program = require_program("haproxy")
    return lambda *ports: haproxy_before(program, tmp_path, *ports)


@pytest.fixture
async def gateway(redis_url: str, prefix: str) -> AsyncIterator[GatewayProcess]:
    async with gateway_process(redis_url, prefix, trusted_proxies="127.0.0.1") as process:
        yield process


def from_(address: str, data: bytes) -> bytes:
    """What a connection begins with that says from where it comes."""
    family = "TCP6" if ":" in address else "TCP4"
    return f"PROXY {family} {address} {address} 5678 80\r\n".encode() + data


async def told(balancer: HAProxy, client: str, token: str | None = None) -> Answer:
    """The answer to a handshake from an address."""
    return await answer_to(balancer.url, from_(client, handshake(token or make_token("u"))))


def test_haproxy_accepts_the_configuration(haproxy: Callable[..., HAProxy]) -> None:
    done = subprocess.run(
        [*haproxy(3001, 3002).command, "-c"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


async def test_the_handshake_passes_as_the_client_made_it(
    haproxy: Callable[..., HAProxy], gateway: GatewayProcess
) -> None:
    balancer = haproxy(gateway.port)
    async with balancer.running():
        token = make_token("u")
        async with connected(
            balancer.url, headers={"Authorization": f"Bearer {token}"}, compress=15
        ) as client:
            assert client.socket.compress
            await client.sync()
        async with connected(
            f"{balancer.url}/ws", protocols=("realtime", f"bearer.{token}")
        ) as client:
            assert client.socket.protocol == "realtime"
        for path in ("/metrics", "/readyz", "/ws/metrics", "/dev"):
            asked = request(f"GET {path} HTTP/1.1", "Host: x")
            assert (await answer_to(balancer.url, asked)).status == 404


@pytest.mark.parametrize("field", ["X-Forwarded-For: 198.51.100.9", "Forwarded: for=198.51.100.9"])
async def test_the_gateway_learns_the_clients_address_and_no_client_chooses_it(
    haproxy: Callable[..., HAProxy], gateway: GatewayProcess, field: str
) -> None:
    balancer = haproxy(gateway.port)
    balancer.choose_addresses()
    async with balancer.running():
        await answer_to(balancer.url, from_("203.0.113.7", handshake("x", field)))
        await until(lambda: "reason=token_invalid" in gateway.output)
    assert "reason=token_invalid address=203.0.113.7 " in gateway.output
    assert "198.51.100.9" not in gateway.output


async def test_an_address_has_so_many_connections_at_a_time_and_others_have_theirs(
    haproxy: Callable[..., HAProxy], gateway: GatewayProcess
) -> None:
    balancer = haproxy(gateway.port)
    balancer.choose_addresses()
    balancer.change("gt 5000", "gt 2")
    async with balancer.running(), contextlib.AsyncExitStack() as stack:
        here = []
        for number in range(2):
            data = from_(f"2001:db8::{number}", handshake(make_token(f"u{number}")))
            here.append(await stack.enter_async_context(line(balancer.url, data)))
            assert (await here[-1].answer()).status == 101
        answer = await told(balancer, "2001:db8:0:0:1::")
        assert answer.status == 429
        assert "retry-after: 2" in answer.head.lower()
        assert (await told(balancer, "2001:db8:0:1::1")).status == 101
        assert (await told(balancer, "203.0.113.7")).status == 101
        here[0].writer.transport.abort()

        async def has_room() -> bool:
            return (await told(balancer, "2001:db8::9")).status == 101

        await until(has_room)


async def test_an_address_makes_so_many_in_a_time_and_others_make_theirs(
    haproxy: Callable[..., HAProxy], gateway: GatewayProcess
) -> None:
    balancer = haproxy(gateway.port)
    balancer.choose_addresses()
    balancer.change("gt 11000", "gt 3")
    async with balancer.running():
        assert [(await told(balancer, "203.0.113.7")).status for _ in range(3)] == [101] * 3
        answer = await told(balancer, "203.0.113.7")
        assert answer.status == 429
        assert "retry-after: 2" in answer.head.lower()
        assert (await told(balancer, "203.0.113.8")).status == 101


def test_its_limits_bear_what_a_gateway_bears_of_one_address_in_a_minute_as_nginx_does() -> None:
    text = CONFIGURATION.read_text()
    bears = Settings.model_fields["unauthenticated_per_address"].default
    assert re.findall(r"sc0_conn_cur\(addresses\) gt (\d+) ", text) == [str(bears)]
    assert re.findall(r"sc0_http_req_rate\(addresses\) gt (\d+) ", text) == [str(100 * 60 + bears)]


async def test_a_full_gateway_sends_the_handshake_to_the_next(
    haproxy: Callable[..., HAProxy], gateway: GatewayProcess, redis_url: str, prefix: str
) -> None:
    async with gateway_process(redis_url, prefix, max_connections=1) as small:
        balancer = haproxy(small.port, gateway.port)
        async with balancer.running(), contextlib.AsyncExitStack() as stack:
            for number in range(6):
                token = make_token(f"user-{number}")
                await stack.enter_async_context(connected(balancer.url, token))
            assert "gateway_connections 1.0" in (await small.get("/metrics"))[1]
            assert "gateway_connections 5.0" in (await gateway.get("/metrics"))[1]


async def test_without_any_gateway_the_client_is_told_when_to_come_back(
    haproxy: Callable[..., HAProxy],
) -> None:
    balancer = haproxy(free_port())
    async with balancer.running():
        answer = await answer_to(balancer.url, handshake(make_token("u")))
    assert answer.status == 503
    assert "retry-after: 2" in answer.head.lower()


async def test_the_javascript_client_can_be_loaded_and_no_other_page(
    haproxy: Callable[..., HAProxy], gateway: GatewayProcess
) -> None:
    balancer = haproxy(gateway.port)
    async with balancer.running():
        for path, status in (("/client.js", 200), ("/client/", 404), ("/readyz", 404)):
            asked = request(f"GET {path} HTTP/1.1", "Host: x")
            assert (await answer_to(balancer.url, asked)).status == status


async def test_event_streams_and_polls_pass_at_once_and_reach_their_gateway_by_any(
    haproxy: Callable[..., HAProxy], gateway: GatewayProcess, redis_url: str, prefix: str
) -> None:
    async with (
        gateway_process(redis_url, prefix, trusted_proxies="127.0.0.1") as other,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        balancer = haproxy(gateway.port, other.port)
        async with balancer.running():
            await streams_and_polls_pass(balancer.url, publisher, (gateway, other))


async def test_no_token_is_in_its_log(
    haproxy: Callable[..., HAProxy], gateway: GatewayProcess
) -> None:
    token = make_token("user-1")
    balancer = haproxy(gateway.port)
    async with balancer.running():
        async with connected(balancer.url, token):
            pass
        for data in (
            handshake(token, f"Referer: http://x/?token={token}", path="/elsewhere"),
            request(f"GET /?token={token} HTTP/1.1", "Host: a b"),
            request(f"GET /?token={token} HTTP/9.9"),
        ):
            await answer_to(balancer.url, data)
        await gateway.kill()
        assert (await answer_to(balancer.url, handshake(token))).status == 503
        await until(lambda: " GET / 503 " in balancer.output)
    assert " GET /elsewhere 404 " in balancer.output
    assert token.rpartition(".")[2] not in balancer.output
    assert "token=" not in balancer.output
