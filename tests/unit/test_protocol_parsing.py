"""Every input a client can send becomes a request or a ``BadRequest``, and never anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.protocol import (
    Ack,
    BadRequest,
    ErrorCode,
    Heartbeat,
    Refresh,
    Subscribe,
    Unsubscribe,
    WhoIsThere,
    parse,
)
from publisher.contract.channels import parse_channel
from publisher.contract.message import MAX_ID

NEWS = parse_channel("news/today")


def refusal(text: str | bytes) -> ErrorCode:
    with pytest.raises(BadRequest) as caught:
        parse(text)
    return caught.value.code


def message(**fields: Any) -> str:
    return json.dumps(fields)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "hello",
        "{",
        "{'type':'heartbeat'}",
        '{"type":"heartbeat",}',
        '{"type":"heartbeat"}{"type":"heartbeat"}',
        '{"type":"heartbeat"}\x00',
        '\ufeff{"type":"heartbeat"}',
        '{"type":"heartbeat","x":NaN}',
        '{"type":"heartbeat","x":1e999}',
        '{"type":"heartbeat","x":"\\ud800"}',
        '{"type":"heartbeat","x":"\ud800"}',
        b'{"type":"heartbeat","x":"\xff"}',
        b'{"type":"heartbeat","x":"\xed\xa0\x80"}',
        b"\x00",
        pytest.param("[" * 100_000, id="deep and open"),
        pytest.param("[" * 100_000 + "]" * 100_000, id="deep and closed"),
        pytest.param('{"a":' * 5_000 + "1" + "}" * 5_000, id="deep objects"),
    ],
)
def test_what_is_not_json_is_an_invalid_message(text: str | bytes) -> None:
    assert refusal(text) is ErrorCode.INVALID_MESSAGE


@pytest.mark.parametrize(
    "text", ["null", "true", "1", '"heartbeat"', "[]", '[{"type":"heartbeat"}]']
)
def test_json_that_is_no_object_is_an_invalid_message(text: str) -> None:
    assert refusal(text) is ErrorCode.INVALID_MESSAGE


@pytest.mark.parametrize("type_", [None, True, 0, 1.5, [], {}, ["heartbeat"], {"type": "ack"}])
def test_a_type_that_is_no_string_is_an_invalid_message(type_: Any) -> None:
    assert refusal(message(type=type_)) is ErrorCode.INVALID_MESSAGE


def test_a_message_without_type_is_an_invalid_message() -> None:
    assert refusal(message(channel="news/today")) is ErrorCode.INVALID_MESSAGE


@pytest.mark.parametrize(
    "type_", ["", "Subscribe", "subscribe ", "ping", "publish", "subscribed", "connected", "data"]
)
def test_a_type_we_do_not_know_has_a_code_of_its_own(type_: str) -> None:
    assert refusal(message(type=type_, channel="news/today")) is ErrorCode.UNKNOWN_TYPE


def test_the_error_for_an_unknown_type_does_not_repeat_it() -> None:
    with pytest.raises(BadRequest) as caught:
        parse(message(type="<script>"))
    assert b"script" not in caught.value.render()


@pytest.mark.parametrize("type_", ["subscribe", "unsubscribe", "ack", "presence"])
@pytest.mark.parametrize("channel", [None, 1, True, [], {}, ["news/today"]])
def test_a_channel_that_is_no_string_is_an_invalid_message(type_: str, channel: Any) -> None:
    assert refusal(message(type=type_, channel=channel, id=1)) is ErrorCode.INVALID_MESSAGE


@pytest.mark.parametrize("type_", ["subscribe", "unsubscribe", "ack", "presence"])
@pytest.mark.parametrize(
    "channel",
    [
        "",
        "/",
        "news",
        "news/",
        "/today",
        "news/today\n",
        "news/to\tday",
        "news/today\x00",
        "news/\x85",
        " news/today",
        "ne ws/today",
        "été/news",
        "n" * 128 + "/" + "t" * 127,
        "n/" + "é" * 127,
    ],
)
def test_a_channel_of_another_form_is_an_invalid_channel(type_: str, channel: str) -> None:
    assert refusal(message(type=type_, channel=channel, id=1)) is ErrorCode.INVALID_CHANNEL


@pytest.mark.parametrize("name", ["n" * 127 + "/" + "t" * 127, "n/" + "é" * 126 + "t"])
def test_a_channel_may_have_255_bytes(name: str) -> None:
    assert parse(message(type="subscribe", channel=name)) == Subscribe(parse_channel(name))


@pytest.mark.parametrize("since", [0, 1, 2**31, 2**32, MAX_ID])
def test_since_and_id_go_from_0_to_the_largest_exact_integer(since: int) -> None:
    assert parse(message(type="subscribe", channel="news/today", since=since)) == Subscribe(
        NEWS, since
    )
    assert parse(message(type="ack", channel="news/today", id=since)) == Ack(NEWS, since)


NO_IDS = [
    "-1",
    "true",
    "false",
    "1.0",
    "1e3",
    "-0.0",
    '"1"',
    "[]",
    "{}",
    str(MAX_ID + 1),
    str(2**63),
    str(2**64),
    "9" * 400,
    "-" + "9" * 30,
]


@pytest.mark.parametrize("value", NO_IDS)
def test_since_that_is_no_id_is_an_invalid_message(value: str) -> None:
    text = f'{{"type":"subscribe","channel":"news/today","since":{value}}}'
    assert refusal(text) is ErrorCode.INVALID_MESSAGE


@pytest.mark.parametrize("value", [*NO_IDS, "null"])
def test_an_ack_of_no_id_is_an_invalid_message(value: str) -> None:
    text = f'{{"type":"ack","channel":"news/today","id":{value}}}'
    assert refusal(text) is ErrorCode.INVALID_MESSAGE


def test_an_ack_needs_an_id() -> None:
    assert refusal(message(type="ack", channel="news/today")) is ErrorCode.INVALID_MESSAGE


def test_since_of_null_is_no_since() -> None:
    assert parse(message(type="subscribe", channel="news/today", since=None)) == Subscribe(NEWS)


@pytest.mark.parametrize("token", [None, 1, True, [], {}])
def test_a_refresh_needs_a_token_that_is_a_string(token: Any) -> None:
    assert refusal(message(type="refresh", token=token)) is ErrorCode.INVALID_MESSAGE


def test_a_refresh_carries_its_token() -> None:
    assert parse(message(type="refresh", token="a.b.c")) == Refresh("a.b.c")


def test_who_is_in_a_channel_is_asked_by_its_name() -> None:
    assert parse(message(type="presence", channel="news/today")) == WhoIsThere(NEWS)


def test_unknown_keys_are_ignored() -> None:
    assert parse(message(type="heartbeat", id=[], since={}, other=None)) == Heartbeat()


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    text = '{"type":"ack","type":"unsubscribe","channel":"other/1","channel":"news/today"}'
    assert parse(text) == Unsubscribe(NEWS)


def test_text_and_bytes_are_read_alike() -> None:
    text = message(type="subscribe", channel="news/today", since=3)
    assert parse(text) == parse(text.encode()) == Subscribe(NEWS, 3)


REFUSED = [
    {"type": "subscribe"},
    {"type": "subscribe", "since": "x"},
    {"type": "unsubscribe"},
    {"type": "ack"},
    {"type": "ack", "id": -1},
    {"type": "refresh"},
    {"type": "shout"},
    {"type": 7},
    {},
]


@given(st.sampled_from(REFUSED), st.text(max_size=1024))
def test_an_error_names_the_channel_that_the_request_named(
    fields: dict[str, Any], channel: str
) -> None:
    try:
        parse(message(**fields, channel=channel))
    except BadRequest as error:
        assert json.loads(error.render())["channel"] == channel


@pytest.mark.parametrize("fields", REFUSED, ids=str)
@pytest.mark.parametrize("channel", [None, 1, ["news/today"], {}])
def test_an_error_names_no_channel_where_the_request_named_none(
    fields: dict[str, Any], channel: Any
) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(message(**fields, channel=channel))
    assert "channel" not in json.loads(caught.value.render())


def test_what_an_error_repeats_of_a_name_is_bounded_and_is_no_name_itself() -> None:
    with pytest.raises(BadRequest) as caught:
        parse(message(type="subscribe", channel="news/" + "x" * 10_000))
    told = json.loads(caught.value.render())["channel"]
    assert told == "news/" + "x" * 1_019
    assert refusal(message(type="subscribe", channel=told)) is ErrorCode.INVALID_CHANNEL


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
_TYPES = st.sampled_from(["subscribe", "unsubscribe", "heartbeat", "ack", "refresh"])
_FIELDS = st.fixed_dictionaries(
    {"type": _TYPES | _ANYTHING},
    optional={
        "channel": st.just("news/today") | _ANYTHING,
        "since": st.integers(-2, MAX_ID + 2) | _ANYTHING,
        "id": st.integers(-2, MAX_ID + 2) | _ANYTHING,
        "token": _ANYTHING,
    },
)


@settings(max_examples=300)
@given(_FIELDS.map(json.dumps) | st.text() | st.binary())
def test_no_input_raises_anything_but_bad_request(text: str | bytes) -> None:
    try:
        parse(text)
    except BadRequest as refused:
        rendered = json.loads(refused.render())
        assert rendered["type"] == "error"
        assert rendered["message"]
        assert rendered["code"] in set(ErrorCode)
