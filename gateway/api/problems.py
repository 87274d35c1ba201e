"""What goes wrong, as ``application/problem+json`` (RFC 9457), and what the library's errors are called there."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import hdrs, web

from gateway.core.error_entries import entry
from publisher import (
    GrantWithoutEffect,
    InvalidChannel,
    InvalidInput,
    MessageTooLarge,
    NotReplicated,
    PublisherError,
    Rejected,
    Unavailable,
    UnknownNamespace,
)
from publisher.contract.json_text import written

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/problem+json"
PROBLEM_SCHEMA: Final = {"$ref": "#/components/schemas/Problem"}
"""As other schemas of the OpenAPI document name it."""

_ERRORS: Final[Mapping[type[PublisherError], tuple[int, str]]] = {
    MessageTooLarge: (413, "message_too_large"),
    GrantWithoutEffect: (409, "grant_without_effect"),
    UnknownNamespace: (400, "unknown_namespace"),
    InvalidChannel: (400, "invalid_channel"),
    InvalidInput: (400, "invalid_data"),
    NotReplicated: (503, "not_replicated"),
    Rejected: (500, "rejected"),
    Unavailable: (503, "unavailable"),
}
"""Status and code of each error of the library; a class comes before those that it belongs to."""


class Problem(Exception):
    """Why a request, or a line of one, is refused.

    Args:
        status: of HTTP.
        code: what programs tell it by.
        detail: a sentence for who reads it.
        headers: of the response.
        more: further members of the object.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.members = {
            # No page about each has a URL (RFC 9457, section 4.2.1); ``help`` says where it is explained.
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "code": code,
            "help": entry(code),
            **more,
        }

    @property
    def response(self) -> web.Response:
        """The whole answer."""
        return web.Response(
            status=self.status,
            body=written(self.members),
            headers={**self.headers, hdrs.CONTENT_TYPE: CONTENT_TYPE},
        )


def invalid(detail: str) -> Problem:
    """The request does not say what it must."""
    return Problem(400, "invalid_request", detail)


def too_large(detail: str) -> Problem:
    """A body, or a part of it, is over a limit."""
    return Problem(413, "body_too_large", detail)


def of_error(error: PublisherError) -> Problem:
    """What the library has raised; of Redis itself little, since that is for the log (:class:`Failures`)."""
    status, code = _status_and_code(error)
    told = str(error)
    if _is_of_redis(error):
        effect = "may have taken effect" if error.maybe_sent else "had no effect"
        said = "rejected the call" if code == "rejected" else "is unavailable"
        told = f"Redis {said}; the call {effect}"
    headers = {str(hdrs.RETRY_AFTER): "1"} if status == 503 else {}
    return Problem(
        status, code, told, headers, maybe_sent=error.maybe_sent, retryable=error.retryable
    )


class Failures:
    """What Redis has answered to the calls of one request, or that it has not: for the log."""

    def __init__(self, *errors: PublisherError) -> None:
        self._calls: Counter[str] = Counter()
        self._first: dict[str, PublisherError] = {}
        for each in errors:
            self.note(each)

    def note(self, error: PublisherError) -> None:
        """A call has failed."""
        if _is_of_redis(error):
            code = _status_and_code(error)[1]
            self._calls[code] += 1
            self._first.setdefault(code, error)

    def tell(self) -> None:
        """Write a line for each kind, however many have failed."""
        for code, error in self._first.items():
            calls = self._calls[code]
            log.warning("api_call_failed code=%s calls=%d error=%s", code, calls, error)


def _status_and_code(error: PublisherError) -> tuple[int, str]:
    return next(found for kind, found in _ERRORS.items() if isinstance(error, kind))


def _is_of_redis(error: PublisherError) -> bool:
    return isinstance(error, Unavailable) and not isinstance(error, NotReplicated)


def of_http(error: web.HTTPException) -> Problem:
    """What aiohttp refuses by itself."""
    if isinstance(error, web.HTTPNotFound):
        return Problem(404, "not_found", "there is nothing at this path")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = {str(hdrs.ALLOW): error.headers[hdrs.ALLOW]}
        return Problem(405, "method_not_allowed", "this path has other methods", allowed)
    return invalid("this is no request that is served here")


def failed() -> Problem:
    """A defect, which the log tells of."""
    return Problem(500, "internal_error", "the gateway has failed to answer this", maybe_sent=True)
