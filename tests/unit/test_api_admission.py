"""What requests of the HTTP API take, and what is left."""

from __future__ import annotations

import random

import pytest

from gateway.api import admission
from gateway.api.admission import Admission, Admitted
from gateway.api.problems import Problem


def admitted(room: Admission, key: str) -> int:
    """How many requests of this key are let in."""
    count = 0
    try:
        while True:
            room.admit(key)
            count += 1
    except Problem as problem:
        assert (problem.status, problem.members["code"]) == (503, "busy")
    return count


def test_a_key_may_have_as_much_as_it_leaves_free() -> None:
    room = Admission()
    assert [admitted(room, key) for key in "abcde"] == [500, 250, 125, 62, 31]
    assert admitted(room, "a") == 0


def test_one_request_holds_no_more_than_it_leaves_free() -> None:
    room, most = Admission(), admission.MOST_BYTES
    one, other = room.admit("a"), room.admit("b")
    one.hold(most // 2)
    for refused in (one, room.admit("a")):
        refused.hold(0)
        with pytest.raises(Problem, match="too many bytes"):
            refused.hold(1)
    other.hold(most // 4)
    one.change(-most // 4)
    other.hold(most // 8)
    # What is done must be told.
    one.answer(most, refusable=False)
    with pytest.raises(Problem):
        other.answer(most, refusable=True)
    one.end()
    other.answer(1, refusable=True)


def test_who_waits_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MOST_REQUESTS", 2)
    monkeypatch.setattr(admission, "MOST_WAITING", 4)
    room = Admission()
    for _ in range(2):
        room.admit("a").wait()
    one = room.admit("a")
    with pytest.raises(Problem, match="wait for somebody"):
        one.wait()
    with pytest.raises(Problem, match="under way"):
        room.admit("a")
    one.end()
    assert room.busy("a")
    room.admit("a")


def test_whatever_requests_do_nothing_is_left_of_them() -> None:
    dice, room = random.Random(7), Admission()
    alive: list[Admitted] = []
    for _ in range(5_000):
        try:
            if not alive or dice.random() < 0.2:
                alive.append(room.admit(dice.choice("abc")))
            one = dice.choice(alive)
            if dice.random() < 0.5:
                one.hold(dice.choice([0, dice.randrange(10**6)]))
            if dice.random() < 0.2:
                one.wait()
            if dice.random() < 0.15:
                one.answer(dice.randrange(10**6), refusable=dice.random() < 0.5)
            if dice.random() < 0.2:
                alive.remove(one)
                one.end()
        except Problem:
            pass
    assert alive
    for one in alive:
        one.end()
    assert not (room.requests.taken or room.waiting.taken or room.bytes.taken)
    assert not any(room.busy(key) for key in "abc")
    assert admitted(room, "a") == 500
    room.admit("b").hold(admission.MOST_BYTES // 2)
