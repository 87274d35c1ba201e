from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.contract.control import GrantRevoked
from publisher.contract.control import decode as decode_command
from publisher.contract.control import encode as encode_command
from publisher.contract.grants import EVERYBODY, Grantee, grantee_of, member_of
from publisher.contract.message import (
    MAX_ID,
    NOT_LOGGED,
    Message,
    decode,
    encode_unlogged,
    expire,
    lives_for,
)
from publisher.records import MAX_TTL_SECONDS


def test_an_entry_has_id_predecessor_nonce_and_body():
    message = decode(b'1640995200000123:1640995200000122:abc:{"a":":"}')
    assert (message.id, message.prev, message.nonce) == (1640995200000123, 1640995200000122, b"abc")
    assert message.body == b'{"a":":"}'
    assert message.logged


def test_the_timestamp_is_the_id_in_milliseconds():
    assert decode(b"1640995200000999:0:n:1").timestamp == 1640995200000


def test_an_entry_of_a_later_version_says_how_it_must_be_read():
    message = decode(b"17:16:abc+sealed=1:\x00:\xff")
    assert (message.id, message.prev, message.nonce) == (17, 16, b"abc")
    assert (message.extension, message.body) == (b"sealed=1", b"\x00:\xff")
    assert not message.removed
    assert decode(b"17:16:abc:1").extension == b""


@pytest.mark.parametrize("nonce", [b"abc", b"abc+e1.k1", b"abc+z9"])
def test_an_entry_without_a_body_is_a_tombstone_whatever_its_body_was(nonce: bytes):
    message = decode(b"17:16:" + nonce + b":")
    assert message.removed
    assert (message.id, message.prev, message.extension) == (17, 16, b"")


@given(st.integers(0, MAX_ID), st.binary())
def test_an_unlogged_payload_is_read_as_not_logged(id_: int, body: bytes):
    message = decode(encode_unlogged(id_, b"n", body))
    assert (message.id, message.prev, message.body) == (id_, NOT_LOGGED, body)
    assert not message.logged


@pytest.mark.parametrize("entry", [b"", b"1", b"1:2:3", b"x:0:n:1", b"1:x:n:1"])
def test_a_foreign_entry_is_a_value_error(entry: bytes):
    with pytest.raises(ValueError):
        decode(entry)


def test_messages_are_equal_by_what_is_delivered():
    assert Message(1, 0, b"1", b"a") == Message(1, 0, b"1", b"b")
    assert len({Message(1, 0, b"1"), Message(1, 0, b"1")}) == 1
    assert Message(1, 0, b"1") != Message(1, 0, b"2")
    assert Message(1, 0, b"1") != 1


def test_the_repr_does_not_show_the_body():
    assert repr(Message(2, 1, b'"secret"')) == "Message(id=2, prev=1, 8 bytes)"


@given(st.text(min_size=1) | st.sampled_from(["*", EVERYBODY]))
def test_a_control_command_survives_its_way(user: Grantee):
    command = GrantRevoked("run-results/s", user)
    assert decode_command(encode_command(command)) == command


def test_everybody_is_told_of_as_ever_and_a_user_called_so_is_not():
    """A node of version 0.1.0 takes the user `*` for everybody."""
    assert encode_command(GrantRevoked("a/b", EVERYBODY)) == (
        b'{"type":"grant_revoked","channel":"a/b","user":"*"}'
    )
    assert b'"*"' not in encode_command(GrantRevoked("a/b", "*"))


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_two_are_stored_under_the_same_name(one: str, other: str):
    grantees = list({one, other, "*", EVERYBODY})
    names = [member_of(each) for each in grantees]
    assert len(set(names)) == len(names)
    assert [grantee_of(each) for each in names] == grantees


def test_no_text_is_everybody():
    assert EVERYBODY != "*"
    assert not isinstance(EVERYBODY, str)
    assert pickle.loads(pickle.dumps(EVERYBODY)) is EVERYBODY
    assert repr(EVERYBODY) == "EVERYBODY"


def test_a_control_command_of_a_newer_version_is_skipped():
    assert decode_command(b'{"type":"from_the_future"}') is None
    assert decode_command(b'{"type":"grant_revoked","channel":1}') is None


@pytest.mark.parametrize("payload", [b"", b"x", b"1", b"[]", b"{}"])
def test_what_is_no_control_command_is_a_value_error(payload: bytes):
    with pytest.raises(ValueError):
        decode_command(payload)


SECOND = 1_000_000


@pytest.mark.parametrize(
    ("extension", "left"),
    [(b"t5", b""), (b"t5,e1.k.0011", b"e1.k.0011"), (b"t5,later", b"later")],
)
def test_a_message_counts_for_as_long_as_it_says(extension: bytes, left: bytes):
    message = decode(b"1000000:0:n+" + extension + b":1")
    assert (message.extension, message.body) == (extension, b"1")
    expire(message, 6 * SECOND - 1)
    assert (message.extension, message.body) == (left, b"1")
    message = decode(b"1000000:0:n+" + extension + b":1")
    expire(message, 6 * SECOND)
    assert message.removed
    assert message.extension == b""


@pytest.mark.parametrize(
    "extension", [b"t", b"t-1", b"tx", b"t5;x", b"t99999999999", b"e1.t5", b""]
)
def test_what_says_something_else_is_left_as_it_is(extension: bytes):
    message = Message(1, 0, b"1", b"n", extension)
    expire(message, 2**53)
    assert (message.extension, message.body) == (extension, b"1")


@given(st.integers(1, MAX_TTL_SECONDS))
def test_what_is_written_is_read(seconds: int):
    message = Message(7, 0, b"1", b"n", lives_for(seconds).encode())
    expire(message, 7 + seconds * SECOND - 1)
    assert (message.extension, message.body) == (b"", b"1")


def test_a_tombstone_stands_for_those_that_it_names_and_no_others_between_them():
    tombstone = decode(b"70:50:60|n70,65=n65,60=n60:")
    assert [each for each in range(50, 80) if tombstone.stands_for(each)] == [60, 65, 70]
    alone = decode(b"70:50:70|n70:")
    assert [each for each in range(50, 80) if alone.stands_for(each)] == [70]
    in_the_log = decode(b"70:50:n70:")
    assert [each for each in range(50, 80) if in_the_log.stands_for(each)] == [70]


def test_where_there_was_no_room_for_all_those_before_may_be_any():
    named = f"n70,66={'n' * 2_000}"[:1_000]
    tombstone = decode(f"70:50:60|{named}:".encode())
    assert [each for each in range(50, 80) if tombstone.stands_for(each)] == [*range(60, 67), 70]
