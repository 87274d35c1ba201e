"""One body for many channels."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest

from publisher import (
    EVERYBODY,
    AsyncPublisher,
    InvalidChannel,
    InvalidData,
    MessageTooLarge,
    Published,
    Publisher,
    UnknownNamespace,
)
from publisher.contract.sealing import KeyRing
from publisher.records import Encoded, dump_json


class Names(str, Enum):  # noqa: UP042 - the kind that is written under another name
    ANN = "ann"


def test_every_user_gets_it_in_their_notifications(publisher: Publisher):
    users = [f"user-{n}" for n in range(700)] + ["a/b", "张三"]
    outcomes = publisher.broadcast({"title": "Hello"}, users=iter(users))
    assert [each.channel for each in outcomes if isinstance(each, Published)] == [
        f"notifications/{user}" for user in users
    ]
    for user in ("user-0", "user-699", "a/b", "张三"):
        (entry,) = publisher.history(f"notifications/{user}")
        assert entry.data == {"title": "Hello"}


async def test_channels_may_be_of_several_namespaces_and_one_that_is_wrong_stops_no_other(
    async_publisher: AsyncPublisher,
):
    channels: list[Any] = ["run-results/s", "nothing", "notifications/u", "unknown/x", 7]
    one, bad, two, unknown, number = await async_publisher.broadcast([None], channels=channels)
    assert isinstance(one, Published)
    assert isinstance(two, Published)
    assert isinstance(bad, InvalidChannel)
    assert isinstance(unknown, UnknownNamespace)
    assert isinstance(number, InvalidChannel)
    assert [each.data for each in await async_publisher.history("run-results/s")] == [[None]]


@pytest.mark.parametrize("user", ["", EVERYBODY, 7, Names.ANN, None, "a\n"])
def test_who_is_no_user_is_refused_in_their_place(publisher: Publisher, user: Any):
    outcomes = publisher.broadcast(1, users=["u", user])
    assert isinstance(outcomes[0], Published)
    assert isinstance(outcomes[1], InvalidChannel)


def test_the_json_is_written_once_and_shared(publisher: Publisher):
    class Counted:
        written = 0

    def write(value: Any) -> Any:
        value.written += 1
        return "x"

    counted = Counted()
    publisher._operations._options = type(publisher._operations._options)(default=write)
    outcomes = publisher.broadcast(counted, users=[f"u{n}" for n in range(50)])
    assert all(isinstance(each, Published) for each in outcomes)
    assert counted.written == 1
    body = b'"x"'
    assert dump_json(Encoded(body), 1) is body


def test_what_cannot_be_published_to_anybody_is_raised_and_nothing_is_sent(publisher: Publisher):
    def users() -> Iterator[str]:
        raise AssertionError("nobody is asked for")
        yield

    with pytest.raises(InvalidData, match="NaN"):
        publisher.broadcast(float("nan"), users=users())
    with pytest.raises(MessageTooLarge):
        publisher.broadcast("x" * 2**20, users=users())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "channels or users"),
        ({"channels": [], "users": []}, "channels or users"),
        ({"users": "user-456"}, "users must be several"),
        ({"channels": 7}, "channels must be several"),
    ],
)
def test_it_needs_several_of_one_kind(publisher: Publisher, given: dict[str, Any], says: str):
    with pytest.raises(InvalidData, match=says):
        publisher.broadcast(1, **given)


def test_nobody_is_no_error(publisher: Publisher):
    assert publisher.broadcast(1, users=[]) == []


def test_a_second_call_with_the_same_key_finishes_the_first(publisher: Publisher):
    (first,) = publisher.broadcast(1, users=["a"], idempotency_key="k")
    again, new = publisher.broadcast(1, users=["a", "b"], idempotency_key="k")
    assert isinstance(first, Published)
    assert isinstance(again, Published)
    assert isinstance(new, Published)
    assert (again.id, again.duplicate, new.duplicate) == (first.id, True, False)


def test_each_channel_of_an_encrypted_namespace_has_a_body_of_its_own(
    publisher_url: str, prefix: str
):
    ring = "a:" + 43 * "A" + "="
    assert KeyRing.parse(ring)
    with Publisher.from_url(publisher_url, prefix=prefix, encryption_keys=ring) as publisher:
        publisher.broadcast("secret", users=["a", "b"])
        for user in "ab":
            assert [each.data for each in publisher.history(f"notifications/{user}")] == ["secret"]
