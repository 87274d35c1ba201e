"""Joining log and live messages, against a model of a log that is trimmed and expires."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.reader import Reader, behind, unbroken
from publisher.contract.message import LogPage, Message
from tests.unit.fakes import logged, lost, unlogged


@dataclass
class Log:
    """What Redis does: ids rise, each names the one before it, the oldest go, all may expire."""

    now: int = 0
    retained: list[Message] = field(default_factory=list)
    published: list[Message] = field(default_factory=list)
    trimmed: list[Message] = field(default_factory=list)

    @property
    def newest(self) -> int:
        """The last id, which outlives the log."""
        return self.published[-1].id if self.published else 0

    def publish(self, after: int) -> None:
        self.now += after
        prev = self.newest
        message = logged(self.now, prev, b"%d" % self.now)
        self.retained.append(message)
        self.published.append(message)

    def trim(self, count: int) -> None:
        # A publish trims, and what it appends stays.
        while count and len(self.retained) > 1:
            self.trimmed.append(self.retained.pop(0))
            count -= 1

    def expire(self) -> None:
        self.trimmed += self.retained
        self.retained.clear()

    def after(self, position: int) -> list[Message]:
        return [message for message in self.retained if message.id > position]

    def has_lost(self, position: int) -> bool:
        """Whether a reader at ``position`` has lost something."""
        return any(message.id > position for message in self.trimmed)


ops = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 5)),
        st.tuples(st.just("trim"), st.integers(1, 4)),
        st.tuples(st.just("expire"), st.just(0)),
    ),
    max_size=25,
)


def build(steps: list[tuple[str, int]]) -> Log:
    log = Log()
    for step, value in steps:
        match step:
            case "publish":
                log.publish(value)
            case "trim":
                log.trim(value)
            case _:
                log.expire()
    return log


@settings(max_examples=400)
@given(ops, st.data())
def test_a_loss_is_told_exactly_when_there_was_one(
    steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    log = build(steps)
    position = data.draw(st.sampled_from([0, *(message.id for message in log.published)]))
    assert lost(position, log.newest, log.after(position)) == log.has_lost(position)


def test_a_new_reader_of_a_new_channel_has_lost_nothing() -> None:
    assert not lost(0, 0, [])
    assert not lost(0, 5, [logged(5, 0)])


def test_a_new_reader_is_told_of_what_was_trimmed() -> None:
    assert lost(0, 9, [logged(9, 5)])


def test_who_has_everything_has_lost_nothing() -> None:
    assert not lost(9, 9, [])


def test_a_position_in_an_empty_log_counts_as_a_loss() -> None:
    assert lost(9, 0, [])


def test_a_chain_that_begins_anew_counts_as_a_loss() -> None:
    assert lost(9, 20, [logged(20, 0)])


def test_a_position_that_the_log_does_not_reach_counts_as_a_loss() -> None:
    assert lost(9, 8, [])


def test_a_position_that_the_log_has_passed_by_counts_as_a_loss() -> None:
    assert lost(9, 20, [logged(20, 5)])


@settings(max_examples=300)
@given(ops, st.data())
def test_what_came_live_goes_on_where_the_log_ends_exactly_when_nothing_is_missing(
    steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    published = build(steps).published
    read_at = data.draw(st.integers(0, len(published)))
    position = data.draw(st.sampled_from([0, *(message.id for message in published[:read_at])]))
    page = [message for message in published[:read_at] if message.id > position]
    live = data.draw(st.lists(st.sampled_from(published), unique=True)) if published else []
    newest = max((message.id for message in live), default=0)
    needed = {message.id for message in published[read_at:] if message.id <= newest}
    missing = needed - {message.id for message in live}
    live += data.draw(st.lists(st.builds(unlogged, st.integers(1, 9)), max_size=2))
    end = page[-1].id if page else position
    assert unbroken(end, live) is not bool(missing)


@settings(max_examples=300)
@given(ops, st.data())
def test_page_and_live_messages_make_exactly_what_came_after_the_position(
    steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    log = build(steps)
    ids = [message.id for message in log.published]
    position = data.draw(st.sampled_from([0, *ids]))
    # The page holds all up to the moment it was read; live came all after some earlier moment,
    # in any order and more than once, and perhaps some from before the position.
    read_at = data.draw(st.integers(0, len(ids)))
    heard_from = data.draw(st.integers(0, read_at))
    page = [message for message in log.published[:read_at] if message.id > position]
    heard = log.published[heard_from:]
    live = data.draw(st.permutations(heard))
    if heard:
        live += data.draw(st.lists(st.sampled_from(heard), max_size=5))
    expected = [message for message in log.published if message.id > position]
    assert page + behind(page[-1].id if page else position, live) == expected


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=12), st.integers(0, 9))
def test_messages_without_a_log_come_last_all_of_them_in_their_order(
    drawn: list[tuple[int, bool]], position: int
) -> None:
    messages = [
        logged(id_) if has_log else unlogged(id_, b"%d" % number)
        for number, (id_, has_log) in enumerate(drawn)
    ]
    result = behind(position, messages)
    assert [m for m in result if not m.logged] == [m for m in messages if not m.logged]
    ids = [m.id for m in result if m.logged]
    assert ids == sorted({m.id for m in messages if m.logged and m.id > position})
    assert [m.logged for m in result] == sorted((m.logged for m in result), reverse=True)


def test_nothing_came_behind_a_page() -> None:
    assert behind(0, []) == []


def test_what_was_taken_out_since_it_came_live_is_not_taken() -> None:
    first, gone, kept, also_gone = logged(1, 0), logged(2, 1), logged(3, 2), logged(4, 3)
    page = LogPage(0, 4, [first, Message(2, 1, b"", b"n"), kept, Message(4, 3, b"", b"n")])
    reader = Reader()
    taken = reader.take(page, [gone, kept, also_gone])
    assert taken.messages == page.messages
    assert reader.position == 4


def test_what_one_tombstone_stands_for_is_not_taken_either() -> None:
    page = LogPage(0, 3, [logged(1, 0), Message(3, 1, b"", b"2|n,3=m")])
    taken = Reader().take(page, [logged(2, 1), logged(3, 2), logged(4, 3)])
    assert taken.messages == [*page.messages, logged(4, 3)]
