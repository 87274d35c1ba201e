"""What a node serves over HTTP: its ports, the internal pages, the JavaScript client, and the test page of development mode."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import shlex
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.web.accepting import Acceptor, P, Service
from gateway.web.client_files import add_client
from gateway.web.pages import HttpPages, close_after
from gateway.web.refused_connections import RefusedConnections
from gateway.web.tls import ServerTls

BACKLOG: Final = 4096
_UNSENT_BYTES: Final = 128 * 1024
"""What the kernel may hold unsent for a client (``TCP_NOTSENT_LOWAT``, tcp(7)).

Without a bound it takes over megabytes for each client that reads slowly: the node would learn of it
late, and everything behind them, pings among it, would be as late.
"""

TEST_PAGE: Final = "/dev"

STATIC: Final = Path(__file__).parent / "static"

PAGE_HEADERS: Final = {
    # Nothing but the page's own files. Not every browser takes a WebSocket for 'self'.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    # A page of yesterday's gateway must not talk to today's.
    hdrs.CACHE_CONTROL: "no-cache",
}


# -- ports ----------------------------------------------------------------------------------------


def shown(address: tuple[str, int]) -> str:
    """An address as in a URL."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class CannotListen(Exception):
    """A port cannot be listened on; the message says which setting chooses another."""

    def __init__(self, host: str, port: int, setting: str, error: OSError) -> None:
        reason = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        super().__init__(
            f"cannot listen on {host} port {port}: {reason}; "
            f"GATEWAY_{setting.upper()} (or --{setting.replace('_', '-')}) chooses another port"
        )
        self.in_use = error.errno == errno.EADDRINUSE


async def open_listener(host: str, port: int, setting: str, *, shared: bool) -> socket.socket:
    """A socket that listens.

    Args:
        host: address or name of the interface.
        port: 0 for a free one.
        setting: the setting that names the port, for the error.
        shared: whether others, too, listen on the port, which ``reserve`` holds for them all
            (``SO_REUSEPORT``, socket(7)); else nobody else may.

    Raises:
        CannotListen: the port is in use, or not ours to take.
    """
    try:
        family, address = await _resolve(host, port)
        listener = socket.create_server(
            address,
            family=family,
            backlog=BACKLOG,
            reuse_port=shared,
            dualstack_ipv6=_serves_both_families(address),
        )
    except OSError as error:
        raise CannotListen(host, port, setting, error) from None
    _prepare(listener)
    return listener


def _prepare(listener: socket.socket) -> None:
    # These are inherited by every connection that is accepted. asyncio sets the first one only where it accepts itself.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)


async def reserve(host: str, port: int, setting: str) -> socket.socket:
    """Hold a port for processes that will share it; nobody connects to a socket that does not listen.

    While it is open, the user's processes that ask to share the port may listen on it, whether or not
    one of them does at the moment, and whoever wants it alone is told that it is in use.

    Raises:
        CannotListen: the port is in use, or not ours to take.
    """
    try:
        family, address = await _resolve(host, port)
        # Those who share a port are not told of each other: first see whether it can be had alone.
        with _bound(family, address, socket.SO_REUSEADDR) as alone:
            address = alone.getsockname()[:2]
        held = _bound(family, address, socket.SO_REUSEADDR, socket.SO_REUSEPORT)
    except OSError as error:
        raise CannotListen(host, port, setting, error) from None
    # It was for connections of former listeners, which linger. Left on, it would let somebody else
    # bind the port while none of ours listens.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return held


async def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    # As in a URL, an IPv6 address may stand in brackets.
    name = host.removeprefix("[").removesuffix("]")
    found = await asyncio.get_running_loop().getaddrinfo(
        name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _serves_both_families(address: tuple[str, int]) -> bool:
    """Whether IPv4 clients are served too, at addresses like ``::ffff:192.0.2.1``: only where every interface is."""
    return address[0] == "::" and socket.has_dualstack_ipv6()


def _bound(family: socket.AddressFamily, address: tuple[str, int], *options: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            # Else the IPv4 port of this number is another one.
            only = not _serves_both_families(address)
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


class Ports:
    """The ports that a node listens on.

    Args:
        shared: whether other processes serve on them too.
    """

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._acceptors: list[Acceptor[Any]] = []
        self._passed: list[Acceptor[Any]] = []
        self._numbers: dict[str, int] = {}

    async def listen(
        self,
        service: Service[P],
        host: str,
        port: int,
        setting: str,
        *,
        last_file: int,
        tls: ServerTls | None = None,
        tls_rate: float = math.inf,
        may_choose: bool = False,
        passed: socket.socket | None = None,
    ) -> tuple[str, int]:
        """Accept connections; returns the address with the port chosen.

        Args:
            service: whoever serves them.
            host: address or name of the interface.
            port: 0 for a free one.
            setting: the setting that names the port, for the error.
            last_file: no connection is kept that has this file number or a higher one.
            tls: what encrypts them, if anything does.
            tls_rate: with how many TLS is begun in a second.
            may_choose: whether a free port will do where this one is in use.
            passed: a socket that listens already, whose address then counts; another process keeps it open, too. Nothing is
                accepted there before ``start_passed``.

        Raises:
            CannotListen: the port is in use, or not ours to take.
        """
        if passed is not None:
            _prepare(passed)
            self._passed.append(Acceptor(passed, service, last_file, tls, tls_rate))
            return _address(passed)
        try:
            listener = await open_listener(host, port, setting, shared=self._shared)
        except CannotListen as error:
            if not (error.in_use and may_choose):
                raise
            listener = await open_listener(host, 0, setting, shared=False)
        acceptor = Acceptor(listener, service, last_file, tls, tls_rate)
        acceptor.start()
        self._acceptors.append(acceptor)
        self._numbers[setting] = _address(listener)[1]
        return _address(listener)

    def number(self, setting: str) -> int | None:
        """The port that was taken for a setting, once it is."""
        return self._numbers.get(setting)

    def start_passed(self) -> None:
        """Accept on sockets that another process keeps open, unless they were left."""
        for acceptor in self._passed:
            acceptor.start()

    def leave_passed(self) -> None:
        """Accept no more on sockets that another process keeps open: whoever comes waits there for the next node."""
        for acceptor in self._passed:
            acceptor.leave()

    async def aclose(self) -> None:
        """Accept no more connections."""
        for acceptor in (*self._acceptors, *self._passed):
            await acceptor.aclose()
        self._acceptors.clear()
        self._passed.clear()


def _address(listener: socket.socket) -> tuple[str, int]:
    address = listener.getsockname()
    return address[0], address[1]


# -- internal pages -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InternalPort:
    """Implements ``accepting.Service`` for the internal pages."""

    pages: HttpPages
    refusals: RefusedConnections

    def tls_turn(self, _address: object) -> float | None:
        """TLS is begun at once with whoever comes."""
        return 0.0

    def accept(self, _accepted: socket.socket, _address: object) -> asyncio.Protocol:
        """One was accepted."""
        return self.pages.protocol()

    def failed(
        self,
        _protocol: asyncio.Protocol,
        address: object,
        cause: str,
        *,
        begun: bool,  # noqa: ARG002 - few can reach this port
    ) -> None:
        """One is over, since the client and the node have not agreed on TLS."""
        peer = str(address[0]) if isinstance(address, tuple) else None
        self.refusals.note("internal_tls_failed", peer, cause)


def internal_app(
    readiness: Callable[[], Mapping[str, bool]],
    servers: Callable[[], Mapping[str, bool]],
    metrics: Callable[[], bytes],
) -> web.Application:
    """``/healthz`` (the event loop runs), ``/readyz`` (every check holds), ``/metrics``.

    ``servers``: Redis's servers, and whether each is heard.
    """

    async def readyz(_request: web.Request) -> web.Response:
        checks = readiness()
        ready = all(checks.values())
        redis = {address: "up" if up else "down" for address, up in servers().items()}
        body = {"ready": ready, "checks": dict(checks), "redis": redis}
        return web.json_response(body, status=200 if ready else 503)

    async def scrape(_request: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    return app


async def _healthz(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


# -- pages on the clients' port -------------------------------------------------------------------


def public_app(
    base: str, ready: Callable[[], bool], test_page: DevelopmentPage | None
) -> web.Application:
    """What is served on the clients' port beside WebSockets.

    Args:
        base: what stands before every path; empty for the root.
        ready: whether a balancer should send connections here.
        test_page: what the test page is told, where it is served too.
    """
    app = web.Application()
    app.on_response_prepare.append(close_after)
    for each in {"", base}:
        _add_health_pages(app, each, ready)
    add_client(app, base)
    if test_page is not None:
        _add_test_page(app, base, test_page)
    return app


@dataclass(frozen=True, slots=True)
class DevelopmentPage:
    """What the test page is told: the URL of the console, once it is known, if there is one."""

    console: Callable[[], str | None]


def _add_health_pages(app: web.Application, base: str, ready: Callable[[], bool]) -> None:
    """Serve ``/healthz`` and ``/readyz`` to balancers that can ask at the clients' port only.

    Everybody can ask there, so what is behind the answer is not told.
    """

    async def readyz(_request: web.Request) -> web.Response:
        answer = ready()
        return web.json_response({"ready": answer}, status=200 if answer else 503)

    app.router.add_get(f"{base}/healthz", _healthz)
    app.router.add_get(f"{base}/readyz", readyz)


def _add_test_page(app: web.Application, base: str, told: DevelopmentPage) -> None:
    """Serve the page at ``/dev`` below ``base``, and its files below that; and lead there who opens ``base`` in a browser."""
    page = base + TEST_PAGE

    async def lead_there(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={hdrs.LOCATION: page})

    # What a browser asks there that wants a page. Where the test page is not served it is refused, as everything but WebSockets is.
    for address in {base or "/", f"{base}/"}:
        app.router.add_get(address, lead_there)
    app.router.add_get(page, page_file("index.html"))
    for file in static_files():
        app.router.add_get(f"{page}/{file.name}", page_file(file.name))

    async def surroundings(_request: web.Request) -> web.Response:
        found = {"publisher": publisher_command(), "console": told.console()}
        return web.json_response(found, headers=PAGE_HEADERS)

    app.router.add_get(f"{page}/surroundings.json", surroundings)


def static_files() -> list[Path]:
    """The files of the pages, which the test page and the console share."""
    return [each for each in STATIC.iterdir() if each.is_file()]


def page_file(name: str, headers: Mapping[str, str] = PAGE_HEADERS) -> Handler:
    """What serves one of them."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / name, headers=headers)

    return handler


def publisher_command() -> str:
    """The ``publisher`` installed with this gateway, ready for a shell in the current folder."""
    installed = Path(sys.executable).parent / "publisher"
    return shlex.quote(os.path.relpath(installed)) if installed.exists() else "publisher"
