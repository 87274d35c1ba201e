"""The shapes that existing clients know (the seed's document), and what was added to them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from gateway.core import protocol
from gateway.core.protocol import (
    INVALID_MESSAGE_FORMAT,
    BadRequest,
    ErrorCode,
    Heartbeat,
    Subscribe,
    Unsubscribe,
)
from publisher.contract.channels import parse_channel
from publisher.contract.message import Message

# Copied from the seed's document, in its order.
SEED = """
```json
{
  "type": "run-results",
  "channel": "run-results/session-123",
  "data": {
    "stdout": "Hello, World!",
    "stderr": "",
    "exitCode": 0,
    "duration": 150
  },
  "timestamp": 1640995200000
}
```
```json
{
  "type": "notifications",
  "channel": "notifications/user-456",
  "data": {
    "title": "新的访问请求",
    "message": "家长张先生申请查看您的学习数据",
    "action": "approve_request",
    "requestId": "req-789"
  },
  "timestamp": 1640995200000
}
```
```json
{
  "type": "subscribe",
  "channel": "频道名称"
}
```
```json
{
  "type": "unsubscribe",
  "channel": "频道名称"
}
```
```json
{
  "type": "heartbeat"
}
```
```json
{
  "type": "connected",
  "message": "WebSocket connection established",
  "userId": "user-123"
}
```
```json
{
  "type": "subscribed",
  "channel": "频道名称"
}
```
```json
{
  "type": "unsubscribed",
  "channel": "频道名称"
}
```
```json
{
  "type": "heartbeat",
  "timestamp": 1640995200000
}
```
```json
{
  "type": "error",
  "message": "错误描述"
}
```
```json
{
  "type": "error",
  "message": "Invalid message format"
}
```
"""
PLACEHOLDER = "频道名称"  # "name of the channel"
CHANNEL = "run-results/session-123"
SHAPES: list[dict[str, Any]] = [
    json.loads(block.replace(PLACEHOLDER, CHANNEL))
    for block in re.findall(r"```json\n(.*?)```", SEED, re.DOTALL)
]


def shape(kind: str, *, which: int = 0) -> dict[str, Any]:
    return [each for each in SHAPES if each["type"] == kind][which]


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def test_the_copy_of_the_seed_is_whole() -> None:
    assert len(SHAPES) == 11


def test_subscribe_is_read_as_the_seed_writes_it() -> None:
    assert protocol.parse(dump(shape("subscribe"))) == Subscribe(parse_channel(CHANNEL), None)


def test_unsubscribe_is_read_as_the_seed_writes_it() -> None:
    assert protocol.parse(dump(shape("unsubscribe"))) == Unsubscribe(parse_channel(CHANNEL))


def test_heartbeat_is_read_as_the_seed_writes_it() -> None:
    assert protocol.parse(dump(shape("heartbeat"))) == Heartbeat()


@pytest.mark.parametrize(
    ("rendered", "expected"),
    [
        (protocol.connected("user-123"), shape("connected")),
        (protocol.subscribed(CHANNEL), shape("subscribed")),
        (protocol.unsubscribed(CHANNEL), shape("unsubscribed")),
        (protocol.heartbeat(1640995200000), shape("heartbeat", which=1)),
    ],
)
def test_an_answer_has_exactly_the_keys_of_the_seed(
    rendered: bytes, expected: dict[str, Any]
) -> None:
    assert json.loads(rendered) == expected
    assert list(json.loads(rendered)) == list(expected)


@pytest.mark.parametrize("kind", ["run-results", "notifications"])
def test_a_data_message_adds_nothing_but_its_id(kind: str) -> None:
    expected = shape(kind)
    id_ = expected["timestamp"] * 1000 + 7
    prefix = protocol.data_prefix(parse_channel(expected["channel"]))
    rendered = json.loads(protocol.data(prefix, Message(id_, 0, dump(expected["data"]))))
    assert rendered == {**expected, "id": id_}


@pytest.mark.parametrize("kind", ["run-results", "notifications"])
def test_a_data_message_without_a_log_has_exactly_the_keys_of_the_seed(kind: str) -> None:
    expected = shape(kind)
    prefix = protocol.data_prefix(parse_channel(expected["channel"]))
    message = Message(expected["timestamp"] * 1000, -1, dump(expected["data"]))
    assert json.loads(protocol.data(prefix, message)) == expected


def test_data_goes_out_byte_for_byte_as_it_was_published() -> None:
    body = b'{ "n": 1.0, "big": 123456789012345678901234567890, "s": "\\u00e9" }'
    prefix = protocol.data_prefix(parse_channel("news/today"))
    rendered = protocol.data(prefix, Message(5_000, 0, body))
    assert rendered == (
        b'{"type":"news","channel":"news/today","data":' + body + b',"timestamp":5,"id":5000}'
    )


@pytest.mark.parametrize("body", [b"null", b"0", b'""', b"[]", b'"%d %b %%"', b"false"])
def test_any_json_may_be_data(body: bytes) -> None:
    prefix = protocol.data_prefix(parse_channel("news/today"))
    assert json.loads(protocol.data(prefix, Message(1, 0, body)))["data"] == json.loads(body)


def test_an_error_adds_a_code_and_its_entry_to_the_shape_of_the_seed() -> None:
    expected = shape("error")
    rendered = json.loads(protocol.error(ErrorCode.FORBIDDEN, expected["message"]))
    assert rendered == {**expected, "code": "forbidden", "help": "docs/errors.md#forbidden"}


def test_an_error_names_detail_and_channel_only_when_there_are_any() -> None:
    rendered = json.loads(
        protocol.error(ErrorCode.FORBIDDEN, "No", detail="why", channel="news/today")
    )
    assert rendered == {
        "type": "error",
        "message": "No",
        "code": "forbidden",
        "help": "docs/errors.md#forbidden",
        "detail": "why",
        "channel": "news/today",
    }


@pytest.mark.parametrize("text", [b"not json", b"[]", b"{}", b'{"type":1}', b'{"type":"ack"}'])
def test_what_cannot_be_read_is_answered_in_the_words_of_the_seed(text: bytes) -> None:
    expected = shape("error", which=1)
    with pytest.raises(BadRequest) as caught:
        protocol.parse(text)
    rendered = json.loads(caught.value.render())
    assert rendered.items() >= expected.items()
    assert rendered["code"] == "invalid_message"
    assert rendered["detail"]
    assert expected["message"] == INVALID_MESSAGE_FORMAT


@pytest.mark.parametrize("recovered", [True, False])
def test_subscribed_says_recovered_only_when_told_to(recovered: bool) -> None:
    assert json.loads(protocol.subscribed(CHANNEL, recovered)) == {
        **shape("subscribed"),
        "recovered": recovered,
    }


def test_unsubscribed_gives_a_reason_when_the_client_did_not_ask() -> None:
    assert json.loads(protocol.unsubscribed(CHANNEL, "revoked")) == {
        **shape("unsubscribed"),
        "reason": "revoked",
    }


def test_granted_names_the_channel_and_nothing_else() -> None:
    assert json.loads(protocol.granted("a/é")) == {"type": "granted", "channel": "a/é"}


def test_a_user_id_may_hold_any_character() -> None:
    user = 'a"b\\c\n\u2028家😀'
    assert json.loads(protocol.connected(user))["userId"] == user


def test_a_batch_is_an_array_of_messages() -> None:
    assert json.loads(protocol.batch([b'{"a":1}', b'{"b":2}'])) == [{"a": 1}, {"b": 2}]


def test_error_codes_are_pinned_for_programs_that_read_them() -> None:
    assert {code.value for code in ErrorCode} == {
        "invalid_message",
        "unknown_type",
        "binary_unsupported",
        "message_too_large",
        "invalid_channel",
        "forbidden",
        "too_many_subscriptions",
        "channel_full",
        "not_subscribed",
        "no_presence",
        "flood",
        "token_missing",
        "token_invalid",
        "token_expired",
        "token_not_yet_valid",
        "token_key_unknown",
        "token_revoked",
        "connection_limit",
        "disconnected",
        "replaced",
        "messages_lost",
        "internal_error",
    }
