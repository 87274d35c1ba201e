"""What is kept as JSON takes no more memory than it is long."""

from __future__ import annotations

import tracemalloc

import orjson
import pytest

from publisher.contract.json_text import written

_OF_AN_OBJECT = 200


@pytest.mark.parametrize("length", [10, 5_000, 100_000])
def test_a_text_takes_as_much_memory_as_it_is_long(length: int) -> None:
    told = {"text": "m" * length}
    tracemalloc.start()
    try:
        text = written(told)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert orjson.loads(text) == told
    assert taken <= len(text) + _OF_AN_OBJECT
