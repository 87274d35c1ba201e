"""What a publish takes, counted instead of timed: calls of functions, memory, round trips."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from publisher.batches import BATCH
from publisher.flow import Flow, Retries, RoundTrip
from publisher.keys import Keys
from publisher.operations import Operations
from publisher.records import Outgoing, Published


def operations() -> Operations:
    return Operations(
        Keys("p"),
        clock=lambda: 0.0,
        wall_clock=lambda: 1_640_995_200_000_000,
        retries=Retries(3, random=lambda: 1.0),
        _learnt_at=0.0,
    )


def play(flow: Flow[Any]) -> tuple[Any, int]:
    """Answer every message of a flow as published; returns its result and the number of round trips."""
    trips = 0
    try:
        step = next(flow)
        while True:
            assert isinstance(step, RoundTrip)
            trips += 1
            step = flow.send([[b"17", 0]] * len(step.calls))
    except StopIteration as done:
        return done.value, trips


def calls_of(count: int) -> int:
    """How many functions, written in Python or in C, are called for ``publish_many`` of so many messages."""
    messages = [Outgoing(f"run-results/{n % 100}", {"n": n}) for n in range(count)]
    flow = operations().publish_many(messages)
    calls = 0

    def counted(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(counted)
    try:
        outcomes, trips = play(flow)
    finally:
        sys.setprofile(None)
    assert all(isinstance(outcome, Published) for outcome in outcomes)
    assert trips == count / BATCH
    return calls


def test_a_message_costs_the_same_however_many_there_are():
    few, many = calls_of(BATCH), calls_of(10 * BATCH)
    assert many <= 10.1 * few
