"""One request of the HTTP API: who asks, what for, and what it may do."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import hdrs, web

from gateway.api.admission import Admitted
from gateway.api.exchange import ApiExchange
from gateway.api.keys import ApiKey, ApiKeys, Scope
from gateway.api.presence import PresenceLists
from gateway.api.problems import Problem
from gateway.api.shapes import Field, Schema, Shape
from gateway.node.inquiries import Inquiries
from publisher import AsyncPublisher
from publisher.contract.json_text import written
from publisher.contract.trace_context import of_header

KEY_HEADER: Final = "Idempotency-Key"
TRACE_HEADER: Final = "traceparent"
"""W3C Trace Context."""
DEFAULT_BODY_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Sources:
    """What endpoints ask besides Redis: lists that were read a moment ago, and the nodes."""

    presence: PresenceLists
    inquiries: Inquiries


# Not frozen, which would cost each request a microsecond more.
@dataclass(slots=True)
class Asked:
    """A request that is let in: its key, the publisher that acts for it, what it takes of the room, what else may be asked, and what it says."""

    request: web.Request
    key: ApiKey
    keys: ApiKeys
    publisher: AsyncPublisher
    admitted: Admitted
    sources: Sources
    body: Mapping[str, Any]
    query: Mapping[str, Any]

    @property
    def channel(self) -> str:
        """The one that the path names."""
        parts = self.request.match_info
        channel = f"{parts['namespace']}/{parts['id']}"
        self.allow(channel)
        return channel

    @property
    def user(self) -> str:
        """The one that the path names."""
        return self.request.match_info["user"]

    @property
    def idempotency_key(self) -> str | None:
        """What makes a repeated call recognisable.

        Raises:
            Problem: it is there twice, or empty.
        """
        given = self.request.headers.getall(KEY_HEADER, [])
        if len(given) > 1:
            raise Problem(400, "invalid_request", f"{KEY_HEADER} is there twice")
        if given and not given[0]:
            raise Problem(400, "invalid_request", f"{KEY_HEADER} is empty")
        return given[0] if given else None

    @property
    def traceparent(self) -> str | None:
        """The span of a trace that the request belongs to; one that is malformed, or there twice, counts as not given."""
        given = self.request.headers.getall(TRACE_HEADER, [])
        return of_header(given[0]) if len(given) == 1 else None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """It waits for somebody who confirms: it takes one of their places, until its caller goes away at the latest.

        Raises:
            Problem: too many wait.
        """
        self.admitted.wait()
        with self._exchange.ends_request():
            yield

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """It watches, until its caller goes away, or falls silent, at the latest.

        Raises:
            Problem: too many watch.
        """
        self.admitted.watch()
        self._exchange.notice_dead_line()
        with self._exchange.ends_request():
            yield

    @property
    def _exchange(self) -> ApiExchange:
        return cast(ApiExchange, self.request.protocol)

    def still_counts(self) -> None:
        """Go on where the key is still there, and may as much as when the request came.

        Raises:
            Problem: it is not, or may not.
        """
        if not self.keys.counts(self.key):
            raise Problem(401, "key_unknown", "the key was removed or changed meanwhile")

    def allow(self, channel: str) -> None:
        """Go on where the key counts for the channel.

        Raises:
            Problem: it does not.
        """
        allowed = self.key.namespaces
        if allowed is not None and channel.partition("/")[0] not in allowed:
            raise Problem(403, "namespace_forbidden", "the key has no right in this namespace")

    def allow_everywhere(self) -> None:
        """Go on where the key counts in all namespaces.

        Raises:
            Problem: it does not.
        """
        if self.key.namespaces is not None:
            raise Problem(
                403, "namespace_forbidden", "this needs a key that counts in all namespaces"
            )

    def spend(self, messages: int) -> None:
        """Count messages that are to be published.

        Raises:
            Problem: they are more than the key's rate allows.
        """
        rate = self.key.rate
        if rate is not None and messages > rate:
            raise Problem(
                413,
                "too_many_messages",
                f"the key may publish {rate:g} messages a second, and so no more than that in one call",
            )
        if not self.keys.take(self.key, messages):
            raise Problem(
                429,
                "rate_limited",
                f"the key may publish {rate:g} messages a second",
                {hdrs.RETRY_AFTER: "1"},
                maybe_sent=False,
                retryable=True,
            )


Answer = Mapping[str, Any] | web.StreamResponse | None
"""A JSON object; a whole response; or nothing, which is 204."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is served at a path: the one table by which requests are routed and read, and OpenAPI describes them.

    Attributes:
        scope: what the key must have.
        answer: the schema of the answer; ``None`` where there is nothing to say.
        body: its members; ``None`` where there is none, or where it consists of lines.
        together: which of them may be there together, as a schema; ``handle`` checks that.
        lines: the members of each line of a body in NDJSON.
        streamed: whether the answer is lines of NDJSON, though the body is none.
        most: bytes of the body, or of a line.
        keyed: whether ``Idempotency-Key`` counts.
        traced: whether ``traceparent`` counts.
    """

    method: str
    path: str
    summary: str
    scope: Scope
    handle: Callable[[Asked], Awaitable[Answer]]
    answer: Schema | None = None
    body: Shape | None = None
    together: Schema = field(default_factory=dict)
    lines: Shape | None = None
    streamed: bool = False
    query: tuple[Field, ...] = ()
    most: int = DEFAULT_BODY_BYTES
    keyed: bool = False
    traced: bool = False
    problems: frozenset[int] = field(default=frozenset())

    @property
    def without_key(self) -> str:
        """Why ``Idempotency-Key`` is refused where it does not count."""
        instead = ": each line may have an idempotency_key" if self.lines is not None else ""
        return f"{KEY_HEADER} has no effect here{instead}"


def respond(answer: Answer) -> web.StreamResponse:
    """An answer as it is sent."""
    if isinstance(answer, web.StreamResponse):
        return answer
    if answer is None:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    return web.Response(body=written(answer), content_type="application/json")
