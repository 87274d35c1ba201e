"""HTTP/1.1 as the clients' port speaks it: one request without a body, and one answer (RFC 9112).

A request is read strictly. What two readers could understand differently is malformed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import parse_qsl

MAX_HEAD_BYTES: Final = 16_384
_MAX_LINE_BYTES: Final = 8_190
OPTIONAL_SPACE: Final = " \t"
"""What may stand around a value or a member of a list (RFC 9110 §5.6.3). Python takes more for a space."""

_NO_WEIGHT: Final = re.compile(r"q\s*=\s*0(\.0*)?")
_END: Final = b"\r\n\r\n"
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TOKEN_START: Final = re.compile(_TOKEN[:-1])
_REQUEST_LINE: Final = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/(\d)\.(\d)")
# In origin form, or in absolute form (§3.2.1, §3.2.2).
_TARGET: Final = re.compile(rb"(?:(?=/)|https?://[^/?#]+)(/[^?#]*)?(?:\?([^#]*))?", re.IGNORECASE)
# A name or an address, and a port (§3.2, RFC 3986 §3.2.2).
_HOST: Final = re.compile(
    r"(?:\[[0-9a-z.:%_~-]+\]|[0-9a-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?", re.ASCII | re.IGNORECASE
)
# A line ends with CR LF, and no other control character than a tab stands in it (§2.2, RFC 9110 §5.5).
_TEXT: Final = rb"[^\0-\x08\x0a-\x1f\x7f]"
_LINES: Final = re.compile(rb"(?:" + _TEXT + rb"++|\r\n)*+")
# Possessive throughout, so that nothing is tried twice.
_FIELDS: Final = re.compile(rb"(?:\r\n" + _TOKEN + rb"+:" + _TEXT + rb"*+)*+")

PROXY_1: Final = b"PROXY "
PROXY_2: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""How a header of the PROXY protocol begins, in its versions 1 and 2."""

_RECOGNISED: Final = (
    (b"\x16\x03", "tls"),
    (b"PRI * HTTP/2.0\r\n", "http2"),
    (PROXY_1, "proxy_protocol"),
    (PROXY_2, "proxy_protocol"),
)
"""How a connection begins that speaks something else: TLS, HTTP/2, the PROXY protocol."""
_BEGINNINGS: Final = tuple(beginning for beginning, _ in _RECOGNISED)
_LONGEST_BEGINNING: Final = max(map(len, _BEGINNINGS))

PRECAUTIONS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What a browser is told with every answer that is no upgrade: to keep it, load, run and frame nothing, and to tell nobody of it."""

_REASONS: Final = {
    101: "Switching Protocols",
    200: "OK",
    202: "Accepted",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    426: "Upgrade Required",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Malformed(Exception):
    """No request that can be served.

    ``cause`` is a word of ours for the log, and holds nothing of what came: ``tls``, ``http2``, ``proxy_protocol``,
    ``request_line``, ``version``, ``header``, ``host`` or ``head_too_large``.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True)
class Head:
    """A request without its body. ``fields`` holds the lines of each field by its name in lower case."""

    method: str
    path: str
    query: str
    version: str
    fields: Mapping[str, list[str]]

    def get(self, name: str) -> str | None:
        """A field's value: several lines are one list (RFC 9110 §5.3)."""
        lines = self.fields.get(name)
        return None if lines is None else ", ".join(lines)

    @property
    def parameter_count(self) -> int:
        """How many parameters its query has, which are not decoded for that: a query can hold thousands, and they are dear."""
        return self.query.count("&") + 1 if self.query else 0

    @cached_property
    def parameters(self) -> Sequence[tuple[str, str]]:
        """The parameters of its query, in their order; decoded once."""
        return parse_qsl(self.query, keep_blank_values=True)

    @property
    def announces_body(self) -> bool:
        """Whether something follows that belongs to the request (RFC 9112 §6)."""
        return self.get("content-length") not in {None, "0"} or "transfer-encoding" in self.fields

    def members(self, name: str) -> list[str]:
        """The members of a field that is a list; empty ones too."""
        return [each.strip(OPTIONAL_SPACE) for each in (self.get(name) or "").split(",")]

    def tokens(self, name: str) -> set[str]:
        """The members of a field that lists tokens, in lower case."""
        return {each.strip(OPTIONAL_SPACE) for each in (self.get(name) or "").lower().split(",")}


def read_head(data: bytes, seen: int = 0) -> tuple[Head, int] | None:
    """The head at the beginning of ``data``, and where it ends; ``None`` while it is not whole.

    Args:
        data: what has come.
        seen: bytes of it that an earlier call was given, which returned ``None``. They are not judged once more: a
            request may come byte by byte.

    Raises:
        Malformed: it is no request, as soon as that can be told.
    """
    if seen < _LONGEST_BEGINNING and data.startswith(_BEGINNINGS):
        raise Malformed(next(cause for each, cause in _RECOGNISED if data.startswith(each)))
    # An empty line before the request is ignored (§2.2).
    start = 2 if data.startswith(b"\r\n") else 0
    end = data.find(_END, max(start, seen - len(_END) + 1), MAX_HEAD_BYTES)
    if end >= 0:
        return _parse(data[start:end]), end + len(_END)
    _judge_beginning(data, start, seen)
    return None


def _judge_beginning(data: bytes, start: int, seen: int) -> None:
    """Refuse what cannot become a request any more."""
    first_end = data.find(b"\n", start)
    if first_end < 0:
        if data[start : start + 2] not in {b"", b"\r"} and not _TOKEN_START.match(data, start):
            raise Malformed("request_line")
    elif first_end >= seen:
        line = data[start:first_end]
        _request_line(line.removesuffix(b"\r") if line.endswith(b"\r") else b"")
    unfinished = len(data) - data.rfind(b"\n") - 1 - data.endswith(b"\r")
    if len(data) >= MAX_HEAD_BYTES or unfinished > _MAX_LINE_BYTES:
        raise Malformed("head_too_large")
    if first_end >= 0:
        # A CR is judged with the byte behind it.
        fields = max(first_end + 1, seen - data.endswith(b"\r", 0, seen))
        if not _LINES.fullmatch(data, fields, len(data) - data.endswith(b"\r")):
            raise Malformed("header")


def _parse(data: bytes) -> Head:
    first = data.partition(b"\r\n")[0]
    method, path, query, version = _request_line(first)
    lines = data.decode("latin-1").split("\r\n")
    if len(data) > _MAX_LINE_BYTES and max(map(len, lines)) > _MAX_LINE_BYTES:
        raise Malformed("head_too_large")
    if not _FIELDS.fullmatch(data, len(first)):
        raise Malformed("header")
    fields: dict[str, list[str]] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        fields.setdefault(name.lower(), []).append(value.strip(OPTIONAL_SPACE))
    hosts = fields.get("host", [])
    if len(hosts) > 1 or (version != "1.0" and not hosts) or not all(map(_HOST.fullmatch, hosts)):
        raise Malformed("host")
    return Head(method, path, query, version, fields)


def _request_line(line: bytes) -> tuple[str, str, str, str]:
    """Method, path, query and version."""
    parts = _REQUEST_LINE.fullmatch(line)
    if parts is None:
        raise Malformed("head_too_large" if len(line) > _MAX_LINE_BYTES else "request_line")
    method, target, major, minor = parts.groups()
    if major != b"1":
        raise Malformed("version")
    found = _TARGET.fullmatch(target)
    if found is None:
        raise Malformed("request_line")
    path, query = found.groups(b"")
    return method.decode(), (path or b"/").decode(), query.decode(), f"1.{minor.decode()}"


def takes_gzip(accepted: str) -> bool:
    """Whether an ``Accept-Encoding`` lets an answer be gzipped (RFC 9110, section 12.5.3): not where its weight is 0."""
    weights = {}
    for each in accepted.lower().split(","):
        coding, *parameters = (part.strip(OPTIONAL_SPACE) for part in each.split(";"))
        weights[coding] = not any(_NO_WEIGHT.fullmatch(parameter) for parameter in parameters)
    return weights.get("gzip", weights.get("*", False))


def response(status: int, fields: Mapping[str, str], body: bytes = b"") -> bytes:
    """An answer as bytes."""
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
