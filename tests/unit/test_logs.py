"""What a line of the log holds, and what it does not."""

from __future__ import annotations

import logging

import pytest

from gateway.logs import LineFormatter
from tests.support.tokens import make_token


def line(message: str) -> str:
    record = logging.LogRecord("gateway", logging.INFO, "", 0, message, None, None)
    return LineFormatter().format(record)


@pytest.mark.parametrize("dot", [".", "%2E", "%252e"])
def test_what_looks_like_a_token_is_left_out_however_its_dots_are_written(dot: str) -> None:
    token = make_token("u").replace(".", dot)
    told = line(f"something token={token} more=1")
    assert told.endswith("something token=[token] more=1")


def test_a_line_is_one_line() -> None:
    assert line("a\nb\r\nc").endswith(r"a\nb\r\nc")
