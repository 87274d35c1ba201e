"""Messages as events and as members of an array: the same JSON, and nothing that a publisher writes becomes a field."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.core import encodings, events, protocol
from gateway.core.events import POLLED, WITH_IDS, WITHOUT_IDS
from gateway.core.frames import PLAIN, Compression
from publisher.contract.channels import parse_channel
from publisher.contract.message import NOT_LOGGED, Message
from tests.unit.fakes import logged
from tests.unit.wire import messages_in

PREFIX = protocol.data_prefix(parse_channel("news/today"))


def encode(*messages: Message) -> dict[encodings.Encoding, bytes]:
    kinds = [PLAIN, WITH_IDS, WITHOUT_IDS, POLLED]
    return encodings.encode(PREFIX, messages, kinds, 1_000, Compression())


def test_all_kinds_say_the_same() -> None:
    encoded = encode(logged(1, 0, b'"a"'), logged(2, 1, b'{"b":2}'))
    said = messages_in(encoded[PLAIN])
    blocks = encoded[WITH_IDS].decode().split("\n\n")[:-1]
    assert [each.split("\n")[0] for each in blocks] == ["id: 1", "id: 2"]
    assert [json.loads(each.split("data: ")[1]) for each in blocks] == said
    blocks = encoded[WITHOUT_IDS].decode().split("\n\n")[:-1]
    assert [json.loads(each.removeprefix("data: ")) for each in blocks] == said
    assert json.loads(b"[" + encoded[POLLED][:-1] + b"]") == said


def test_what_is_not_logged_names_no_position() -> None:
    message = logged(5, NOT_LOGGED, b"1")
    assert b"id: " not in encode(message)[WITH_IDS]


@given(st.text("\r\n :aid", max_size=40))
def test_line_ends_in_json_end_no_line(space: str) -> None:
    body = b"{" + space.translate(dict.fromkeys(map(ord, ":aid"))).encode() + b'"a":1}'
    text = encode(logged(7, 0, body))[WITH_IDS].decode()
    assert text.count("\n") == 3
    assert "\r" not in text
    assert json.loads(text.split("data: ")[1])["data"] == {"a": 1}


def test_other_blocks() -> None:
    assert events.COMMENT == b":\n\n"
    assert events.position(b"pAB") == b"id: pAB\n\n"
    assert events.retry(100) == b"retry: 100\n\n"
    assert WITH_IDS.ping(b"h") == events.COMMENT
    assert POLLED.ping(b"h") == b""
    assert not WITH_IDS.asks
    assert not POLLED.asks
    assert PLAIN.asks
