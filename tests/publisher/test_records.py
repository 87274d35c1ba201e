"""What may be published as data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pydantic
import pytest

from publisher import AsyncPublisher, InvalidData, Publisher
from publisher.records import dump_json


class Colour(Enum):
    RED = "red"
    WARMTH = math.nan


@dataclass
class Point:
    x: float
    y: float | None = None


class Order(pydantic.BaseModel):
    total: Decimal
    tags: set[str] = set()


def dump(data: Any, default: Any = None) -> bytes:
    return dump_json(data, 1_000_000, default)


@pytest.mark.parametrize(
    ("data", "json"),
    [
        (Decimal("12.50"), b'"12.50"'),
        ({"a": {1}}, b'{"a":[1]}'),
        (frozenset(), b"[]"),
        (Order(total=Decimal("1.10")), b'{"total":"1.10","tags":[]}'),
        ([Order(total=Decimal(2), tags={"x"})], b'[{"total":"2","tags":["x"]}]'),
        (Point(1.5), b'{"x":1.5,"y":null}'),
        ([None, UUID(int=0), datetime(2026, 1, 2, tzinfo=UTC), Colour.RED], None),
        ([None, 1.5, -(2**63), 2**64 - 1, True, (1, 2)], None),
    ],
)
def test_this_can_be_published(data: Any, json: bytes | None):
    assert json is None or dump(data) == json
    dump(data)


@pytest.mark.parametrize(
    "number", [math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("Infinity")]
)
@pytest.mark.parametrize(
    "shape",
    [
        lambda n: n,
        lambda n: {"a": [None, n]},
        lambda n: [(n,)],
        lambda n: Point(1.0, n),
        lambda n: [{n}],
    ],
)
def test_nan_and_infinities_are_refused(number: Any, shape: Any):
    with pytest.raises(InvalidData, match="NaN and infinities are no JSON numbers"):
        dump(shape(number))


def test_they_are_found_in_what_a_conversion_gives_too():
    with pytest.raises(InvalidData, match="NaN"):
        dump({"a": Colour.WARMTH})
    with pytest.raises(InvalidData, match="NaN"):
        dump([object()], lambda _: {"b": math.nan})


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({1: 2}, "str"),
        (1 << 64, "64-bit"),
        (b"x", "bytes are no text"),
        (object(), "object is no JSON"),
        ("\ud800", "surrogates"),
    ],
)
def test_what_cannot_be_published_is_told(data: Any, told: str):
    with pytest.raises(InvalidData, match=told):
        dump({"a": data})


def test_a_default_of_ones_own_replaces_ours():
    assert dump({"a": Decimal("1.5"), "b": b"x"}, lambda value: repr(value)[:3]) == (
        b'{"a":"Dec","b":"b\'x"}'
    )

    def fails(value: object) -> object:
        raise TypeError(f"not {value}")

    with pytest.raises(InvalidData) as caught:
        dump({1}, fails)
    assert str(caught.value.__cause__) == "not {1}"


async def test_the_clients_take_a_default(redis_url: str, prefix: str):
    with Publisher.from_url(redis_url, prefix=prefix, default=str) as publisher:
        publisher.publish("run-results/s", b"x")
    async with AsyncPublisher.from_url(redis_url, prefix=prefix, default=str) as later:
        await later.publish("run-results/s", b"y")
        assert [entry.data for entry in await later.history("run-results/s")] == ["b'x'", "b'y'"]


@pytest.mark.parametrize("message", [None, "channel", ("run-results/s",), ["run-results/s", 1]])
def test_a_message_of_many_that_is_none_is_told_in_its_place(publisher: Publisher, message: Any):
    outcomes = publisher.publish_many([message, ("run-results/s", 1)])
    assert isinstance(outcomes[0], InvalidData)
    assert [entry.data for entry in publisher.history("run-results/s")] == [1]
