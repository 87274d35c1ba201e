"""What a request for a WebSocket must have, and how a refusal looks (RFC 6455 §4.2)."""

from __future__ import annotations

import pytest

from gateway.core.handshake import Agreement, Refusal, agree
from gateway.core.http import read_head
from tests.support.requests import UPGRADE, request


def answered(replaced: str, *by: str, version: str = "1.1") -> Agreement | Refusal:
    """The answer to a handshake in which the line of one field is replaced."""
    lines = [line for line in UPGRADE if not line.startswith(f"{replaced}:")]
    found = read_head(request(f"GET / HTTP/{version}", *lines, *by))
    assert found is not None
    return agree(found[0], compression=True)


@pytest.mark.parametrize(
    ("field", "lines"),
    [
        ("Connection", ["Connection: keep-alive, Upgrade"]),
        ("Connection", ["Connection: keep-alive", "Connection:\tupgrade\t"]),
        ("Upgrade", ["Upgrade: h2c, WebSocket"]),
        ("Sec-WebSocket-Key", ["Sec-WebSocket-Key:  MDEyMzQ1Njc4OWFiY2RlZg== "]),
        ("Content-Length", ["Content-Length: 0"]),
    ],
)
def test_what_is_written_otherwise_is_a_handshake_too(field: str, lines: list[str]) -> None:
    assert isinstance(answered(field, *lines), Agreement)


@pytest.mark.parametrize(
    ("field", "lines", "status"),
    [
        ("Connection", ["Connection: Upgrade\xa0"], 426),
        ("Connection", ["Connection: Upgrade;x"], 426),
        ("Upgrade", ["Upgrade: \x85websocket"], 426),
        ("Upgrade", ["Upgrade: websockets"], 426),
        ("Sec-WebSocket-Version", ["Sec-WebSocket-Version: 13, 8"], 426),
        ("Sec-WebSocket-Version", ["Sec-WebSocket-Version: 13"] * 2, 426),
        ("Sec-WebSocket-Version", ["Sec-WebSocket-Version: 013"], 426),
        ("Sec-WebSocket-Version", [], 426),
        ("Content-Length", ["Content-Length: 1"], 400),
        ("Content-Length", ["Content-Length: 0"] * 2, 400),
        ("Content-Length", ["Content-Length: +0"], 400),
        ("Transfer-Encoding", ["Transfer-Encoding: chunked"], 400),
        ("Transfer-Encoding", ["Transfer-Encoding:"], 400),
    ],
)
def test_what_another_reader_could_take_for_something_else_is_no_handshake(
    field: str, lines: list[str], status: int
) -> None:
    refused = answered(field, *lines)
    assert isinstance(refused, Refusal)
    assert refused.status == status


@pytest.mark.parametrize(("field", "version"), [("Upgrade", "1.1"), ("", "1.0")])
def test_a_426_names_what_the_connection_could_become_as_http_has_it(
    field: str, version: str
) -> None:
    """RFC 9110 §7.8: who sends Upgrade names it in Connection."""
    refused = answered(field, version=version)
    assert isinstance(refused, Refusal)
    head = refused.answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[0] == b"HTTP/1.1 426 Upgrade Required"
    assert {b"Upgrade: websocket", b"Connection: close, Upgrade"} <= set(head)


def test_the_subprotocol_that_is_chosen_was_offered_and_holds_no_token() -> None:
    agreed = answered(
        "", "Sec-WebSocket-Protocol: realtime", "Sec-WebSocket-Protocol: bearer.x.y.z"
    )
    assert isinstance(agreed, Agreement)
    assert b"\r\nSec-WebSocket-Protocol: realtime\r\n" in agreed.answer
    for offered in ("bearer.x.y.z", "Realtime", "realtime\xa0", "chat, realtime2"):
        agreed = answered("", f"Sec-WebSocket-Protocol: {offered}")
        assert isinstance(agreed, Agreement)
        assert b"Sec-WebSocket-Protocol" not in agreed.answer
