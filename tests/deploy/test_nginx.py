"""The very nginx.conf of the deployment, in front of real gateway processes."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import random
import re
import subprocess
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.settings import Settings
from gateway.web.handshake_queue import LONGEST_SECONDS
from publisher import AsyncPublisher
from tests.deploy.without_websocket import streams_and_polls_pass
from tests.faults.proxy import Proxy
from tests.support.client import Client, connected
from tests.support.nginx import NGINX, Nginx
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.redis_server import free_port
from tests.support.requests import Answer, answer_to, handshake, line
from tests.support.tokens import make_token
from tests.support.waiting import until

CLIENTS = 6


@pytest.fixture
async def gateways(redis_url, prefix) -> AsyncIterator[tuple[GatewayProcess, GatewayProcess]]:
    async with (
        gateway_process(redis_url, prefix, drain_seconds=0.5) as first,
        gateway_process(redis_url, prefix, drain_seconds=0.5) as second,
    ):
        yield first, second


@pytest.fixture
async def publisher(redis_url, prefix) -> AsyncIterator[AsyncPublisher]:
    async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
        yield publisher


async def connections(gateway: GatewayProcess) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.internal_url}/metrics") as answer,
    ):
        found = re.search(r"^gateway_connections (\S+)", await answer.text(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


async def status(url: str, **headers: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status


def test_nginx_accepts_the_configuration(nginx):
    balancer = nginx(1)
    done = subprocess.run([*balancer.command, "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_the_two_address_files_are_left_to_the_tests():
    includes = re.findall(r"^\s*include (\S+);", (NGINX / "nginx.conf").read_text(), re.MULTILINE)
    assert sorted(includes) == ["listen.conf", "upstream.conf"]
    directives = {
        line.split()[0]
        for name in includes
        for line in (NGINX / name).read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert directives == {"listen", "resolver", "server"}


async def test_the_handshake_passes_as_the_client_made_it(balanced, gateways):
    async with balanced(gateways[0].port) as balancer:
        token = make_token("user-1")
        async with connected(
            balancer.url, headers={"Authorization": f"Bearer {token}"}, compress=15
        ) as client:
            # permessage-deflate was offered to the gateway and accepted by it.
            assert client.socket.compress
        async with connected(
            f"{balancer.url}/ws", protocols=("realtime", f"bearer.{token}")
        ) as client:
            assert client.socket.protocol == "realtime"


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[tuple[int, dict[str, str]]]:
    """What stands in place of a gateway: its port, and the fields of the requests that it gets."""
    seen: dict[str, str] = {}

    async def handle(request: web.Request) -> web.Response:
        seen.update(request.headers)
        return web.Response()

    app = web.Application()
    app.router.add_get("/ws", handle)
    async with TestServer(app) as server:
        assert server.port is not None
        yield server.port, seen


async def test_the_gateway_learns_who_the_client_is_and_what_it_asked_for(balanced):
    async with upstream() as (port, seen), balanced(port) as balancer:
        said = {
            "Host": "realtime.example.com:3001",
            "X-Forwarded-For": "203.0.113.7",
            "Forwarded": "for=203.0.113.8",
        }
        assert await status(f"{balancer.http_url}/ws", **said) == 200
    assert seen["Host"] == "realtime.example.com:3001"
    assert seen["X-Forwarded-Proto"] == "http"
    # A gateway that trusts nginx would believe what the client says.
    assert seen["X-Forwarded-For"] == "127.0.0.1"
    assert "Forwarded" not in seen


@pytest.mark.parametrize("field", ["X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7"])
async def test_no_client_chooses_its_address_not_even_one_in_a_trusted_network(
    balanced, redis_url, prefix, field
):
    async with (
        gateway_process(redis_url, prefix, trusted_proxies="127.0.0.0/8") as gateway,
        balanced(gateway.port) as balancer,
    ):
        await answer_to(balancer.url, handshake("x", field))
        await until(lambda: "reason=token_invalid" in gateway.output)
        assert "reason=token_invalid address=127.0.0.1 " in gateway.output
        assert "203.0.113.7" not in gateway.output


async def test_with_the_lines_for_another_balancer_its_word_is_believed_and_no_clients(nginx):
    lines = re.findall(
        r"^ *#   ((?:set_real_ip_from|real_ip_\w+) .*)$",
        (NGINX / "nginx.conf").read_text(),
        re.MULTILINE,
    )
    assert len(lines) == 3
    async with upstream() as (port, seen):
        balancer = nginx(port)
        with (balancer.folder / "listen.conf").open("a") as listen:
            listen.write("\n".join(lines).replace("10.0.0.0/8", "127.0.0.0/8"))
        async with balancer.running():
            noted = {"X-Forwarded-For": "6.6.6.6, 203.0.113.7, 127.0.0.9"}
            assert await status(f"{balancer.http_url}/ws", **noted) == 200
    assert seen["X-Forwarded-For"] == "203.0.113.7"


async def test_a_new_connection_goes_where_there_are_fewest(balanced, gateways):
    async with (
        balanced(*(gateway.port for gateway in gateways)) as balancer,
        contextlib.AsyncExitStack() as stack,
    ):

        async def connect(user: str) -> Client:
            return await stack.enter_async_context(connected(balancer.url, make_token(user)))

        on_first = []
        for number in range(CLIENTS):
            client = await connect(f"user-{number}")
            if await connections(gateways[0]) > len(on_first):
                on_first.append(client)
        assert len(on_first) == await connections(gateways[1]) == 3

        for client in on_first:
            await client.close()
        await until(lambda: is_empty(gateways[0]))
        # Taking turns would now give some to either.
        for number in range(3):
            await connect(f"late-{number}")
        assert [await connections(gateway) for gateway in gateways] == [3, 3]


async def is_empty(gateway: GatewayProcess) -> bool:
    return await connections(gateway) == 0


async def test_the_javascript_client_can_be_loaded(balanced, gateways):
    async with balanced(*(gateway.port for gateway in gateways)) as balancer:
        assert await status(f"{balancer.http_url}/client.js") == 200
        assert await status(f"{balancer.http_url}/client/") == 404


async def test_event_streams_and_polls_pass_at_once_and_reach_their_gateway_by_any(
    balanced, gateways, publisher
):
    async with balanced(*(gateway.port for gateway in gateways)) as balancer:
        await streams_and_polls_pass(balancer.url, publisher, gateways)


async def test_internal_endpoints_cannot_be_reached(balanced, gateways):
    async with balanced(*(gateway.port for gateway in gateways)) as balancer:
        paths = ("/metrics", "/readyz", "/ws/metrics", "/ws/../metrics", "/%2e%2e/metrics")
        for path in paths:
            answer = await raw(
                balancer.port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            assert re.match(rb"HTTP/1.1 40[04] ", answer)
        assert await status(f"{balancer.http_url}/healthz") == 200
        # None of them was a gateway's answer.
        logged = [json.loads(line) for line in balancer.logs.splitlines() if line[0] == "{"]
        assert [line["gateway"] for line in logged] == [""] * len(paths)


@pytest.mark.long
async def test_a_living_client_on_a_slow_line_stays_although_nginx_takes_what_is_sent_to_it(
    balanced, redis_url, prefix, publisher
):
    """1 MB at 12 KB a second, ten times faster."""
    seconds = {"ping_interval_seconds": 3, "pong_timeout_seconds": 3}
    async with gateway_process(redis_url, prefix, **seconds) as gateway:
        async with balanced(gateway.port) as balancer:
            line = Proxy(balancer.port, buffer=8 * 1024)
            line.down.bytes_per_second = 12_000 * 10
            await line.start()
            async with (
                contextlib.aclosing(line),
                connected(f"ws://127.0.0.1:{line.port}", make_token("u")) as client,
            ):
                await client.subscribe("notifications/u")
                await publisher.publish("notifications/u", "x" * 1_000_000)
                assert await client.data(1) == ["x" * 1_000_000]
                await client.sync()


class Follower:
    """A plain client as the documentation wants it: reconnects, subscribes again, shows what comes."""

    def __init__(self, url: str, user: str) -> None:
        self._url = url
        self._token = make_token(user)
        self._channel = f"notifications/{user}"
        self.subscribed = asyncio.Event()
        self.sockets = 0
        self.refusals = 0
        self.titles: list[str] = []

    async def follow(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.ws_connect(f"{self._url}/?token={self._token}") as socket:
                        self.sockets += 1
                        await self._listen(socket)
                except aiohttp.WSServerHandshakeError:
                    self.refusals += 1
                self.subscribed.clear()

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.send_json({"type": "subscribe", "channel": self._channel})
        async for frame in socket:
            message = json.loads(frame.data)
            if message["type"] == "subscribed":
                self.subscribed.set()
            elif message["type"] == "notifications":
                self.titles.append(message["data"]["title"])


@contextlib.asynccontextmanager
async def following(url: str) -> AsyncIterator[list[Follower]]:
    followers = [Follower(url, f"user-{number}") for number in range(CLIENTS)]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(follower.follow()) for follower in followers]
        await until(lambda: all(follower.subscribed.is_set() for follower in followers))
        yield followers
        for task in running:
            task.cancel()


async def notify_all(publisher: AsyncPublisher, title: str) -> None:
    for number in range(CLIENTS):
        await publisher.notify(f"user-{number}", title=title, message="")


# -- limits by address ----------------------------------------------------------------------------

KNOWN_BY_WORD = (
    "set_real_ip_from 127.0.0.0/8;\nreal_ip_header X-Forwarded-For;\nreal_ip_recursive on;\n"
)
"""For tests whose clients come from many addresses."""


def listening(balancer: Nginx, *lines: str) -> Nginx:
    """With these lines in listen.conf."""
    with (balancer.folder / "listen.conf").open("a") as listen:
        listen.write("\n".join([KNOWN_BY_WORD, *lines]))
    return balancer


def smaller(balancer: Nginx, **limits: tuple[str, str]) -> Nginx:
    """With other numbers in nginx.conf: a test has no five thousand connections."""
    conf = balancer.folder / "nginx.conf"
    text = conf.read_text()
    for old, new in limits.values():
        assert text.count(old) == 1
        text = text.replace(old, new)
    conf.write_text(text)
    return balancer


def block(address: str) -> str:
    """What counts as one client, worded as nginx.conf does it."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    groups = [f"{int(group, 16):x}" for group in found.exploded.split(":")]
    return ":".join(groups[:4])


def addresses() -> list[str]:
    """Each place where a row of zeros may stand, and many that are made up."""
    chosen = random.Random(7)
    ends = ["2001:db8::1", "2001::5:1:2:3:4", "::5:1:2:3:4", "::6:5:1:2:3:4", "::1", "::", "fe80::"]
    ends += ["203.0.113.7", "::ffff:203.0.113.7", "2001:db8:0:0:1::", "1:2:3:4:5:6:7:8", "1::8"]
    rows = []
    for zeros in range(256):
        groups = [
            "0" if zeros >> place & 1 else f"{chosen.randrange(1, 65_536):x}" for place in range(8)
        ]
        rows.append(":".join(groups))
    return ends + rows


async def test_an_ipv6_client_is_its_network_of_64_bits_however_the_address_is_written(nginx):
    balancer = listening(nginx(1), "add_header X-Block $client_block always;")
    async with balancer.running(), aiohttp.ClientSession() as session:
        for address in addresses():
            said = {"X-Forwarded-For": address}
            async with session.get(f"{balancer.http_url}/healthz", headers=said) as answer:
                if ipaddress.ip_address(address) in ipaddress.ip_network("::/96"):
                    continue  # it may be written as an IPv4 address; nobody has one
                assert (address, answer.headers["X-Block"]) == (address, block(address))


async def told(balancer: Nginx, client: str) -> Answer:
    """The answer to a handshake that comes from an address."""
    return await answer_to(
        balancer.url, handshake(make_token("u"), f"X-Forwarded-For: {client}", path="/ws")
    )


async def test_an_address_has_so_many_connections_at_a_time_and_others_have_theirs(nginx, gateways):
    balancer = smaller(
        listening(nginx(gateways[0].port)), connections=("connections 5000;", "connections 2;")
    )
    async with balancer.running(), contextlib.AsyncExitStack() as stack:
        here = [
            await stack.enter_async_context(
                connected(
                    balancer.url,
                    make_token(f"user-{number}"),
                    headers={"X-Forwarded-For": f"2001:db8::{number}"},
                )
            )
            for number in range(2)
        ]
        answer = await told(balancer, "2001:db8:0:0:1::")
        assert answer.status == 429
        assert "Retry-After: 2" in answer.head
        assert (await told(balancer, "2001:db8:0:1::")).status == 101
        assert (await told(balancer, "203.0.113.7")).status == 101
        await here[0].close()

        async def has_room() -> bool:
            return (await told(balancer, "2001:db8::9")).status == 101

        await until(has_room)


async def test_an_address_makes_so_many_in_a_time_and_others_make_theirs(nginx, gateways):
    balancer = smaller(
        listening(nginx(gateways[0].port)),
        rate=("rate=100r/s;", "rate=1r/m;"),
        burst=("burst=5000 ", "burst=2 "),
    )
    async with balancer.running():
        assert [(await told(balancer, "203.0.113.7")).status for _ in range(3)] == [101] * 3
        answer = await told(balancer, "203.0.113.7")
        assert answer.status == 429
        assert "Retry-After: 2" in answer.head
        assert (await told(balancer, "203.0.113.8")).status == 101
        logged = [json.loads(line) for line in balancer.logs.splitlines() if line[0] == "{"]
        assert [line["gateway"] for line in logged if line["status"] == 429] == [""]


def test_its_limits_bear_what_a_gateway_bears_of_one_address():
    text = (NGINX / "nginx.conf").read_text()
    bears = Settings.model_fields["unauthenticated_per_address"].default
    assert re.findall(r"limit_conn connections (\d+);", text) == [str(bears)]
    assert re.findall(r"limit_req zone=handshakes burst=(\d+) nodelay;", text) == [str(bears)]


# -- gateways that go -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", [pytest.param("terminate", marks=pytest.mark.long), "kill"])
async def test_when_a_gateway_goes_its_clients_find_the_other_and_miss_nothing(
    way, balanced, gateways, publisher
):
    leaving, staying = gateways
    async with (
        balanced(leaving.port, staying.port) as balancer,
        following(balancer.url) as followers,
    ):
        assert await connections(leaving) == CLIENTS / 2
        await notify_all(publisher, "before")
        await until(lambda: all(follower.titles == ["before"] for follower in followers))

        going = asyncio.create_task(getattr(leaving, way)())
        titles = ["before"]
        while not going.done():
            titles.append(f"meanwhile {len(titles)}")
            await notify_all(publisher, titles[-1])
        await notify_all(publisher, "after")
        titles.append("after")

        await until(lambda: all(follower.titles[-1] == "after" for follower in followers))
        for follower in followers:
            # A message may come twice to a client that keeps no position; each comes, and in order.
            assert list(dict.fromkeys(follower.titles)) == titles
        assert sorted(follower.sockets for follower in followers) == [1, 1, 1, 2, 2, 2]
        assert await connections(staying) == CLIENTS
        # A handshake that met the gateway that was leaving or gone went on to the other.
        assert [follower.refusals for follower in followers] == [0] * CLIENTS
        assert await going == (0 if way == "terminate" else -9)


async def test_who_waits_for_a_turn_at_a_gateway_that_goes_gets_one_at_the_other(
    redis_url, prefix, balanced
):
    async with (
        gateway_process(redis_url, prefix, handshakes_per_second=0.1) as leaving,
        gateway_process(redis_url, prefix) as staying,
        connected(leaving.url, make_token("first")),
        balanced(leaving.port, staying.port) as balancer,
        line(balancer.url, handshake(make_token("u"))) as one,
        line(balancer.url, handshake(make_token("v"))) as other,
    ):

        async def one_waits() -> bool:
            return "\ngateway_handshakes_waiting 1.0\n" in (await leaving.get("/metrics"))[1]

        await until(one_waits)
        await leaving.terminate()
        assert {(await each.answer()).status for each in (one, other)} == {101}


def test_a_handshake_that_has_waited_as_long_as_it_may_still_goes_to_the_next_gateway():
    text = (NGINX / "nginx.conf").read_text()
    found = re.findall(r"proxy_next_upstream_timeout +(\d+)s;", text)
    assert len(found) == 2  # for WebSockets, and for streams and polls
    assert all(int(seconds) >= LONGEST_SECONDS + 5 for seconds in found)


async def test_a_full_gateway_sends_the_handshake_to_the_next(
    balanced, gateways, redis_url, prefix
):
    async with (
        gateway_process(redis_url, prefix, max_connections=1) as small,
        balanced(small.port, gateways[0].port) as balancer,
        contextlib.AsyncExitStack() as stack,
    ):
        for number in range(CLIENTS):
            token = make_token(f"user-{number}")
            await stack.enter_async_context(connected(balancer.url, token))
        assert await connections(small) == 1
        assert await connections(gateways[0]) == CLIENTS - 1


async def test_without_any_gateway_the_client_is_told_when_to_come_back(balanced):
    async with (
        balanced(free_port(), free_port()) as balancer,
        aiohttp.ClientSession() as session,
        session.get(balancer.http_url) as answer,
    ):
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "2"


async def test_no_token_is_in_any_log(balanced, gateways):
    token = make_token("user-1")
    leaving, staying = gateways
    async with balanced(leaving.port, staying.port) as balancer:
        async with connected(balancer.url, token), connected(balancer.url, token):
            # A gateway that dies under a connection: nginx logs that, of all things.
            await leaving.kill()
        page = f"{balancer.http_url}/?token={token}"
        for path in ("/", "/ws", "/elsewhere"):
            await status(f"{balancer.http_url}{path}?token={token}", Referer=page)
        await staying.kill()
        await status(f"{balancer.http_url}/?token={token}", Upgrade="websocket")
        await raw(balancer.port, f"GET /?token={token} HTTP/1.1\r\nHost: a b\r\n\r\n")
        await raw(balancer.port, f"GET /?token={token} HTTP/9.9\r\n\r\n")
        await raw(balancer.port, f"GET /%zz?token={token} HTTP/1.1\r\n\r\n")
        await until(lambda: '"gateway_status":"502' in balancer.logs)
    logged = balancer.logs + leaving.output + staying.output
    assert '"path":"/ws"' in logged
    assert "node_started" in logged
    assert token not in logged
    assert token.rpartition(".")[2] not in logged
    assert "token=" not in logged


async def raw(port: int, request: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer
