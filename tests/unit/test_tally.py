"""The arithmetic of ``gateway load``."""

from __future__ import annotations

from array import array

import pytest

from gateway.load_generator.tally import Tally, percentiles


def tally(published: int = 0) -> Tally:
    made = Tally()
    for number in range(published):
        made.publishing(number, due=float(number))
        made.done()
    return made


def test_latency_counts_from_when_a_message_was_due() -> None:
    counted = tally(2)
    counted.arrived(0, 0.25)
    counted.arrived(1, 1.75)
    result = counted.result(1, 2.0)
    assert (result.latency_ms["p50"], result.latency_ms["max"]) == (250, 750)
    assert (result.rate, result.messages.received, result.messages.lost) == (1.0, 2, 0)
    assert result.is_good


def test_what_has_not_arrived_is_lost() -> None:
    counted = tally(3)
    counted.arrived(1, 1.0)
    result = counted.result(1, 1.0)
    assert (result.messages.received, result.messages.lost) == (1, 2)
    assert not result.is_good


def test_what_could_not_be_published_is_not_lost_but_the_load_is_not_good() -> None:
    counted = tally(1)
    counted.arrived(0, 0.0)
    counted.publishing(1, due=1.0)
    counted.fails(1)
    result = counted.result(1, 1.0)
    assert (result.messages.published, result.messages.failed, result.messages.lost) == (1, 1, 0)
    assert not result.is_good


def test_a_message_may_arrive_before_its_publish_has_returned_and_twice() -> None:
    counted = Tally()
    counted.publishing(0, due=0.0)
    counted.arrived(0, 0.001)
    counted.done()
    counted.arrived(0, 0.002)
    result = counted.result(1, 1.0)
    assert (result.messages.received, result.messages.repeated, result.messages.lost) == (1, 1, 0)
    assert result.latency_ms["max"] == 1


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"p50": 1, "p90": 1, "p99": 1, "p99.9": 1, "max": 1}),
        (10, {"p50": 5, "p90": 9, "p99": 10, "p99.9": 10, "max": 10}),
        (1000, {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "max": 1000}),
    ],
)
def test_percentiles_are_values_that_were_measured(count: int, expected: dict[str, float]) -> None:
    assert percentiles(array("d", [each / 1000 for each in range(count, 0, -1)])) == expected


def test_without_values_there_are_none() -> None:
    assert percentiles(array("d")) == {}
