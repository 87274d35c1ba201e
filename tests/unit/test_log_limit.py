"""How often a line is logged that anybody can cause."""

from __future__ import annotations

from gateway.core.log_limit import LogLimit


def test_a_few_lines_pass_at_once_and_then_one_now_and_then() -> None:
    limit = LogLimit(0)
    assert [limit.admit("a", 0) for _ in range(12)] == [0] * 10 + [None, None]
    assert limit.admit("a", 10) == 2
    assert limit.admit("a", 10) is None


def test_a_line_says_how_many_were_left_out_before_it() -> None:
    limit = LogLimit(0)
    lines = [limit.admit("a", second / 10) for second in range(36_000)]
    told = [left_out for left_out in lines if left_out is not None]
    assert len(told) <= 10 + 3_600 / 10 + 1
    assert len(told) + sum(told) + lines[::-1].index(told[-1]) == len(lines)


def test_kinds_do_not_silence_each_other() -> None:
    limit = LogLimit(0)
    while limit.admit("a", 0) is not None:
        pass
    assert limit.admit("b", 0) == 0


def test_however_many_kinds_there_are_few_are_remembered() -> None:
    limit = LogLimit(0, burst=1)
    told = [limit.admit(str(number), 0) for number in range(10_000)]
    assert told[:100] == [0] * 100
    assert len(limit._buckets) == 101
    assert sum(each is not None for each in told) == 101
