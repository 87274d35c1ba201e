"""The JavaScript client where WebSockets do not get through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.web.client_files import FOLDER
from publisher import AsyncPublisher
from tests.browser.conftest import Start
from tests.browser.node_program import NodeProgram
from tests.browser.test_javascript_client import data, opened, state
from tests.support.haproxy import haproxy_before
from tests.support.http_only_proxy import HttpOnlyProxy
from tests.support.nginx import Nginx
from tests.support.processes import GatewayProcess
from tests.support.programs import require_program
from tests.support.redis_server import free_port
from tests.support.tokens import make_token
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

Begin = Callable[..., Awaitable[NodeProgram]]


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(gateway: GatewayProcess) -> AsyncIterator[HttpOnlyProxy]:
    async with HttpOnlyProxy(gateway.port).running() as proxy:
        yield proxy


@pytest.fixture
def begin(programs: Start, user: str) -> Begin:
    """``await begin(url)``: the client, which does not wait long between two attempts."""

    async def begin(url: str, token: str | None = None) -> NodeProgram:
        options = '{"backoff": {"min": 10, "max": 100}}'
        module = str(FOLDER / "client.js")
        return await programs("client.mjs", module, url, token or make_token(user), options)

    return begin


async def hears(client: NodeProgram, publisher: AsyncPublisher, channel: str, count: int) -> None:
    """Publish so many messages, which have to come once and in order."""
    for number in range(count):
        await publisher.publish(channel, number)
    assert await data(client, count) == list(range(count))


async def test_a_proxy_that_refuses_websockets_is_passed_by_a_stream(
    begin: Begin, proxy: HttpOnlyProxy, publisher: AsyncPublisher, user: str
) -> None:
    channel = f"notifications/{user}"
    client = await begin(proxy.url)
    await opened(client)
    assert (proxy.asked["websocket"], proxy.asked["/sse"], proxy.asked["/poll"]) == (2, 1, 0)
    await client.tell("subscribe", channel=channel)
    await hears(client, publisher, channel, 20)
    # What it has received is known, without coming back for that.
    last = (await publisher.publish(channel, "last")).id
    assert await data(client, 1) == ["last"]

    async def confirmed() -> bool:
        return [each.user for each in await publisher.receipts(channel, last)] == [user]

    await until(confirmed)
    # A line that breaks costs nothing.
    proxy.cut()
    await state(client, "waiting")
    await publisher.publish(channel, "missed")
    assert await data(client, 1) == ["missed"]


@pytest.mark.long  # eight seconds for the handshake, and eight for the stream
async def test_a_proxy_that_swallows_handshakes_and_gathers_answers_is_passed_by_polls(
    begin: Begin, proxy: HttpOnlyProxy, publisher: AsyncPublisher, user: str
) -> None:
    channel = f"notifications/{user}"
    proxy.swallows = proxy.gathers = True
    client = await begin(proxy.url)
    await client.tell("subscribe", channel=channel)
    await opened(client)
    assert (proxy.asked["websocket"], proxy.asked["/sse"], proxy.asked["/poll"]) == (1, 1, 1)
    await hears(client, publisher, channel, 20)
    await client.tell("unsubscribe")
    await client.tell("subscribe", channel=channel, name="again")
    await publisher.publish(channel, "still there")
    assert await data(client, 1) == ["still there"]


async def test_a_websocket_is_taken_as_soon_as_one_gets_through(
    begin: Begin, proxy: HttpOnlyProxy, publisher: AsyncPublisher, user: str
) -> None:
    channel = f"notifications/{user}"
    client = await begin(proxy.url)
    await opened(client)
    await client.tell("subscribe", channel=channel)
    await hears(client, publisher, channel, 3)
    await client.tell("online")  # it tries, and stays where it is
    await until(lambda: proxy.asked["websocket"] >= 3)
    await hears(client, publisher, channel, 3)
    proxy.lets_sockets = True
    await client.tell("online")
    assert (await state(client, "waiting"))["reason"] == "websocket_found"
    await opened(client)
    assert proxy.asked["/sse"] == 1
    await hears(client, publisher, channel, 3)


@pytest.mark.long
async def test_where_only_the_network_was_away_a_websocket_is_taken_soon(
    begin: Begin, proxy: HttpOnlyProxy
) -> None:
    client = await begin(proxy.url)
    await opened(client)
    proxy.lets_sockets = True
    assert (await state(client, "waiting"))["reason"] == "websocket_found"
    await opened(client)


async def test_a_refusal_ends_it_as_it_ends_a_websocket(begin: Begin, proxy: HttpOnlyProxy) -> None:
    client = await begin(proxy.url, "no.token.here")
    closed = await state(client, "closed")
    assert (closed["code"], closed["reason"]) == (1008, "token_invalid")


async def test_a_gateway_that_is_away_is_no_reason_to_stay_away_from_websockets(
    begin: Begin, proxy: HttpOnlyProxy, gateway: GatewayProcess
) -> None:
    away = HttpOnlyProxy(free_port())
    away.lets_sockets = True
    async with away.running():
        await begin(away.url)
        await until(lambda: away.asked["/sse"] >= 2)
        assert away.asked["websocket"] > away.asked["/sse"]


class PassesNoUpgradeOn:
    """nginx, as it is set without the lines for WebSockets."""

    def __init__(self, folder: Path, gateway: int) -> None:
        port = free_port()
        (folder / "nginx.conf").write_text(
            f"""
            daemon off;
            pid {folder}/pid;
            error_log stderr;
            events {{}}
            http {{
                access_log off;
                server {{
                    listen 127.0.0.1:{port};
                    location / {{ proxy_pass http://127.0.0.1:{gateway}; }}
                }}
            }}
            """
        )
        command = (require_program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"))
        nginx = Nginx(command, folder, port)
        self.url, self.running = nginx.url, nginx.running


class RefusesUpgrades:
    """HAProxy, with a rule against WebSockets."""

    def __init__(self, folder: Path, gateway: int) -> None:
        haproxy = haproxy_before(require_program("haproxy"), folder, gateway)
        bind = f"bind 127.0.0.1:{haproxy.port}\n"
        rule = "    http-request deny deny_status 403 if { req.hdr(Upgrade) -m found }\n"
        haproxy.change(bind, bind + rule)
        self.url, self.running = haproxy.url, haproxy.running


@pytest.mark.parametrize("proxy_with", [PassesNoUpgradeOn, RefusesUpgrades])
async def test_a_proxy_that_is_set_so(
    begin: Begin,
    gateway: GatewayProcess,
    publisher: AsyncPublisher,
    user: str,
    tmp_path: Path,
    proxy_with: Callable[[Path, int], PassesNoUpgradeOn | RefusesUpgrades],
) -> None:
    proxy, channel = proxy_with(tmp_path, gateway.port), f"notifications/{user}"
    async with proxy.running():
        client = await begin(proxy.url)
        await opened(client)
        await client.tell("subscribe", channel=channel)
        await hears(client, publisher, channel, 20)
