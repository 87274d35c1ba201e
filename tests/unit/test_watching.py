"""What operators look at: only what they have asked for, no longer than they look, and no more than is told."""

from __future__ import annotations

from gateway.node.timings import RedisClock
from gateway.node.watching import LONGEST_SECONDS, MOST_EVENTS, MOST_WATCHES, Watching
from publisher.contract.inspection import Watch
from tests.unit.fakes import FakeClock

CHANNEL = "run-results/1"


def watching() -> tuple[Watching, FakeClock]:
    clock = FakeClock()
    return Watching("n1", clock, lambda: 7.0, RedisClock(clock)), clock


def test_a_watch_ends_unless_it_is_renewed() -> None:
    watched, clock = watching()
    assert not watched.active
    watched.begin(Watch("w", "n2", "user", "u", 15))
    clock.now += 14
    watched.begin(Watch("w", "n2", "user", "u", 15))
    clock.now += 14
    watched.expire()
    assert watched.active
    clock.now += 1
    watched.expire()
    assert not watched.active


def test_nobody_watches_for_ever() -> None:
    watched, clock = watching()
    watched.begin(Watch("w", "n2", "user", "u", 1e9))
    clock.now += LONGEST_SECONDS
    watched.expire()
    assert not watched.active


def test_only_what_is_watched_is_noted_and_what_is_too_much_is_counted() -> None:
    watched, _ = watching()
    watched.begin(Watch("one", "n2", "user", "u", 15))
    watched.begin(Watch("other", "n2", "channel", CHANNEL, 15))
    watched.lost(CHANNEL, ["u", *(f"u{number}" for number in range(MOST_EVENTS + 6))])
    watched.lost("run-results/2", ["u"])
    events, left_out = watched.watches["one"].take()
    assert [(each["channel"], each["at"]) for each in events] == [
        (CHANNEL, 7_000_000),
        ("run-results/2", 7_000_000),
    ]
    assert left_out == 0
    events, left_out = watched.watches["other"].take()
    assert (len(events), left_out) == (MOST_EVENTS, 7)
    assert {each["channel"] for each in events} == {CHANNEL}
    assert watched.watches["other"].take() == ([], 0)


def test_who_may_read_some_namespaces_is_told_of_those() -> None:
    watched, _ = watching()
    watched.begin(Watch("w", "n2", "user", "u", 15, ("run-results",)))
    for channel in (CHANNEL, "notifications/u"):
        for _ in range(MOST_EVENTS - 1):
            watched.lost(channel, ["u"])
    events, left_out = watched.watches["w"].take()
    assert ({each["channel"] for each in events}, left_out) == ({CHANNEL}, 0)


def test_a_node_takes_part_in_so_many_watches() -> None:
    watched, _ = watching()
    begun = [
        watched.begin(Watch(str(number), "n2", "user", "u", 15))
        for number in range(MOST_WATCHES + 5)
    ]
    assert begun == [True] * MOST_WATCHES + [False] * 5
    assert watched.begin(Watch("0", "n2", "user", "u", 15))
    assert len(watched.watches) == MOST_WATCHES
    watched.end("0")
    watched.end("never begun")
    watched.begin(Watch("one more", "n2", "user", "u", 15))
    assert "one more" in watched.watches
