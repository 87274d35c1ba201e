"""Serves the HTTP API: who asks, whether they may, and the answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from gateway.api.admission import ADMITTED, Admission, Admitted
from gateway.api.asking import KEY_HEADER, Answer, Asked, Endpoint, Sources, respond
from gateway.api.bodies import read_json
from gateway.api.endpoints import ENDPOINTS
from gateway.api.keys import ApiKey, ApiKeys, Scope
from gateway.api.names import PATH
from gateway.api.openapi import document
from gateway.api.problems import Failures, Problem, failed, invalid, of_error, of_http
from gateway.api.publishers import Publishers
from gateway.api.shapes import check_object, check_path, check_query
from gateway.core.log_limit import LogLimit
from gateway.node import audit
from gateway.node.stats import Stats
from publisher import PublisherError

log = logging.getLogger(__name__)

DOCUMENT: Final = "/v1/openapi.json"
"""Whoever reaches the port may read what is served there."""

_SCHEME: Final = "bearer"


class Api:
    """The application.

    Args:
        version: of the gateway.
    """

    def __init__(
        self,
        keys: ApiKeys,
        admission: Admission,
        publishers: Publishers,
        sources: Sources,
        stats: Stats,
        version: str,
    ) -> None:
        self._keys = keys
        self._admission = admission
        self._publishers = publishers
        self._sources = sources
        self._stats = stats
        self._limit = LogLimit(time.monotonic())
        self._document = document(ENDPOINTS, version)
        self._leaving = False

    def app(self) -> web.Application:
        """What serves requests."""
        app = web.Application(middlewares=[self._answered])
        for method, path, handler in self._routes():
            app.router.add_route(method, path, handler)
        return app

    def serve_in(self, app: web.Application, guarded: Callable[[Handler], Handler]) -> None:
        """Serve the same in another application, in which ``guarded`` sees each request first."""
        for method, path, handler in self._routes():

            async def serve(request: web.Request, to: Handler = handler) -> web.StreamResponse:
                return await self._answered(request, to)

            app.router.add_route(method, path, guarded(serve))

    def _routes(self) -> Iterator[tuple[str, str, Handler]]:
        yield hdrs.METH_GET, DOCUMENT, self._describe
        for each in ENDPOINTS:
            # An id may hold slashes, unescaped too.
            path = each.path.replace("{id}", "{id:.+}").replace("{user}", "{user:.+}")
            yield each.method, path, self._handler(each)

    def leave(self) -> None:
        """The node drains: each connection ends with its next answer, so that the end of the port cuts off none."""
        self._leaving = True

    @web.middleware
    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Whatever goes wrong is told in one form, and counted."""
        try:
            answer = await handler(request)
        except Problem as problem:
            answer = problem.response
        except PublisherError as error:
            Failures(error).tell()
            answer = of_error(error).response
        except web.HTTPException as error:
            answer = of_http(error).response
        except Exception:
            log.exception("api_failed path=%s", request.path)
            answer = failed().response
        self._stats.api_requests[str(answer.status)] += 1
        if self._leaving:
            answer.force_close()
        return answer

    async def _describe(self, request: web.Request) -> web.StreamResponse:
        check_query((), request.query)
        return respond(self._document)

    def _handler(self, endpoint: Endpoint) -> Handler:
        async def serve(request: web.Request) -> web.StreamResponse:
            key = self._authenticated(request)
            if endpoint.scope not in key.scopes:
                raise Problem(403, "scope_missing", f"the key needs the scope {endpoint.scope}")
            admitted = self._admission.admit(key.name)
            try:
                answer = respond(await self._ask(endpoint, request, key, admitted))
                size = answer.content_length or 0
                admitted.answer(size, refusable=endpoint.scope is Scope.READ)
            except BaseException:
                admitted.end()
                raise
            # It ends when the answer is sent.
            request[ADMITTED] = admitted
            return answer

        return serve

    async def _ask(
        self, endpoint: Endpoint, request: web.Request, key: ApiKey, admitted: Admitted
    ) -> Answer:
        publisher = self._publishers.of(key.name)
        check_path(PATH, request.match_info)
        if not endpoint.keyed and KEY_HEADER in request.headers:
            raise invalid(endpoint.without_key)
        query = check_query(endpoint.query, request.query if request.query_string else {})
        body: Any = {}
        if endpoint.body is not None:
            body = check_object(endpoint.body, await read_json(request, endpoint.most, admitted))
        elif endpoint.lines is None and request.body_exists:
            raise invalid("this is asked without a body")
        asked = Asked(request, key, self._keys, publisher, admitted, self._sources, body, query)
        try:
            answer = await endpoint.handle(asked)
        except PublisherError as error:
            self._tell(endpoint, asked, type(error).__name__)
            raise
        self._tell(endpoint, asked, "done")
        return answer

    def _tell(self, endpoint: Endpoint, asked: Asked, outcome: str) -> None:
        """Write into the audit log who has changed whose access."""
        if endpoint.scope in {"grant", "disconnect"}:
            given = {**asked.request.match_info, **asked.body, **asked.query}
            call = f"{endpoint.method} {endpoint.path}"
            audit.api_call(call, asked.key.name, given.get("user"), given.get("channel"), outcome)

    def _authenticated(self, request: web.Request) -> ApiKey:
        given = request.headers.getall(hdrs.AUTHORIZATION, [])
        if len(given) > 1:
            raise invalid("Authorization is there twice")
        scheme, _, presented = (given[0] if given else "").partition(" ")
        if scheme.lower() != _SCHEME or not presented:
            raise _unauthorized("key_missing", "show a key: Authorization: Bearer KEY", "")
        key = self._keys.find(presented)
        if key is None:
            left_out = self._limit.admit("", time.monotonic())
            if left_out is not None:
                log.warning("api_key_unknown address=%s left_out=%d", request.remote, left_out)
            raise _unauthorized("key_unknown", "no such key", ', error="invalid_token"')
        return key


def _unauthorized(code: str, detail: str, error: str) -> Problem:
    return Problem(401, code, detail, {hdrs.WWW_AUTHENTICATE: f'Bearer realm="gateway"{error}'})
