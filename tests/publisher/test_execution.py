"""Keeping within bounds what a command writes."""

from __future__ import annotations

import asyncio
import signal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.run_command import Child, Execution, Output, json_size

BUDGET = 400


def output(data: bytes, limit: int = 1_000) -> Output:
    output = Output.empty(limit)
    for start in range(0, len(data), 7):
        output.add(data[start : start + 7])
    return output


def test_short_output_is_kept_as_it_is():
    assert output(b"h\xc3\xa9llo\n").text(BUDGET) == "héllo\n"


def test_what_is_not_utf_8_is_replaced():
    assert output(b"a\xffb").text(BUDGET) == "a�b"


def test_long_output_keeps_its_beginning_and_ends_with_a_mark():
    text = output(b"x" * 5_000).text(BUDGET)
    assert text.startswith("xxx")
    assert text.endswith("\n[output truncated: it was 5000 bytes long]\n")
    assert json_size(text) == BUDGET


@given(st.binary(max_size=2_000))
def test_the_json_never_exceeds_the_budget(data: bytes):
    text = output(data).text(BUDGET)
    assert json_size(text) <= BUDGET
    assert orjson.loads(orjson.dumps(text)) == text


@pytest.mark.parametrize(
    ("stdout", "stderr"),
    [(5_000, 5_000), (5_000, 10), (10, 5_000), (10, 10), (0, 5_000), (5_000, 0)],
)
def test_the_two_streams_share_the_budget_and_neither_starves(stdout: int, stderr: int):
    execution = Execution(output(b"o" * stdout), output(b"e" * stderr), 0, 0)
    texts = execution.texts(BUDGET)
    assert sum(map(json_size, texts)) <= BUDGET
    for text, size in zip(texts, (stdout, stderr), strict=True):
        assert ("truncated" in text) == (size == 5_000)
        assert json_size(text) >= min(size, BUDGET // 2)
    if stdout + stderr > 1_000:
        assert sum(map(json_size, texts)) >= BUDGET - 1


def test_output_over_the_limit_is_counted_and_not_kept():
    long = output(b"x" * 5_000, limit=100)
    assert (len(long.head), long.size) == (100, 5_000)


async def test_a_signal_that_comes_before_the_command_has_started_still_reaches_it():
    child = Child({})
    child.relay(signal.SIGTERM)
    await asyncio.get_running_loop().subprocess_exec(lambda: child, "sleep", "30")
    assert await child.status() == -signal.SIGTERM
