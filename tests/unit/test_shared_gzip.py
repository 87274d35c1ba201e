"""Answers to polls in gzip: each is whole, and what they have in common is compressed once."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.http import Head
from gateway.web.shared_gzip import SharedGzip
from gateway.web.stream_answers import Answers, Cors


@given(st.lists(st.binary(max_size=200)))
def test_each_answer_is_whole_whatever_came_before_it(bodies: list[bytes]) -> None:
    shared = SharedGzip()
    for body in [*bodies, *bodies]:
        assert gzip.decompress(shared.compress(body)) == body


@pytest.mark.parametrize("body", [b"x" * 200_000, b"[{" + b"x" * 200_000, b"x" * 200_000 + b"{}"])
def test_an_answer_of_any_form_is_whole(body: bytes) -> None:
    compressed = SharedGzip().compress(body)
    assert gzip.decompress(compressed) == body
    assert len(compressed) < 2_000


def test_a_message_for_many_is_compressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def compressor(*arguments: Any) -> Any:
        made.append(arguments)
        return begin(*arguments)

    begin = zlib.compressobj
    monkeypatch.setattr(zlib, "compressobj", compressor)
    answers = Answers(Cors(credentials=False), 1_000)
    head = Head("GET", "/poll", "", "1.1", {"accept-encoding": ["gzip"]})
    messages = [b'{"data":"%b"}' % (letter * 5_000) for letter in (b"a", b"b")]
    for number in range(300):
        body = b'[%b,{"since":"%d"}]' % (messages[number % 2], number)
        answer = answers.to(head)(200, body)
        assert gzip.decompress(answer.partition(b"\r\n\r\n")[2]) == body
    assert len(made) == len(messages)
