"""What backends in any language send to the HTTP API: it is taken, or refused with a problem, whatever is in it."""

from __future__ import annotations

import json
import random
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final, TypeVar
from unittest.mock import MagicMock
from zlib import crc32

import orjson
from aiohttp.test_utils import make_mocked_request
from hypothesis import strategies as st

from gateway.api.admission import Admission
from gateway.api.asking import Asked, Endpoint, Sources
from gateway.api.bodies import _Cutter, parsed
from gateway.api.endpoints import ENDPOINTS
from gateway.api.keys import ApiKey, ApiKeys, Scope
from gateway.api.presence import PresenceLists
from gateway.api.problems import Failures, Problem, of_error
from gateway.api.publishing import MOST_BODY_BYTES, _publish_lines
from gateway.api.shapes import check_object
from publisher import AsyncPublisher, PublisherError, Unavailable
from publisher.publication import Publication
from publisher.transport.flows import Flow
from tests.fuzz.mutating import pieces

T = TypeVar("T")

_MOST_TOLD: Final = 1_000
"""Bytes of a problem: what was wrong is not sent back."""
_BODIED: Final = [each for each in ENDPOINTS if each.body is not None]
_LONGEST_LINE: Final = 200
_CUT_BYTES: Final = 4_096
"""Byte by byte more would take the time that an input may take."""
_BODIES: Final[list[Any]] = [
    {"channel": "run-results/a", "data": {"n": 1}},
    {"channel": "run-results/a", "data": None, "ttl": 5, "collapse_key": "k"},
    {"channel": "run-results/a", "data": [], "at": 1_640_995_200.5},
    {"channel": "notifications/u", "data": "x", "wait_confirmed": 1},
    {"channel": "run-results/a", "data": 1, "idempotency_key": "k"},
    {"data": 1, "users": ["u", "张三"]},
    {"data": 1, "channels": ["run-results/a", "run-results/b"]},
    {"channel": "run-results/a", "user": "u", "ttl": 60},
    {"channel": "run-results/a", "everybody": True, "ttl": None},
    {"user": "u", "reason": "bye", "connection": "n/1"},
    {"jti": "j", "until": 1_640_995_200},
    {"user": "u", "before": 1_640_995_200},
    {"user": "u", "before": 1e300},
    {"channel": "run-results/a", "data": 1, "at": 1e300},
    *({}, [], None, {"channel": 1}, {"channel": "a/b", "data": 1, "more": 1}),
]
_DEEP: Final = b'{"data":' + b"[" * 900 + b"]" * 900 + b',"users":["u"]}'
_WORDS: Final = (
    *(b'"channel":', b'"data":', b'"ttl":', b'"at":', b'"collapse_key":', b'"wait_confirmed":'),
    *(b'"users":[', b'"channels":[', b'"user":', b'"everybody":true', b'"before":', b'"until":'),
    *(b"null", b"true", b"{}", b"[]", b"-1", b"1e308", b"1e400", b"NaN", b"18446744073709551616"),
    *(b"\\ud800", b"\\u0000", b"\xff", b"[" * 300, b'{"a":' * 300, b'"' + b"x" * 300 + b'":1,'),
    *(b"run-results/", b"nothing/a", b"/", b"\\n", b"\n", b"\r\n", b"9007199254740993"),
)
_NAMES: Final = sorted({each.name for endpoint in _BODIED for each in endpoint.body or ()})
_OBJECT: Final = st.dictionaries(
    st.sampled_from([*_NAMES, "more"]),
    st.sampled_from(["run-results/a", "notifications/u", "u", 1, 0, True, None, [], {}, ["u"]])
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.lists(st.text(max_size=5), max_size=3),
    max_size=6,
)


class Unreached(AsyncPublisher):
    """Looks at what it is given, and reaches no Redis."""

    async def _run(self, flow: Flow[T]) -> T:
        try:
            flow.send(None)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # what a flow returns has no type there
        flow.close()
        raise Unavailable("nobody is there", maybe_sent=False)

    async def _finished(self, _publication: Publication) -> None:
        raise Unavailable("nobody is there", maybe_sent=False)


class ApiBodies:
    """A body is given to one endpoint or another, and to that of many messages in lines, which come in pieces."""

    name = "api bodies"
    corpus = (
        *(json.dumps(each).encode() for each in _BODIES),
        b"\n".join(json.dumps(each).encode() for each in _BODIES[:5]),
        _DEEP,
        b"\n\n \n",
        b"x" * (_LONGEST_LINE + 1) + b"\n{}",
    )
    words = _WORDS
    structured = _OBJECT.map(lambda body: json.dumps(body).encode("utf-8", "surrogatepass"))

    def __init__(self) -> None:
        key = ApiKey("k", b"", frozenset(Scope))
        publisher = Unreached.from_url("redis://127.0.0.1:1")
        # Who waits for a confirmation asks the connection to end that.
        request = make_mocked_request(
            "POST", "/", headers={"Idempotency-Key": "k"}, protocol=MagicMock()
        )
        admitted = Admission().admit(key.name)
        keys, presence = ApiKeys(None, float), PresenceLists()
        sources = Sources(presence, MagicMock())
        self._asked = Asked(request, key, keys, publisher, admitted, sources, {}, {})

    def take(self, data: bytes, dice: random.Random) -> None:
        """Let it read an input."""
        self._ask(_BODIED[crc32(data) % len(_BODIED)], data)
        some = data[:_CUT_BYTES]
        assert _cut(pieces(some, dice)) == _cut([some])
        lines = [line for line in _Cutter(MOST_BODY_BYTES).feed(some + b"\n") if line]
        _outcome(_publish_lines(self._asked, lines, Failures()))

    def _ask(self, endpoint: Endpoint, data: bytes) -> None:
        try:
            body = check_object(endpoint.body or (), parsed(data))
        except Problem as problem:
            _check(problem)
            return
        asked = self._asked
        _outcome(endpoint.handle(replace(asked, body=body)))  # type: ignore[arg-type]  # each is a coroutine


def _cut(parts: list[bytes]) -> list[bytes]:
    cutter = _Cutter(_LONGEST_LINE)
    lines = [line for part in parts for line in cutter.feed(part)] + cutter.end()
    return [line if isinstance(line, bytes) else b"too long" for line in lines]


def _outcome(work: Coroutine[Any, Any, Any]) -> None:
    """What becomes of a request, which waits for nothing."""
    try:
        work.send(None)
    except StopIteration:
        return
    except Problem as problem:
        _check(problem)
    except PublisherError as error:
        problem = of_error(error)
        assert problem.status in {400, 409, 413, 503}, problem.members
        _check(problem)
    else:
        raise AssertionError("it waits for somebody")


def _check(problem: Problem) -> None:
    assert 400 <= problem.status < 500 or problem.status == 503
    assert len(orjson.dumps(problem.members)) <= _MOST_TOLD
