"""The rates in a node's reports are those since the report before."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.node.reporting import About, Condition, Reporter
from gateway.node.stats import Stats
from publisher.contract.node_report import decode, encode
from tests.unit.fakes import Node


def reporter(stats: Stats, clock: list[float]) -> Reporter:
    condition = Condition(lambda: True, lambda: False, lambda: {"a:1": True, "b:2": False})
    return Reporter(About("1.0", 1_000, 7), condition, Node().hub, stats, lambda: clock[0])


def test_the_rates_are_those_since_the_report_before() -> None:
    stats, clock = Stats(), [100.0]
    made = reporter(stats, clock)
    stats.messages_received, stats.messages_delivered, stats.connections_opened = 20, 40, 10
    clock[0] += 2
    first = made.report()
    rates = first.received_per_second, first.delivered_per_second, first.opened_per_second
    assert rates == (10, 20, 5)
    clock[0] += 2
    assert made.report().received_per_second == 0


def test_a_report_at_the_same_moment_divides_by_nothing() -> None:
    assert reporter(Stats(), [5.0]).report().received_per_second == 0


def test_what_is_written_is_read_and_fields_of_a_later_version_are_skipped() -> None:
    report = reporter(Stats(), [1.0]).report()
    assert report.redis_down == ("b:2",)
    assert decode(encode(report)) == report
    assert decode(encode(report)[:-1] + b',"later":1}') == report


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"connections": "9"},
        {"event_loop_lag": None},
        {"redis_down": 7},
        {"ready": 1},
    ],
)
def test_a_report_of_another_form_is_not_read(change: dict[str, Any]) -> None:
    written = json.loads(encode(reporter(Stats(), [1.0]).report()))
    assert decode(json.dumps(written | change).encode()) is None
    assert decode(b"[]") is decode(b"{}") is decode(b"7") is decode(b"no") is None
