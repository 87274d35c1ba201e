"""Encrypted messages in a node: opened before they go out, and never passed by where they cannot be."""

from __future__ import annotations

import time
from functools import partial

import pytest

from gateway.node.opener import Opener
from gateway.node.stats import Stats
from publisher.contract.channels import Namespace
from publisher.contract.message import Message, decode
from publisher.contract.sealing import KeyRing
from tests.unit.fakes import NEWS, Node, make_connection, payload, turn
from tests.unit.test_hub import ids
from tests.unit.wire import messages_in

KEY = bytes(range(32))
RING = KeyRing({"k1": KEY})


def sealed(id: int, prev: int | None = 0, body: bytes = b'"secret"', by: KeyRing = RING) -> bytes:
    before = b"" if prev is None else b"%d" % prev
    extension = by.extension.encode()
    return b"%d:%b:n+%b:" % (id, before, extension) + by.seal(NEWS.name, body)


def node_with(ring: KeyRing | None) -> Node:
    node = Node()
    node.hub._opener = Opener(ring, node.stats, {}, time.time)
    return node


async def test_they_go_out_as_any_other() -> None:
    node = node_with(RING)
    client, socket = make_connection()
    node.listen(client)
    node.hub.receive(NEWS.name, sealed(1))
    node.hub.receive(NEWS.name, payload(2, 1))
    node.hub.receive(NEWS.name, sealed(3, 2))
    node.hub.receive(NEWS.name, sealed(9, None, b'"unlogged"'))
    await turn()
    told = messages_in(socket.received)
    assert [each["data"] for each in told] == ["secret", 1, "secret", "unlogged"]
    assert [each.get("id") for each in told] == [1, 2, 3, None]
    assert node.stats.decryption_failures == 0


async def test_gaps_and_repeats_are_noticed_as_ever() -> None:
    node = node_with(RING)
    client, socket = make_connection()
    node.listen(client)
    for id_, prev in ((1, 0), (1, 0), (3, 2)):
        node.hub.receive(NEWS.name, sealed(id_, prev))
    await turn()
    assert ids(socket) == [1]
    assert node.gaps == [NEWS.name]


@pytest.mark.parametrize(
    "ring",
    [None, KeyRing({"k2": bytes(32)}), KeyRing({"k1": bytes(32)})],
    ids=["no keys", "another key", "another key of the same id"],
)
async def test_without_the_key_nothing_behind_it_goes_out_and_that_is_told_once(
    ring: KeyRing | None, caplog: pytest.LogCaptureFixture
) -> None:
    node = node_with(ring)
    client, socket = make_connection()
    subscription = node.listen(client)
    node.hub.receive(NEWS.name, payload(1))
    node.hub.receive(NEWS.name, sealed(2, 1))
    node.hub.receive(NEWS.name, sealed(3, 2))
    node.hub.receive(NEWS.name, payload(4, 3))
    await turn()
    assert ids(socket) == [1]
    assert client.sent_upto(NEWS.name) == 1
    assert subscription.live is None
    assert node.sealed == [NEWS.name]
    assert node.stats.decryption_failures >= 1
    assert node.stats.messages_unknown == 0
    [record] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.message.startswith(
        f"decryption_failed channel={NEWS.name} id=2 key={RING.names[0]} "
    )
    assert "GATEWAY_ENCRYPTION_KEYS" in record.message


@pytest.mark.parametrize("ring", [None, RING], ids=["no keys", "keys"])
async def test_the_tombstone_of_one_stops_nobody(ring: KeyRing | None) -> None:
    node = node_with(ring)
    client, socket = make_connection()
    node.listen(client)
    node.hub.receive(NEWS.name, b"1:0:n+" + RING.extension.encode() + b":")
    node.hub.receive(NEWS.name, payload(2, 1))
    await turn()
    assert ids(socket) == [2]
    assert node.stats.decryption_failures == 0


async def test_one_that_was_changed_on_its_way_is_not_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = node_with(RING)
    client, socket = make_connection()
    node.listen(client)
    entry = bytearray(sealed(1))
    entry[-1] ^= 1
    node.hub.receive(NEWS.name, bytes(entry))
    await turn()
    assert ids(socket) == []
    assert node.stats.decryption_failures == 1
    # Another key would not help.
    assert "GATEWAY_ENCRYPTION_KEYS" not in caplog.text
    assert "taken out" in caplog.text


def page(*entries: bytes) -> list[Message]:
    return [decode(each) for each in entries]


def test_a_page_is_opened_up_to_the_first_that_cannot_be() -> None:
    stats = Stats()
    other = KeyRing({"k2": bytes(32)})
    messages = page(sealed(1), payload(2, 1), sealed(3, 2, by=other), sealed(4, 3))
    Opener(RING, stats, {}, time.time).open_page(NEWS.name, messages)
    assert [bool(each.extension) for each in messages] == [False, False, True, True]
    assert stats.decryption_failures == 1


def test_one_of_a_later_version_is_not_its_business() -> None:
    stats = Stats()
    messages = page(b"1:0:n+z9:1", sealed(2, 1))
    Opener(RING, stats, {}, time.time).open_page(NEWS.name, messages)
    assert messages[0].extension == b"z9"
    assert stats.decryption_failures == 0


def test_what_is_not_encrypted_where_all_should_be_is_delivered_and_told_once_a_channel(
    caplog: pytest.LogCaptureFixture,
) -> None:
    opener = Opener(RING, Stats(), {"news": Namespace("news", encrypted=True)}, time.time)
    for channel in ("news/a", "news/a", "other/a", "news/b"):
        messages = page(payload(1), payload(2, 1, b""))
        opener.open_page(channel, messages)
        assert not any(each.extension for each in messages)
    told = [each.getMessage().partition(" id=")[0] for each in caplog.records]
    assert told == [f"plaintext_in_encrypted_namespace channel=news/{each}" for each in "ab"]


def test_what_comes_live_and_is_not_encrypted_where_all_should_be_goes_on_and_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    opener = Opener(RING, Stats(), {"news": Namespace("news", encrypted=True)}, time.time)
    taken: list[tuple[str, bytes]] = []
    receive = opener.receiver(NEWS.name, lambda *what: taken.append(what))
    # Sealed, of a later version, a tombstone, a command, and what nobody of ours wrote.
    quiet = [sealed(1), b"2:1:n+z9:1", b"3:2:n:", b'{"a":"1:2:n:1"}', b"x:2:n:1", b"1"]
    for entry in quiet:
        receive(entry)
    assert not caplog.records
    plain = [payload(4, 3), b"5::n:1", b"6:4:n:a+b"]
    for entry in plain:
        receive(entry)
    assert taken == [(NEWS.name, each) for each in quiet + plain]
    [record] = caplog.records
    advised = f"plaintext_in_encrypted_namespace channel={NEWS.name} id=4 "
    assert record.getMessage().startswith(advised)


def test_other_channels_pay_nothing_for_it() -> None:
    opener = Opener(RING, Stats(), {"news": Namespace("news", encrypted=True)}, time.time)
    hub = Node().hub
    receive = opener.receiver("other/a", hub.receive)
    assert isinstance(receive, partial)
    assert (receive.func, receive.args) == (hub.receive, ("other/a",))


def test_each_channel_that_stops_is_told_once_for_a_key(caplog: pytest.LogCaptureFixture) -> None:
    opener = Opener(RING, Stats(), {}, time.time)
    other = KeyRing({"k2": bytes(32)})
    for channel in ("news/a", "news/b", "news/a"):
        opener.open_page(channel, page(sealed(1, by=other), sealed(2, 1, by=other)))
    told = [each.getMessage().partition(" reason=")[0] for each in caplog.records]
    name = other.names[0]
    assert told == [f"decryption_failed channel=news/{each} id=1 key={name}" for each in "ab"]


def test_of_however_many_keys_and_channels_few_are_told(caplog: pytest.LogCaptureFixture) -> None:
    opener = Opener(RING, Stats(), {"news": Namespace("news", encrypted=True)}, time.time)
    for number in range(150):
        opener.open("news/a", Message(1, 0, b"x" * 40, b"n", b"e1.%d" % number))
        opener.open_page(f"news/{number}", page(payload(1)))
    assert len(caplog.records) == 200


async def test_a_message_whose_time_is_over_is_passed_by_live_and_is_no_gap() -> None:
    node = Node()
    now = 0.0
    node.hub._opener = Opener(RING, node.stats, {}, lambda: now)
    client, socket = make_connection()
    node.listen(client)
    node.hub.receive(NEWS.name, b"1:0:n+t5:1")
    now = 5.000001
    node.hub.receive(NEWS.name, b"2:1:n+t5:2")
    node.hub.receive(NEWS.name, b"3:2:n+t5,%b" % sealed(3).split(b"+", 1)[1])
    node.hub.receive(NEWS.name, b"4:3:n+t4:4")
    node.hub.receive(NEWS.name, payload(5, 4))
    await turn()
    assert ids(socket) == [1, 2, 3, 5]
    assert messages_in(socket.received)[2]["data"] == "secret"
    assert node.stats.gaps == node.stats.messages_unknown == 0


def test_of_a_page_those_become_tombstones_whose_time_is_over() -> None:
    stats = Stats()
    key = RING.extension.encode()
    messages = page(b"1:0:n+t5:1", b"2:1:n+t5,%b:foreign" % key, b"3:2:n+t50:3", b"4:3:n+z:4")
    Opener(RING, stats, {}, lambda: 6.0).open_page(NEWS.name, messages)
    assert [each.removed for each in messages] == [True, True, False, False]
    assert [each.extension for each in messages] == [b"", b"", b"", b"z"]
    assert stats.decryption_failures == 0
