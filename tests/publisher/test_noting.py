"""What a publisher notes behind a publish in a cluster: what could not be noted, and what need not be."""

from __future__ import annotations

import logging

import pytest

from publisher.contract.calls import Reply
from publisher.contract.channels import Namespace, Owner
from publisher.contract.keys import Keys
from publisher.errors import NotReplicated, PublisherError, Rejected, Unavailable
from publisher.noting import Noting
from publisher.publication import Options, Publication
from publisher.records import Published
from publisher.retrying import Retries
from publisher.transport.flows import RoundTrip, Step, driven

INBOX = Namespace("inbox", Owner.USER, unconfirmed=True)
KEYS = Keys(sharded=True)


class World:
    """A server that has the events, and the time. What it was sent stands in ``noted``; ``trouble`` is what it answers instead."""

    def __init__(self) -> None:
        self.now = 0.0
        self.noted: list[dict[str, int]] = []
        self.trouble: Unavailable | None = None
        self._noting = Noting(KEYS, Retries(0, lambda: 0.5, clock=self._clock), self._clock)

    def _clock(self) -> float:
        return self.now

    def note(self, *channels: str, at: int, duplicate: bool = False) -> None:
        self.note_all([published(each, at, duplicate=duplicate) for each in channels])

    def note_all(self, tried: list[Publication]) -> None:
        driven(self._noting.note(tried), self._take)

    def _take(self, step: Step) -> list[Reply]:
        assert isinstance(step, RoundTrip)
        (call,) = step.calls
        command, key, how, *pairs = call.arguments
        assert (command, key, how) == ("ZADD", KEYS.awaited, "NX")
        names = map(str, pairs[1::2])
        self.noted.append(dict(zip(names, map(int, pairs[::2]), strict=True)))
        if self.trouble is not None:
            raise self.trouble
        return [1]


def published(channel: str, at: int, *, duplicate: bool) -> Publication:
    made = Publication((channel, 1), "0", Options())
    made.follow(INBOX if channel.startswith("inbox") else Namespace("other"))
    outcome: Published | PublisherError = Published(at, channel, duplicate)
    made.outcome = outcome
    return made


def test_the_first_message_of_each_channel_is_noted_in_one_step() -> None:
    world = World()
    world.note("inbox/a", "inbox/b", "inbox/a", "other/c", at=7)
    assert world.noted == [{"inbox/a": 7, "inbox/b": 7}]


def test_what_too_few_replicas_have_is_noted_as_well() -> None:
    world = World()
    short = published("inbox/a", 7, duplicate=False)
    short.min_replicas = 1
    short.confirmed(0, 0.1)
    assert isinstance(short.outcome, NotReplicated)
    world.note_all([short])
    assert world.noted == [{"inbox/a": 7}]


def test_nothing_is_asked_about_what_is_not_awaited_or_was_there_before() -> None:
    world = World()
    world.note("other/c", at=7)
    world.note("inbox/a", at=7, duplicate=True)
    assert world.noted == []


def test_what_could_not_be_noted_is_noted_with_the_next() -> None:
    world = World()
    world.trouble = Unavailable("away", maybe_sent=True)
    world.note("inbox/a", "inbox/b", at=7)
    world.trouble = None
    world.note("inbox/a", at=8)
    assert len(world.noted) == 1  # it rests meanwhile
    world.now = 1.5
    world.note("inbox/c", at=9)
    assert world.noted[1:] == [{"inbox/a": 7, "inbox/b": 7, "inbox/c": 9}]
    world.note("inbox/d", at=10)
    assert world.noted[2:] == [{"inbox/d": 10}]


def test_what_redis_would_always_refuse_is_not_noted_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.trouble = Rejected("no rights", maybe_sent=False)
    with caplog.at_level(logging.WARNING, "publisher"):
        world.note("inbox/a", at=7)
    assert "unconfirmed_not_noted channels=1 reason='no rights'" in caplog.text
    world.trouble, world.now = None, 2.0
    world.note("inbox/b", at=8)
    assert world.noted[1:] == [{"inbox/b": 8}]
