"""The console's pages on the internal port, and who may ask there from a browser."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from gateway.core.handshake import Refusal
from gateway.core.hosts import is_this_machine
from gateway.web.pages import refuse
from gateway.web.server import PAGE_HEADERS, page_file, static_files

CONSOLE: Final = "/console"

_HEADERS: Final = PAGE_HEADERS | {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Console:
    """Serves the console to browsers that name this host as they should.

    A page of somebody else's whose name is made to lead here (DNS rebinding) is of the same origin for a browser; but it
    still sends its own name. An address leads where it says, so it needs no list.

    Args:
        hosts: names by which the port may be reached, beside ``localhost``.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = frozenset(hosts)

    def serve_in(self, app: web.Application) -> None:
        """Add the pages."""
        app.router.add_get(CONSOLE, self.guarded(page_file("console.html", _HEADERS)))
        app.router.add_get(f"{CONSOLE}/", self.guarded(_to_the_page))
        for file in static_files():
            path = f"{CONSOLE}/{file.name}"
            app.router.add_get(path, self.guarded(page_file(file.name, _HEADERS)))

    def guarded(self, handler: Handler) -> Handler:
        """A handler that is asked only under a name that may be."""

        async def serve(request: web.Request) -> web.StreamResponse:
            if not self._is_known(request.host):
                return refuse(_HOST_UNKNOWN)
            return await handler(request)

        return serve

    def _is_known(self, host: str) -> bool:
        name = _name_of(host)
        return _is_address(name) or is_this_machine(name) or name in self._hosts


_HOST_UNKNOWN: Final = Refusal(
    421,
    "host_unknown",
    "the console is not served under this name of a host; GATEWAY_CONSOLE_HOSTS names those that may be used, "
    "and an address or localhost always may",
)


def _name_of(host: str) -> str:
    """A ``Host`` without its port and the brackets of an IPv6 address."""
    name = host.lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _to_the_page(_request: web.Request) -> web.StreamResponse:
    # Its files are named relative to /console.
    return web.Response(status=308, headers={hdrs.LOCATION: f"..{CONSOLE}"})
