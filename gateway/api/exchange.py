"""One connection of the HTTP API, for as long as its caller is there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Final

from aiohttp import web

from gateway.api.admission import ADMITTED
from gateway.api.problems import Problem, failed
from gateway.core.handshake import Refusal
from gateway.web.pages import Exchange

_TAKEN_SECONDS: Final = 30.0
"""How long a caller may take to read an answer."""
_SILENT_MS: Final = 20_000


class ApiExchange(Exchange):
    """One connection: what is no request, or fails below the application, is told in the same form."""

    __slots__ = ("_untaken", "_waiting")

    def __init__(self, server: web.Server, gone: Callable[[], None] | None) -> None:
        super().__init__(server, gone)
        self._waiting: asyncio.Task[object] | None = None
        self._untaken: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def ends_request(self) -> Iterator[None]:
        """Within this the request that is served is cancelled when the caller goes away."""
        self._waiting = asyncio.current_task()
        assert self._waiting is not None
        if not self.connected:
            self._waiting.cancel()
        try:
            yield
        finally:
            self._waiting = None

    def notice_dead_line(self) -> None:
        """End the connection where what is sent is not acknowledged (``TCP_USER_TIMEOUT``, tcp(7)). Little is sent, so the
        kernel would take it for a quarter of an hour.
        """
        raw = None if self.transport is None else self.transport.get_extra_info("socket")
        if raw is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            with contextlib.suppress(OSError):  # a Unix socket
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)

    def pause_writing(self) -> None:
        """An answer is longer than what the caller takes at once. It may have megabytes, so it has to be taken in time."""
        super().pause_writing()
        if self.transport is not None:
            abort = self.transport.abort
            self._untaken = asyncio.get_running_loop().call_later(_TAKEN_SECONDS, abort)

    def resume_writing(self) -> None:
        """It is taken."""
        super().resume_writing()
        if self._untaken is not None:
            self._untaken.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)
        if self._untaken is not None:
            self._untaken.cancel()
        if self._waiting is not None:
            self._waiting.cancel()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer, of which nothing is kept afterwards."""
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            if isinstance(resp, web.Response):
                resp.body = None  # aiohttp keeps the answer until the next request
            if (admitted := request.get(ADMITTED)) is not None:
                admitted.end()

    def refuse(self, refusal: Refusal) -> web.Response:
        """The answer to a request that is malformed, or that failed."""
        problem = (
            failed()
            if refusal.status == 500
            else Problem(refusal.status, refusal.code, refusal.message, refusal.fields)
        )
        return problem.response
