"""A primary of a cluster that is down, and the messages of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from publisher.intake import BATCH, Intake
from publisher.lanes import Lanes
from publisher.publication import Options, Publication, unique_names
from publisher.records import Published
from publisher.retrying import Retries
from publisher.transport.flows import Flow, Owners, Pause
from publisher.transport.redis_py import Host

DOWN, UP = ("down", 1), ("up", 2)
STEPS = 1_000
"""More than any of these tests takes: without rests the time stands still, and there would be no end."""


class World:
    """Two primaries, one of which answers from a moment on. ``log`` is what each was sent, and the pauses.

    ``seconds`` is what a try takes at each. The rules of namespaces cannot be learnt so many times as ``unknown``.
    """

    def __init__(
        self,
        give_up_after: float,
        down_until: float,
        seconds: dict[Host, float] | None = None,
        unknown: int = 0,
    ) -> None:
        self.now = 0.0
        self._down_until = down_until
        self._seconds = seconds or {DOWN: 0.0, UP: 0.0}
        self.log: list[tuple[str, int]] = []
        self.sent: list[Any] = []
        retries = Retries(3, lambda: 1.0, give_up_after=give_up_after, clock=lambda: self.now)
        self._lanes = Lanes(
            Keys(sharded=True), lambda: self.now, retries, self._attempt, self._follow
        )
        self._unknown = unknown
        self.followed: list[str] = []

    def _follow(self, new: Sequence[Publication]) -> Flow[None]:
        yield from ()
        if self._unknown:
            self._unknown -= 1
            raise Unavailable("refused", maybe_sent=False)
        self.followed += [each.channel for each in new]

    def _attempt(self, host: Host | None, batch: list[Publication]) -> Flow[Unavailable | None]:
        yield from ()
        assert host is not None
        self.log.append((host[0], len(batch)))
        self.now += self._seconds[host]
        if host == DOWN and self.now < self._down_until:
            error = Unavailable("refused", maybe_sent=False)
            for each in batch:
                each.failed(error)
            return error
        for each in batch:
            self.sent.append((each.channel, each.body))
            each.published(1)
        return None

    def publish(self, messages: Iterator[tuple[str, Any]] | list[tuple[str, Any]]) -> list[Any]:
        intake = Intake(
            Publication(each, name, Options())
            for each, name in zip(messages, unique_names(), strict=False)
        )
        flow = self._lanes.send(intake)
        answer: Any = None
        try:
            for _ in range(STEPS):
                step = flow.send(answer)
                if isinstance(step, Pause):
                    self.now += step.seconds
                    self.log.append(("pause", 0))
                else:
                    assert isinstance(step, Owners)
                    answer = [DOWN if "/down" in key else UP for key in step.keys]
        except StopIteration:
            return intake.outcomes
        raise AssertionError("it tries again and again without a rest")


def messages(count: int) -> list[tuple[str, Any]]:
    return [(f"run-results/{('down', 'up')[n % 2]}-{n % 10}", n) for n in range(count)]


def test_while_one_is_down_the_others_messages_go_out_and_it_rests():
    world = World(give_up_after=10.0, down_until=0.01)
    outcomes = world.publish(messages(BATCH))
    assert all(isinstance(each, Published) for each in outcomes)
    assert world.log == [("down", 250), ("up", 250), ("pause", 0), ("down", 250)]


def test_what_follows_one_that_is_held_waits_behind_it():
    world = World(give_up_after=10.0, down_until=0.3)
    world.publish(messages(4 * BATCH))
    for channel in {channel for channel, _ in world.sent}:
        numbers = [int(body) for name, body in world.sent if name == channel]
        assert numbers == sorted(numbers)
    # It is tried as often as there are pauses.
    tries = [each for each in world.log if each[0] == "down"]
    assert len(tries) <= len([each for each in world.log if each[0] == "pause"]) + 4
    assert sum(count for name, count in world.log if name == "up") == 2 * BATCH


def test_after_its_time_one_is_given_up_and_the_others_go_on():
    world = World(give_up_after=1.0, down_until=1_000.0)
    outcomes = world.publish(messages(8 * BATCH))
    assert [isinstance(each, Published) for each in outcomes] == 4 * BATCH * [False, True]
    assert 1.0 <= world.now < 2.0


def rare(count: int) -> list[tuple[str, Any]]:
    """One in a hundred is for the primary that hangs."""
    return [(f"run-results/{'up' if n % 100 else 'down'}-{n % 7}", n) for n in range(count)]


def test_while_one_hangs_the_others_have_at_least_half_of_the_time():
    world = World(give_up_after=15.0, down_until=14.0, seconds={DOWN: 5.0, UP: 0.5})
    outcomes = world.publish(rare(30 * BATCH))
    assert all(isinstance(each, Published) for each in outcomes)
    names = [name for name, _ in world.log]
    second = names.index("down", 1)
    # That of the first round trip is one of them, and was waited for as well.
    assert names[1:second] == 12 * ["up"]


def test_when_the_others_have_nothing_to_send_it_is_tried_after_an_ordinary_pause():
    world = World(give_up_after=15.0, down_until=5.1, seconds={DOWN: 5.0, UP: 0.01})
    world.publish(rare(2 * BATCH))
    *_, pause, last = world.log
    assert (pause, last) == (("pause", 0), ("down", 10))
    assert world.now < 10.2


def test_what_has_no_rules_yet_is_given_them_before_it_is_sent_and_once():
    world = World(give_up_after=10.0, down_until=0.0, unknown=2)
    outcomes = world.publish([("up/1", 1), ("up/2", 2)])
    assert [type(each) for each in outcomes] == [Published, Published]
    assert world.followed == ["up/1", "up/2"]
