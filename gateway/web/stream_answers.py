"""How requests of clients without a WebSocket are answered in HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import orjson

from gateway.core import closing, http
from gateway.core.closing import Closing
from gateway.core.handshake import Refusal
from gateway.core.http import Head
from gateway.node.streams import MOST_SAID, TOO_MANY, UNAVAILABLE, UNREAD
from gateway.web.admission import unavailable
from gateway.web.shared_gzip import SharedGzip

NOT_KEPT: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
"""Neither kept nor changed nor gathered by what is between: nginx takes the second."""
_LIMIT_RETRY: Final = {"Retry-After": "5"}


class Cors:
    """What browsers are told about pages of other origins. Only those come here that may connect.

    Args:
        credentials: whether a page may send cookies along: those of a balancer, for a token counts only from its own site.
    """

    def __init__(self, *, credentials: bool) -> None:
        self._credentials = credentials

    def fields(self, head: Head) -> dict[str, str]:
        """What is added to an answer."""
        origin = head.get("origin")
        if origin is None:
            return {"Vary": "Origin"}
        fields = {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": "Retry-After",
        }
        return (
            fields | {"Access-Control-Allow-Credentials": "true"} if self._credentials else fields
        )


def refusal_of(why: Closing) -> Refusal:
    """What a WebSocket would be closed with, as an answer in HTTP."""
    told = orjson.loads(why.error or b"{}")
    code, message = told.get("code", why.reason), told.get("detail", why.reason)
    if why is closing.CONNECTION_LIMIT:
        return Refusal(429, code, message, _LIMIT_RETRY)
    return Refusal(401, code, message, {"WWW-Authenticate": "Bearer"})


_REFUSALS: Final = {
    each.status: each
    for each in (
        refusal_of(closing.TOKEN_REVOKED),
        Refusal(404, "not_found", "this user has no such stream or polls; begin anew"),
        Refusal(409, "poll_replaced", "you have polled once more before this was answered"),
        Refusal(TOO_MANY, "too_many_messages", f"at most {MOST_SAID} messages at once"),
        Refusal(UNREAD, "answers_unread", "first read what waits for you", _LIMIT_RETRY),
        Refusal(500, "internal_error", "the gateway has failed; try again"),
        unavailable("redis_unavailable"),
    )
}
"""What a request for a stream is refused with, by the status."""


@dataclass(frozen=True, slots=True)
class Answers:
    """How requests are answered. ``threshold``: bytes above which an answer to a poll is compressed; ``inf``: none is."""

    cors: Cors
    threshold: float
    gzip: SharedGzip = field(default_factory=SharedGzip)

    def to(self, head: Head) -> Callable[[int, bytes], bytes]:
        """What makes an answer to this request from a status and JSON."""
        fields = self.cors.fields(head)
        takes_gzip = http.takes_gzip(head.get("accept-encoding") or "")

        def answer(status: int, body: bytes) -> bytes:
            if status >= 400:
                refusal = _REFUSALS.get(status) or _REFUSALS[UNAVAILABLE]
                return refusal.also(fields).answer
            more = {**http.PRECAUTIONS, **NOT_KEPT, **fields, "Connection": "close"}
            if body:
                more["Content-Type"] = "application/json; charset=utf-8"
            if takes_gzip and len(body) > self.threshold:
                body = self.gzip.compress(body)
                more["Content-Encoding"] = "gzip"
                more["Vary"] += ", Accept-Encoding"
            return http.response(status, {**more, "Content-Length": str(len(body))}, body)

        return answer
