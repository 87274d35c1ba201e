"""What seals a body and opens it, held against the cryptography package's own HKDF and AES-GCM."""

from __future__ import annotations

import base64
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.contract import sealing
from publisher.contract.message import Message, decode
from publisher.contract.sealing import CHANGED, MISSING, CannotOpen, KeyRing, is_sealed
from publisher.contract.sealing import OTHER as OTHER_KEY
from publisher.errors import InvalidData

KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
CHANNEL = "lessons/a:b+c 张三"


def ring(*names: str) -> KeyRing:
    keys = {"a": KEY, "b": OTHER}
    return KeyRing({name: keys[name] for name in names})


def sealed(body: bytes, by: KeyRing | None = None, channel: str = CHANNEL) -> Message:
    by = by or ring("a")
    return Message(7, 6, by.seal(channel, body), b"n", by.extension.encode())


@given(st.binary(min_size=1, max_size=300))
def test_what_is_sealed_can_be_opened_and_comes_through_an_entry_whole(body: bytes):
    by = ring("a", "b")
    message = decode(b"7:6:n+" + by.extension.encode() + b":" + by.seal(CHANNEL, body))
    assert is_sealed(message)
    assert body not in message.body or len(body) < 4
    ring("b", "a").open(CHANNEL, message)
    assert (message.body, message.extension, message.nonce) == (body, b"", b"n")


def test_it_is_what_the_standards_say():
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = b"rt1 sealing " + CHANNEL.encode()
    own = HKDF(SHA256(), 32, salt=None, info=info).derive(KEY)
    message = sealed(b'{"x":1}')
    check = HKDF(SHA256(), 32, salt=None, info=b"rt1 key check").derive(KEY)[:4].hex()
    assert message.extension == f"e1.a.{check}".encode()
    associated = f"{check}\0{CHANNEL}".encode()
    opened = AESGCM(own).decrypt(message.body[:12], message.body[12:], associated)
    assert opened == b'{"x":1}'
    assert len(message.body) == 12 + 7 + 16


def test_no_two_are_sealed_alike():
    by = ring("a")
    assert len({by.seal(CHANNEL, b"1") for _ in range(1_000)}) == 1_000


@pytest.mark.parametrize("at", [0, 11, 12, 15, -1])
def test_a_byte_that_was_changed_is_noticed(at: int):
    message = sealed(b"1234")
    changed = bytearray(message.body)
    changed[at] ^= 1
    message.body = bytes(changed)
    with pytest.raises(CannotOpen) as caught:
        ring("a").open(CHANNEL, message)
    assert caught.value.reason == CHANGED
    assert message.extension.startswith(b"e1.a.")


@pytest.mark.parametrize("length", [0, 1, 11, 12, 27])
def test_one_that_was_cut_is_noticed(length: int):
    message = sealed(b"1234")
    message.body = message.body[:length]
    with pytest.raises(CannotOpen):
        ring("a").open(CHANNEL, message)


def test_what_was_copied_into_another_channel_or_under_another_key_is_noticed():
    with pytest.raises(CannotOpen, match=CHANGED):
        ring("a").open("lessons/other", sealed(b"1"))
    message = sealed(b"1")
    message.extension = f"e1.{ring('b').names[0]}".encode()
    with pytest.raises(CannotOpen, match=CHANGED):
        ring("a", "b").open(CHANNEL, message)


def test_two_keys_of_one_id_are_told_apart_and_can_be_in_one_ring_under_two_ids():
    """A backend has made a ring of its own, and has named its key as all others do."""
    message = sealed(b"1", KeyRing({"a": OTHER}))
    with pytest.raises(CannotOpen, match=OTHER_KEY):
        ring("a").open(CHANNEL, message)
    KeyRing({"a": KEY, "theirs": OTHER}).open(CHANNEL, message)
    assert message.body == b"1"


@pytest.mark.parametrize("extension", [b"e1.b", b"e1.", b"e1.\xff", b"e1.b.c", b"e1.b.00000000"])
def test_a_key_that_is_not_there_is_named(extension: bytes):
    message = sealed(b"1")
    message.extension = extension
    with pytest.raises(CannotOpen) as caught:
        ring("a").open(CHANNEL, message)
    assert caught.value.reason == MISSING
    assert caught.value.key == extension[3:].decode("ascii", "backslashreplace")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("extension", [b"", b"z9", b"e2.a", b"e1"])
def test_other_extensions_are_not_for_a_ring(extension: bytes):
    assert not is_sealed(Message(1, 0, b"1", b"n", extension))


def text(key: bytes, name: str = "a") -> str:
    return f"{name}:{base64.b64encode(key).decode()}"


def test_a_ring_is_read_from_text_its_first_key_seals():
    found = KeyRing.parse(f" {text(OTHER, 'new_1')} ,{text(KEY, 'a')}\n")
    assert found.extension.startswith("e1.new_1.")
    message = sealed(b"1")
    found.open(CHANNEL, message)
    assert message.body == b"1"


@pytest.mark.parametrize("url_safe", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_a_key_may_be_in_either_alphabet_and_without_padding(url_safe: bool, padded: bool):
    key = b"\xfb\xff" * 16
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    written = encode(key).decode()
    found = KeyRing.parse(f"a:{written if padded else written.rstrip('=')}")
    message = sealed(b"1", KeyRing({"a": key}))
    found.open(CHANNEL, message)
    assert message.body == b"1"


HIDDEN = base64.b64encode(KEY).decode()


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        HIDDEN,
        f":{HIDDEN}",
        f"a.b:{HIDDEN}",
        f"{'a' * 17}:{HIDDEN}",
        f"a:{HIDDEN[:-4]}",
        f"a:{HIDDEN}AAAA",
        f"a:{HIDDEN}\nb:{HIDDEN}",
        f"a:!{HIDDEN}",
        f"a:{HIDDEN},",
        f"a:{HIDDEN},a:{HIDDEN}",
        f"a:{HIDDEN};b:{HIDDEN}",
        f"a :{HIDDEN}",
        "a:é" + HIDDEN[1:],
    ],
)
def test_what_is_no_ring_is_refused_and_not_repeated(wrong: str):
    with pytest.raises(InvalidData) as caught:
        KeyRing.parse(wrong)
    assert HIDDEN[:12] not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("ring", "if this is the name of a file, write an @ before it"),
        (f"a:{HIDDEN}\nb:{HIDDEN}", "between keys write commas, not line ends"),
        (f"a:{HIDDEN};b:{HIDDEN}", "between keys write commas"),
        (f"a:{HIDDEN},b:{HIDDEN[:8]}", r"encryption key 2 must be .*base64 32\)$"),
    ],
)
def test_what_was_meant_in_the_place_of_a_ring_is_said(wrong: str, hint: str):
    with pytest.raises(InvalidData, match=hint):
        KeyRing.parse(wrong)


def test_no_key_is_shown_and_a_ring_can_be_pickled():
    first = ring("a", "b")
    sealed(b"1", first)
    shown = f"{first!r} {first}"
    assert shown == "KeyRing({0}, {1}) KeyRing({0}, {1})".format(*first.names)
    assert not re.search(f"{HIDDEN[:4]}|{KEY.hex()[:8]}", shown)
    message = sealed(b"1", first)
    pickle.loads(pickle.dumps(first)).open(CHANNEL, message)
    assert message.body == b"1"


def test_however_many_channels_there_are_the_keys_of_few_are_kept():
    by = ring("a")
    for number in range(sealing._REMEMBERED + 10):
        by.seal(f"n/{number}", b"1")
    assert len(by._of_channel) == 10
    message = sealed(b"1", by, "n/1")
    by.open("n/1", message)
    assert message.body == b"1"
