"""Clients that show no good token, ask for too much, do not answer, or wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import aiohttp

from publisher import Outgoing
from tests.alerts.cases import causing
from tests.alerts.stage import Stage
from tests.faults.proxy import Proxy
from tests.support.client import connected, opened
from tests.support.processes import GatewayProcess
from tests.support.raw import raw_client
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until

_OFTEN = 0.05
_AFTER_EACH_OTHER = 1.0
_STAYS = 20.0


@causing("TokensRejected", "the gateway has another secret than the login")
async def tokens_rejected(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(jwt_secret=f"another one than {SECRET}")
    await stage.watch(gateway)
    stage.caused()
    stage.meanwhile(_OFTEN, _visit(gateway))
    await stage.fires()
    stage.tries("`connection_refused` in the log has the cause and the address.")
    await until(lambda: "reason=token_invalid" in gateway.output)
    stage.tries("Compare its key with `GATEWAY_JWT_SECRET`")
    await stage.again(gateway)
    await stage.resolves()


@causing("ClientsShutOut", "an origin that is written wrong")
async def shut_out_by_origin(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(allowed_origins="https://app.exmaple.org")
    await stage.watch(gateway)
    stage.caused()
    stage.meanwhile(_OFTEN, _visit(gateway, headers={"Origin": "https://app.example.org"}))
    await stage.fires(reason="origin")
    stage.tries("`connection_refused` names the page's origin.")
    await until(lambda: "origin=https://app.example.org" in gateway.output)
    stage.tries("a typo there shuts every browser out")
    await stage.again(gateway, allowed_origins="https://app.example.org")
    await stage.resolves()


@causing("ClientsShutOut", "a proxy that removes Upgrade")
async def shut_out_by_a_proxy(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway()
    await stage.watch(gateway)
    passes_upgrade = False

    async def visit() -> None:
        if passes_upgrade:
            await _visit(gateway)()
            return
        address = f"http://127.0.0.1:{gateway.port}/?token={make_token('ann')}"
        async with aiohttp.ClientSession() as session, session.get(address) as answer:
            assert answer.status == 426

    stage.caused()
    stage.meanwhile(_OFTEN, visit)
    await stage.fires(reason="upgrade_required")
    stage.tries("a proxy on the way removes `Upgrade`")
    passes_upgrade = True
    await stage.resolves()


@causing("ClientsShutOut", "clients ask for another path")
async def shut_out_by_path(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway()
    await stage.watch(gateway)
    stage.caused()
    stage.meanwhile(_OFTEN, _visit(gateway, path="/realtime"))
    await stage.fires(reason="not_found")
    stage.tries("the path in the clients' URL differs from `GATEWAY_PATH`")
    await stage.again(gateway, path="/realtime")
    await stage.resolves()


@causing("StrangersDropped", "a proxy that is not trusted, behind which somebody tries tokens")
async def strangers_behind_a_proxy(stage: Stage) -> None:
    stage.start_redis()
    few = {"failed_authentications_per_minute": 20}
    gateway = await stage.gateway(**few)
    await stage.watch(gateway)
    forwarded = count()

    async def try_a_token() -> None:
        address = f"10.1.{next(forwarded) % 250}.7"
        async with opened(gateway.url, "nonsense", headers={"X-Forwarded-For": address}) as client:
            await client.receive()

    stage.caused()
    stage.meanwhile(_OFTEN, try_a_token)
    await stage.fires(reason="too_many_failures")
    stage.tries("`connection_refused` names the addresses. If they are your proxy's")
    await until(lambda: "reason=too_many_failures address=127.0.0.1" in gateway.output)
    stage.tries("`proxy_not_trusted` in the log says so too")
    await until(lambda: "proxy_not_trusted" in gateway.output)
    await stage.again(gateway, trusted_proxies="127.0.0.1", **few)
    await stage.resolves()


@causing("StrangersDropped", "somebody opens connections and says nothing")
async def strangers_that_say_nothing(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(unauthenticated_per_address=10)
    await stage.watch(gateway)

    async def connect() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        stage.stack.callback(writer.close)

    stage.caused()
    strangers = stage.meanwhile(_OFTEN, connect)
    await stage.fires(reason="address_limit")
    stage.tries("Users are let in meanwhile")
    async with connected(gateway.url, make_token("ann")):
        pass
    stage.tries("Few addresses: block them in front.")
    strangers.cancel()
    await stage.resolves()


@causing("ClientsFlood", "a release of the front end that sends without end")
async def flood(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(client_message_burst=50, client_messages_per_second=10)
    await stage.watch(gateway)
    users = count()

    async def send_without_end() -> None:
        async with connected(gateway.url, make_token(f"user-{next(users)}")) as client:
            while not client.socket.closed:
                await client.send({"type": "heartbeat"})

    stage.caused()
    release = stage.meanwhile(0.3, send_without_end)
    await stage.fires()
    stage.tries("The line `flood` names the users and the addresses.")
    await until(lambda: "event=flood" in gateway.output and "user=user-0" in gateway.output)
    stage.tries("roll it back")
    release.cancel()
    await stage.resolves()


@causing("ClientsDoNotAnswer", "a firewall that forgets idle connections")
async def no_pong(stage: Stage) -> None:
    stage.start_redis()
    ping, pong = 2, 1
    gateway = await stage.gateway(ping_interval_seconds=ping, pong_timeout_seconds=pong)
    firewall = _Firewall(gateway.port, forgets_after=1.0)
    await firewall.proxy.start()
    stage.stack.push_async_callback(firewall.proxy.aclose)
    stage.meanwhile(0.1, firewall.look)
    await stage.watch(gateway)
    users = count()

    async def stay_for_a_while() -> None:
        url = f"ws://127.0.0.1:{firewall.proxy.port}"
        async with connected(url, make_token(f"user-{next(users)}")) as client:
            # Silent until the node has asked, and has waited for the answer.
            await asyncio.sleep(ping + pong + 1)
            await client.send({"type": "heartbeat"})

    stage.caused()
    for _ in range(20):
        stage.meanwhile(0.1, stay_for_a_while)
    await stage.fires()
    stage.tries("Its time-out must be longer than `GATEWAY_PING_INTERVAL_SECONDS`.")
    await stage.again(gateway, ping_interval_seconds=0.4, pong_timeout_seconds=1)
    await stage.resolves()


class _Firewall:
    """Passes nothing on any more of connections on which nothing came for a while, and tells nobody."""

    def __init__(self, port: int, forgets_after: float) -> None:
        self.proxy = Proxy(port)
        self._forgets_after = forgets_after

    async def look(self) -> None:
        now = asyncio.get_running_loop().time()
        for link in self.proxy.links:
            if now - link.last_at > self._forgets_after:
                link.up.swallows = link.down.swallows = True


@causing("HandshakesSlow", "more clients than GATEWAY_HANDSHAKES_PER_SECOND")
async def slow_turns(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(handshakes_per_second=5)
    await stage.watch(gateway)
    stage.caused()
    storm = [stage.meanwhile(0, _visit(gateway, user=f"user-{n}")) for n in range(40)]
    await stage.fires(phase="turn")
    stage.tries("more clients come than `GATEWAY_HANDSHAKES_PER_SECOND`. After an outage it passes")
    for each in storm[2:]:
        each.cancel()
    await stage.resolves()


@causing("HandshakesSlow", "users whose old connections are dead and take all their places")
async def slow_places(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(max_connections_per_user=1)
    await stage.watch(gateway)
    users = count()

    async def come_back() -> None:
        token = make_token(f"user-{next(users)}")
        async with raw_client(gateway.url, token), connected(gateway.url, token):
            pass

    stage.caused()
    returning = [stage.meanwhile(0, come_back) for _ in range(10)]
    await stage.fires(phase="place")
    stage.tries("their old connections are looked through first")
    for each in returning:
        each.cancel()
    await stage.resolves()


@causing("SubscribesSlow", "clients that leave all channels and come back to them", speed=30)
async def slow_access(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway(
        client_messages_per_second=5, client_message_burst=300, max_subscriptions=20
    )
    channels = [f"run-results/{number}" for number in range(20)]
    await stage.watch(gateway)
    users = count()

    async def come_back() -> None:
        user = f"user-{next(users)}"
        async with connected(gateway.url, make_token(user, channels=channels)) as client:
            for request in ("subscribe", *("unsubscribe", "subscribe") * 4):
                for channel in channels:
                    await client.send({"type": request, "channel": channel})
            await asyncio.sleep(_STAYS)

    stage.caused()
    release = []
    for _ in range(10):
        release.append(stage.meanwhile(0, come_back))
        await asyncio.sleep(_AFTER_EACH_OTHER)
    await stage.fires(phase="access")
    stage.tries("`gateway_requests_delayed_total` rises")
    stage.tries("or leave channels and come back to them, again and again?")
    assert (await stage.value("sum(gateway_requests_delayed_total)") or 0) > 0
    for each in release:
        each.cancel()
    await stage.resolves()


@causing("SubscribesSlow", "long logs for clients on slow lines", speed=30)
async def slow_logs(stage: Stage) -> None:
    stage.start_redis()
    gateway = await stage.gateway()
    line = Proxy(gateway.port, buffer=16_384)
    await line.start()
    stage.stack.push_async_callback(line.aclose)
    publisher = await stage.publisher()
    await publisher.publish_many([Outgoing("run-results/long", "x" * 30_000)] * 200)
    await stage.watch(gateway)
    line.down.bytes_per_second = 700_000
    users = count()

    async def catch_up() -> None:
        token = make_token(f"user-{next(users)}", channels=["run-results/long"])
        url = f"ws://127.0.0.1:{line.port}"
        async with connected(url, token) as client:
            await client.send({"type": "subscribe", "channel": "run-results/long", "since": 1})
            for _ in range(200):
                await client.receive()

    stage.caused()
    for _ in range(8):
        stage.meanwhile(0, catch_up)
        await asyncio.sleep(_AFTER_EACH_OTHER)
    await stage.fires(phase="log")
    stage.tries("clients on slow lines get long logs. A shorter retention")
    line.down.bytes_per_second = None
    await stage.resolves()


def _visit(
    gateway: GatewayProcess, user: str = "ann", path: str = "", **options: object
) -> Callable[[], Awaitable[None]]:
    """Somebody who connects, and leaves again."""

    async def act() -> None:
        async with connected(gateway.url + path, make_token(user), **options):
            pass

    return act
