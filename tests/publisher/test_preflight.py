"""Calls that wait for the namespaces at the same time, while the primary that keeps them is down."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

from publisher.contract.keys import Keys
from publisher.errors import PublisherError, Unavailable
from publisher.preflight import Preflight
from publisher.retrying import Retries
from publisher.transport.flows import Flow, Pause

TICK = 0.01
ANNOUNCED = [b"orders", b'{"owner":"grant"}']
ANSWER: list[Any] = [ANNOUNCED, [b"1640995200", b"0"]]


@dataclass(eq=False)
class Waiting:
    """A call, when it goes on, and how it has ended."""

    flow: Flow[None]
    due: float = 0.0
    ended_at: float | None = None
    error: PublisherError | None = None


@dataclass
class World:
    """Redis answers from a moment on. ``asked`` is when it was asked."""

    down_until: float
    give_up_after: float | None = 15.0
    now: float = 0.0
    asked: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        retries = Retries(
            3, Random(7).random, give_up_after=self.give_up_after, clock=lambda: self.now
        )
        self.preflight = Preflight(Keys("p", sharded=True), lambda: self.now, retries)

    def run(self, count: int, named: str = "orders") -> list[Waiting]:
        """So many calls that begin together."""
        calls = [Waiting(self.preflight.refresh({named})) for _ in range(count)]
        while left := [each for each in calls if each.ended_at is None]:
            for each in left:
                if each.due <= self.now:
                    self._go_on(each)
            self.now += TICK
            assert self.now < 100
        return calls

    def _go_on(self, call: Waiting) -> None:
        """Until it pauses; an answer takes no time."""
        answer: Any = None
        try:
            while True:
                refused = isinstance(answer, Unavailable)
                step = call.flow.throw(answer) if refused else call.flow.send(answer)
                if isinstance(step, Pause):
                    # It goes on with the pause's answer, which is like none.
                    call.due = self.now + step.seconds
                    return
                self.asked.append(self.now)
                answer = ANSWER
                if self.now < self.down_until:
                    answer = Unavailable("refused", maybe_sent=False, server="a:1")
        except StopIteration:
            call.ended_at = self.now
        except PublisherError as error:
            call.error, call.ended_at = error, self.now


def test_of_many_that_wait_few_ask_and_all_go_on_when_it_answers():
    world = World(down_until=5.0)
    calls = world.run(100)
    assert not [each for each in calls if each.error]
    # Each asks at first; from then on at most ten times a second whoever is the first to wake.
    assert len(world.asked) <= 100 + 10 * 5.0
    assert max(each.ended_at or 0.0 for each in calls) < 5.0 + 0.5 + 0.1 + 2 * TICK
    assert "orders" in world.preflight.namespaces


def test_each_waits_its_own_time_and_has_an_error_of_its_own():
    world = World(down_until=50.0)
    calls = world.run(20)
    assert all(15.0 <= (each.ended_at or 0.0) < 15.6 for each in calls)
    assert len({id(each.error) for each in calls}) == 20
    assert {str(each.error) for each in calls} == {str(calls[0].error)}
    assert "(p:namespaces)" in str(calls[0].error)


def test_one_that_waits_alone_asks_after_each_pause():
    world = World(down_until=2.0)
    world.run(1)
    pauses = [later - earlier for earlier, later in pairwise(world.asked)]
    assert len(pauses) >= 5
    assert all(each <= 0.5 + 2 * TICK for each in pauses)
    assert pauses[0] <= 0.05 + 2 * TICK


def test_on_one_server_each_call_asks_as_often_as_it_may():
    world = World(down_until=50.0, give_up_after=None)
    calls = world.run(10)
    assert all(each.error for each in calls)
    assert len(world.asked) == 10 * 4


def test_one_whose_namespace_another_was_not_told_of_asks_itself():
    world = World(down_until=1.0)
    world.run(5, named="unheard")
    # It may have been announced since the other asked.
    assert len([each for each in world.asked if each >= 1.0]) == 5
