"""What a publish takes, counted instead of timed: calls of functions, memory, round trips."""

from __future__ import annotations

import gc
import secrets
import sys
from itertools import islice
from types import FrameType
from typing import Any

import pytest

from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.intake import BATCH
from publisher.operations import Operations
from publisher.publication import Options, unique_names
from publisher.records import Outgoing, Published
from publisher.retrying import Retries
from publisher.transport.flows import Flow, RoundTrip
from tests.publisher.informed import informed


def operations() -> Operations:
    keys, retries = Keys("p"), Retries(3, random=lambda: 1.0)
    return Operations(
        keys,
        clock=lambda: 0.0,
        wall_clock=lambda: 1_640_995_200_000_000,
        retries=retries,
        options=Options(),
        preflight=informed(keys, lambda: 0.0, retries),
    )


def play(flow: Flow[Any]) -> tuple[Any, int]:
    """Answer every message of a flow as published; returns its result and the number of round trips."""
    trips = 0
    try:
        step = next(flow)
        while True:
            assert isinstance(step, RoundTrip)
            trips += 1
            step = flow.send(list(map(accepted, step.calls)))
    except StopIteration as done:
        return done.value, trips


def accepted(call: Call) -> bytes:
    """What ``publish.lua`` answers; all messages are of one run."""
    count, *_ = call.arguments[1 + int(call.arguments[0]) :]
    return b"\n".join([b"17:0"] * int(count))


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


def test_a_message_takes_few_calls():
    # 38 on Python 3.11; each is about a tenth of a microsecond.
    assert calls_of(2 * BATCH) <= 40 * 2 * BATCH


def test_every_message_has_a_name_of_its_own_and_randomness_is_asked_for_once(
    monkeypatch: pytest.MonkeyPatch,
):
    asked: list[int] = []
    monkeypatch.setattr(secrets, "randbits", lambda bits: asked.append(bits) or 2**bits - 2)
    assert list(islice(unique_names(), 3)) == [
        "7ffffffffffffffe",
        "7fffffffffffffff",
        "8000000000000000",
    ]
    assert asked == [63]


def test_while_messages_wait_each_is_one_object_to_the_garbage_collector():
    messages = [("run-results/s", {"n": n}) for n in range(4 * BATCH)]
    flow = operations().publish_many(messages)
    gc.collect()
    before = len(gc.get_objects())
    next(flow)
    # Of the first batch there is a call with its arguments, too.
    gc.collect()
    assert len(gc.get_objects()) - before <= 1.1 * len(messages) + 2 * BATCH


def test_what_a_message_was_sent_with_is_not_kept():
    messages = [Outgoing("run-results/s", {"n": n}) for n in range(4 * BATCH)]
    one_client = operations()
    play(one_client.publish_many(messages))
    gc.collect()
    before = sys.getallocatedblocks()
    outcomes, _ = play(one_client.publish_many(messages))
    gc.collect()
    # Its outcome is.
    assert sys.getallocatedblocks() - before <= 1.1 * len(outcomes)
