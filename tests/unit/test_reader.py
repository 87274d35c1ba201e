"""What a reader makes of messages and pages, and what is buffered for it meanwhile."""

from __future__ import annotations

import pytest

from gateway.core import reader as module
from gateway.core.reader import Buffer, Reader, Verdict
from publisher.contract.message import LogPage, Message
from tests.unit.fakes import logged, unlogged


@pytest.fixture
def buffer() -> Buffer:
    return Buffer()


def reader_at(position: int) -> Reader:
    reader = Reader()
    reader.position = position
    return reader


def unknown(id: int, prev: int) -> Message:
    return Message(id, prev, b"1", extension=b"z")


# -- the buffer -----------------------------------------------------------------------------------


def test_while_the_log_is_read_everything_is_kept(buffer: Buffer) -> None:
    messages = [logged(1), unlogged(2), logged(3)]
    mark = buffer.end
    for message in messages:
        buffer.put(message)
    assert buffer.since(mark) == messages


def test_each_reader_gets_what_came_since_it_began(buffer: Buffer) -> None:
    buffer.put(logged(1))
    mark = buffer.end
    assert buffer.since(mark) == []
    buffer.put(logged(2, 1))
    assert buffer.since(mark) == [logged(2, 1)]


def test_what_is_too_much_to_keep_is_missing_only_for_those_who_began_before_it(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BUFFERED", 2)
    early = buffer.end
    buffer.put(logged(1))
    late = buffer.end
    for id_ in (2, 3):
        buffer.put(logged(id_, id_ - 1))
    assert buffer.since(early) is None
    assert buffer.since(late) == [logged(2, 1), logged(3, 2)]


@pytest.mark.parametrize(("name", "limit"), [("MAX_BUFFERED", 0), ("MAX_BUFFERED_BYTES", 9)])
def test_what_cannot_be_kept_at_all_is_missing(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch, name: str, limit: int
) -> None:
    monkeypatch.setattr(module, name, limit)
    mark = buffer.end
    buffer.put(logged(1, 0, b"x" * 10))
    assert buffer.since(mark) is None
    assert buffer.since(buffer.end) == []


def test_after_an_outage_all_who_read_have_to_read_again(buffer: Buffer) -> None:
    mark = buffer.end
    buffer.put(logged(1))
    buffer.forget()
    assert buffer.since(mark) is None
    mark = buffer.end
    buffer.put(logged(3, 2))
    assert buffer.since(mark) == [logged(3, 2)]


# -- verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        (logged(7, 5), Verdict.NEXT),
        (logged(5, 4), Verdict.REPEAT),
        (logged(3, 0), Verdict.REPEAT),
        (logged(9, 7), Verdict.GAP),
        (logged(9, 0), Verdict.GAP),  # the chain has begun anew
    ],
)
def test_what_comes_live_is_the_next_a_repeat_or_behind_a_gap(
    message: Message, verdict: Verdict
) -> None:
    assert reader_at(5).judge(message) is verdict


def test_what_was_heard_after_the_page_was_asked_for_is_not_lost() -> None:
    reader = reader_at(9)  # it was at 5
    assert reader.judge_page(LogPage(5, 5, []), 5) is Verdict.NEXT
    assert reader.judge_page(LogPage(5, 7, [logged(7, 5)]), 5) is Verdict.NEXT


def test_a_hole_in_the_middle_of_the_log_is_a_loss_and_told_once() -> None:
    """A Redis that has lost writes leaves one, where new ids were raised above them."""
    page = LogPage(1, 9, [logged(2, 1), logged(9, 6)])
    reader = reader_at(1)
    assert reader.judge_page(page, 1) is Verdict.LOST
    reader.begin_anew(page)
    assert reader.judge_page(page, 1) is Verdict.NEXT
    assert [message.id for message in reader.take(page, []).messages] == [2, 9]


def test_a_reader_stops_in_front_of_what_it_cannot_read() -> None:
    reader = reader_at(1)
    page = LogPage(1, 4, [logged(2, 1), unknown(3, 2), logged(4, 3)])
    assert reader.judge_page(page, 1) is Verdict.NEXT
    taken = reader.take(page, [])
    assert taken.messages == [logged(2, 1)]
    assert taken.unknown == unknown(3, 2)
    assert reader.position == 2


def test_what_came_live_behind_something_that_cannot_be_read_is_not_taken() -> None:
    reader = reader_at(1)
    taken = reader.take(LogPage(1, 1, []), [unknown(2, 1), logged(3, 2)])
    assert (taken.messages, taken.unknown, reader.position) == ([], unknown(2, 1), 1)


def test_what_was_taken_out_on_purpose_is_no_loss() -> None:
    reader = reader_at(1)
    page = LogPage(1, 3, [Message(2, 1, b""), logged(3, 2)])
    assert reader.judge_page(page, 1) is Verdict.NEXT
    reader.take(page, [])
    assert reader.position == 3
