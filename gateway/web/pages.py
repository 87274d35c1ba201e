"""What is served in HTTP, by aiohttp: the internal pages, and the test page of development mode."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, cast

from aiohttp import hdrs, web

from gateway.core.handshake import Refusal
from gateway.core.http import PRECAUTIONS

log = logging.getLogger(__name__)

MALFORMED: Final = Refusal(400, "bad_request", "this is no request that is served here")
NOT_FOUND: Final = Refusal(404, "not_found", "there is nothing at this path")
_FAILED: Final = Refusal(500, "internal_error", "this page has failed")

_IDLE_SECONDS: Final = 10.0
"""How long a connection stays open between two requests."""
_PAGE_SECONDS: Final = 10.0
"""How long one request may take on the clients' port, where anybody can ask."""
_SMALL_BYTES: Final = 4 * 1024
_MOST_SMALL_PARTS: Final = 16
"""In so many small parts a request may come and be read at once."""
_GATHERED_SECONDS: Final = 0.25
"""What comes in more of them gathers in the kernel, and is read so often: a part costs the same whether it has one byte or thousands."""


class HttpPages:
    """Serves an application over connections that are given to it.

    ``paths``: where it has pages.

    Args:
        exchange: how one connection is served, where it is not as usual.
    """

    def __init__(self, app: web.Application, exchange: type[Exchange] | None = None) -> None:
        self._exchange = exchange or Exchange
        self.paths = frozenset(each.canonical for each in app.router.resources())
        # aiohttp's access log would write the query string, and with it the token.
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )

    async def start(self) -> None:
        """Make it ready to serve."""
        await self._runner.setup()

    async def aclose(self) -> None:
        """Let requests under way come to their end, for a moment, and close all connections."""
        await self._runner.cleanup()

    def protocol(self, gone: Callable[[], None] | None = None) -> asyncio.Protocol:
        """What serves one connection.

        Args:
            gone: called when the connection has ended; given where the request is here already, and is the only one.
        """
        assert self._runner.server is not None
        return self._exchange(self._runner.server, gone)


class Exchange(web.RequestHandler):
    """aiohttp's, except for what is said: aiohttp sends back and logs parts of a request that fails, and tells of itself."""

    __slots__ = ("_deadline", "_gathering", "_gone", "_small_parts")

    def __init__(self, server: web.Server, gone: Callable[[], None] | None) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # as AppRunner passes it on
            keepalive_timeout=_IDLE_SECONDS,
            # What is small here would be large there.
            auto_decompress=False,
        )
        self._gone = gone
        self._deadline: asyncio.TimerHandle | None = None
        # Until when nothing is read, and the parts that have come since the last answer.
        self._gathering: asyncio.TimerHandle | None = None
        self._small_parts = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It serves a connection from now on."""
        super().connection_made(transport)
        if self._gone is not None:
            abort = cast(asyncio.Transport, transport).abort
            self._deadline = asyncio.get_running_loop().call_later(_PAGE_SECONDS, abort)

    def data_received(self, data: bytes) -> None:
        """A part of a request has come; nothing, where aiohttp looks again at what it has."""
        super().data_received(data)
        if not 0 < len(data) < _SMALL_BYTES:
            return
        self._small_parts += 1
        if self._small_parts > _MOST_SMALL_PARTS and self._gathering is None:
            self._pause_transport_reading()
            loop = asyncio.get_running_loop()
            self._gathering = loop.call_later(_GATHERED_SECONDS, self._read_on)

    def _read_on(self) -> None:
        self._gathering = None
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """There is room for more. aiohttp says so after each part that is taken, also where nothing has waited for that."""
        if not self._reading_paused:
            return
        super().resume_reading(resume_parser)
        if self._gathering is not None:
            self._pause_transport_reading()

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio's
        """The client sends nothing more. On the clients' port its request is here, and it waits for the answer.

        Not under TLS, which ends for both sides at once.
        """
        encrypted = self.transport is None or self.transport.get_extra_info("sslcontext")
        return self._gone is not None and not encrypted

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)
        for timer in (self._deadline, self._gathering):
            if timer is not None:
                timer.cancel()
        if self._gone is not None:
            self._gone()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's, with a part of the request in it
    ) -> web.StreamResponse:
        """Answer a request that is malformed, or that we failed to serve."""
        if status == 500:
            log.error("page_failed", exc_info=exc)
        else:
            log.debug("request_malformed error=%s", type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is sent already")
        answer = self.refuse(_FAILED if status == 500 else MALFORMED)
        answer.force_close()
        return answer

    def refuse(self, refusal: Refusal) -> web.Response:
        """The answer to a request that is malformed, or that failed."""
        return refuse(refusal)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer."""
        self._small_parts = 0
        # aiohttp refuses in plain text, and sends back what it did not expect in `Expect`.
        if isinstance(resp, web.HTTPException):
            resp = self.refuse(_refusal(resp))
        # Else aiohttp would tell everybody its version, and Python's.
        resp.headers.setdefault(hdrs.SERVER, "gateway")
        for name, value in PRECAUTIONS.items():
            resp.headers.setdefault(name, value)
        return await super().finish_response(request, resp, start_time)


def refuse(refusal: Refusal) -> web.Response:
    """The answer to a request that is not served."""
    return web.Response(
        status=refusal.status,
        body=refusal.body,
        headers=refusal.fields,
        content_type="application/json",
        charset="utf-8",
    )


def _refusal(error: web.HTTPException) -> Refusal:
    """What we say of a request that aiohttp refuses."""
    if isinstance(error, web.HTTPNotFound):
        return NOT_FOUND
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = {str(hdrs.ALLOW): error.headers[hdrs.ALLOW]}
        return Refusal(405, "method_not_allowed", "this page is only read", allowed)
    return MALFORMED


async def close_after(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """A signal for applications on the clients' port: a connection serves one request.

    A proxy that kept it would send the next handshake over it, to aiohttp.
    """
    response.force_close()
    response.headers[hdrs.CONNECTION] = "close"
