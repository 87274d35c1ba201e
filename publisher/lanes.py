"""Messages on their way to the primaries of a cluster, side by side: one that is down holds up its own, and the others little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from publisher.intake import Intake
from publisher.publication import Publication
from publisher.retrying import Failures, Retries
from publisher.transport.cluster import slot_of
from publisher.transport.flows import Flow, Owners, Pause, side_by_side
from publisher.transport.redis_py import Host

Attempt: TypeAlias = Callable[[Host | None, list[Publication]], Flow[Unavailable | None]]
"""Tries to publish what is of one primary; returns why there was no answer, or ``None``."""

ByPrimary: TypeAlias = dict[Host | None, list[Publication]]


class Lanes:
    """One call's way through a cluster.

    What has failed is held and tried again after a pause; meanwhile others go on, as long as no round trip is full
    of what is held. Behind a message that is held none of its channel goes.

    A round trip ends with its slowest lane. So a primary that has failed is left out of the next ones for as long as its
    try took, while others have something to send: one that hangs has at most half of their time.
    """

    def __init__(
        self,
        keys: Keys,
        clock: Callable[[], float],
        retries: Retries,
        attempt: Attempt,
        follow: Callable[[Sequence[Publication]], Flow[None]],
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._failures = Failures(retries)
        self._attempt = attempt
        self._follow = follow
        self._due = float("-inf")
        # Until then these rest: primaries that did not answer, and slots whose calls were refused.
        self._resting: set[Host | int | None] = set()
        # Until when each primary that has failed is left out.
        self._left_out: dict[Host | None, float] = {}
        self._given_up: dict[Host | None, Unavailable] = {}

    def send(self, intake: Intake) -> Flow[None]:
        """Publish all that ``intake`` brings."""
        held: list[Publication] = []
        # Those that have no rules yet: where they could not be learnt, they are asked for again.
        new: list[Publication] = []
        while batch := intake.fill(held):
            new += batch[len(held) :]
            try:
                yield from self._follow(new)
                new = []
                owners = yield Owners(tuple(map(self._key, batch)))
            except Unavailable as error:
                pause = self._note(error) if error.retryable else None
                if pause is None:
                    intake.give_up(batch, error)
                    return
                held = batch
                yield pause
                continue
            owner_of = dict(zip(batch, owners, strict=True))
            batch = self._without_given_up(batch, owner_of, intake)
            lanes = self._lanes(batch, owner_of)
            if any(lanes.values()):
                held = yield from self._try(lanes, batch, owner_of, intake)
            else:
                held = intake.sort_out(batch)
                if held:
                    yield Pause(max(0.0, self._due - self._clock()))

    def _key(self, message: Publication) -> str:
        return self._keys.of_channel(message.channel)[0]

    def _without_given_up(
        self, batch: list[Publication], owner_of: dict[Publication, Host | None], intake: Intake
    ) -> list[Publication]:
        if not self._given_up:
            return batch
        left = []
        for each in batch:
            failure = self._given_up.get(owner_of[each])
            if failure is not None and each.unfinished:
                intake.drop([each], failure)
            else:
                left.append(each)
        return left

    def _lanes(
        self, batch: list[Publication], owner_of: dict[Publication, Host | None]
    ) -> ByPrimary:
        """What is sent now, by primary."""
        if self._clock() >= self._due:
            self._resting.clear()
        lanes: ByPrimary = {}
        for each in batch:
            owner = owner_of[each]
            resting = self._resting
            if each.unfinished and not (
                resting and (owner in resting or slot_of(self._key(each)) in resting)
            ):
                lanes.setdefault(owner, []).append(each)
        now = self._clock()
        others = [host for host in lanes if self._left_out.get(host, now) <= now]
        return {host: lanes[host] for host in others or lanes}

    def _try(
        self,
        lanes: ByPrimary,
        batch: list[Publication],
        owner_of: dict[Publication, Host | None],
        intake: Intake,
    ) -> Flow[list[Publication]]:
        """Send all lanes; returns what is held."""
        began = self._clock()
        failed = yield from side_by_side([self._attempt(*each) for each in lanes.items()])
        down = {owner: each for owner, each in zip(lanes, failed, strict=True) if each is not None}
        now = self._clock()
        self._left_out.update(dict.fromkeys(down, now + (now - began)))
        tried = {each for lane in lanes.values() for each in lane}
        held = intake.sort_out(batch)
        troubled = [each for each in held if each.refusal is not None]
        if not troubled:
            self._failures.reset()
            return held
        again = [each for each in troubled if each in tried]
        if not again:
            return held
        for each in again:
            owner = owner_of[each]
            self._resting.add(owner if owner in down else slot_of(self._key(each)))
        failure = again[0].refusal
        assert failure is not None
        if self._note(failure) is None:
            self._given_up.update(down)
            intake.drop(troubled, failure)
            self._failures.reset()
            gone = set(troubled)
            return [each for each in held if each not in gone]
        return held

    def _note(self, failure: Unavailable) -> Pause | None:
        pause = self._failures.add(failure)
        if pause is not None:
            self._due = self._clock() + pause.seconds
        return pause
