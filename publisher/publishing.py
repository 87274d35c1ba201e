"""From the arguments of a publish to its outcome, one message or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from redis.exceptions import ResponseError

from publisher import groups
from publisher.contract import rights, scripts
from publisher.contract.calls import Argument, Call, Wait
from publisher.errors import InvalidInput, PublisherError, Unavailable
from publisher.intake import Intake
from publisher.lanes import Lanes
from publisher.noting import Noting
from publisher.publication import Moment, Publication, unique_names
from publisher.records import Outgoing, Published
from publisher.retrying import Failures
from publisher.shared import Flows, Shared
from publisher.tracing import Trace, spanning
from publisher.transport.failures import meaning
from publisher.transport.flows import Flow, round_trips
from publisher.transport.redis_py import Host

ENTRIES_SEARCHED: Final = 16
BYTES_SEARCHED: Final = 8 * 1024
"""How much of others' messages a retry reads in search of its own, which come on top. What that costs Redis stands in
``docs/performance.md``."""

_WIDER: Final = 8
"""So many times as much where servers take over from each other: it begins earlier there, because it is not known exactly
what the clock of the server showed that has given the ids."""


class Publishing(Flows):
    """The flow of :meth:`many`. One instance belongs to one client."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._clock = shared.clock
        self._wall_clock = shared.wall_clock
        self._noting = Noting(shared.keys, shared.retries, shared.clock)

    def accept(self, message: Outgoing | tuple[str, Any], name: str) -> Publication | InvalidInput:
        """The message ready to be sent, or what is wrong with it."""
        try:
            return Publication(message, name, self._options)
        except InvalidInput as error:
            return error

    def many(
        self, messages: Iterable[Outgoing | tuple[str, Any]]
    ) -> Flow[list[Published | PublisherError]]:
        """Publish in as few round trips as can be; returns the outcome of each message."""
        with spanning("publish") as trace:
            accept = self.accept if trace is None else partial(self._accept_in, trace)
            intake = Intake(map(accept, messages, unique_names()))
            yield from self._send(intake)
            if trace is not None:
                trace.note_outcomes(intake.outcomes)
        return intake.outcomes

    def _accept_in(
        self, trace: Trace, message: Outgoing | tuple[str, Any], name: str
    ) -> Publication | InvalidInput:
        """The same; it belongs to the span of the call, unless it names another one."""
        accepted = self.accept(message, name)
        own = isinstance(message, Outgoing) and message.traceparent is not None
        if isinstance(accepted, Publication) and not own:
            accepted.belong_to(trace)
        return accepted

    def together(
        self,
        publications: Iterable[Publication],
        finished: Callable[[Publication], None] | None,
    ) -> Flow[None]:
        """Publish what several calls have brought, and tell ``finished`` of each once it has its outcome."""
        yield from self._send(Intake(iter(publications), finished))

    def _send(self, intake: Intake) -> Flow[None]:
        if self._keys.sharded:
            lanes = Lanes(self._keys, self._clock, self._retries, self._try_at, self._follow)
            yield from lanes.send(intake)
            return
        waiting: list[Publication] = []
        failures = Failures(self._retries)
        while True:
            tried = len(waiting)
            waiting = intake.fill(waiting)
            if not waiting:
                return
            try:
                yield from self._follow(waiting[tried:])
            except Unavailable as error:
                intake.give_up(waiting, error)
                return
            failure = yield from self._try([each for each in waiting if each.unfinished])
            waiting = intake.sort_out(waiting)
            if failure is None and waiting:
                failure = waiting[0].refusal
            if failure is None:
                failures.reset()
                continue
            pause = failures.add(failure)
            if pause is None:
                intake.give_up(waiting, failure)
                return
            if waiting:
                yield pause

    def _follow(self, deliveries: Sequence[Publication]) -> Flow[None]:
        """Give ``deliveries`` the rules of their namespaces."""
        if not deliveries:
            return
        if not self._keys.sharded:
            yield from self._preflight.check_rights(rights.to_publish)
        yield from self._preflight.refresh({each.namespace for each in deliveries})
        for each in deliveries:
            try:
                each.follow(self._preflight.namespace(each.namespace), self._options.ring)
            except InvalidInput as error:
                each.outcome = error

    def _try_at(self, host: Host | None, batch: list[Publication]) -> Flow[Unavailable | None]:
        """The same at one primary of a cluster, each of which has an ACL of its own."""
        try:
            yield from self._preflight.check_rights_at(rights.to_publish, host)
        except Unavailable as error:
            for each in batch:
                each.failed(error)
            return error
        failure = yield from self._try(batch)
        yield from self._noting.note(batch)
        return failure

    def _try(self, batch: list[Publication]) -> Flow[Unavailable | None]:
        """Try to publish ``batch``; returns why there was no answer, or ``None``."""
        doubtful = [each for each in batch if each.doubtful_at is not None and not each.keyed]
        if doubtful:
            failure = yield from self._settle(doubtful)
            if failure is not None:
                for each in batch:
                    if each.pending:
                        each.failed(failure)
                return failure
            batch = [each for each in batch if each.pending]
        if not batch:
            return None
        wait = self._wait(batch)
        sharing = (
            groups.grouped_by_slot(batch, self._keys)
            if self._keys.sharded
            else groups.grouped(batch)
        )
        calls = [
            groups.call(each, self._keys, self._wall_clock, waits=wait is not None)
            for each in sharing
        ]
        began = self._clock()
        # Not the one of later: after a failover that is another server's.
        redis_clock = self._preflight.redis_clock
        try:
            replies = yield from round_trips(calls, wait)
        except Unavailable as error:
            moment = Moment(began, redis_clock.at(began))
            for each in batch:
                each.failed(error, moment)
            return error
        count = replies.pop() if wait else None
        for group, reply in zip(sharing, replies, strict=True):
            groups.answered(group, reply)
        for each in batch if wait else ():
            each.confirmed(count, self._options.replica_timeout)
        return None

    def _settle(self, doubtful: Sequence[Publication]) -> Flow[Unavailable | None]:
        """Find out what became of messages that perhaps were published; returns why it is not known yet.

        One with an idempotency key needs none of this: whatever becomes of its tries, one publishes.
        """
        channels: dict[str, list[Publication]] = {}
        for each in doubtful:
            channels.setdefault(each.channel, []).append(each)
        questions = [self._question(group) for group in channels.values()]
        wait = self._wait(doubtful)
        try:
            replies = yield from round_trips(questions, wait)
        except Unavailable as error:
            return error.told(maybe_sent=False)
        count = replies.pop() if wait else None
        failure = None
        for group, reply in zip(channels.values(), replies, strict=True):
            if isinstance(reply, ResponseError):
                problem = meaning(reply)
                for each in group:
                    each.failed(problem)
                failure = problem if problem.retryable else failure
                continue
            for each, found in zip(group, reply, strict=True):
                each.settled(found)
                if wait:
                    each.confirmed(count, wait.seconds)
        return failure and failure.told(maybe_sent=False)

    def _question(self, group: Sequence[Publication]) -> Call:
        """Ask what became of messages of one channel, in a part of its log that does not grow with it."""
        channel = group[0].channel
        moments = [each.doubtful_at for each in group if each.doubtful_at is not None]
        passed = self._clock() - min(each.here for each in moments)
        results = (each.result_key for each in group)
        wider = _WIDER if self._retries.other_servers else 1
        arguments: tuple[Argument, ...] = (
            min(each.in_redis for each in moments),
            math.ceil(passed * 1_000_000),
            ENTRIES_SEARCHED * wider + len(group),
            BYTES_SEARCHED * wider + sum(each.size for each in group),
            *(each.nonce for each in group),
        )
        keys = self._keys
        asked = [keys.log(channel), keys.last(channel), keys.removed(channel), *results]
        return Call.run(scripts.SETTLE, asked, *arguments)

    def _wait(self, deliveries: Sequence[Publication]) -> Wait | None:
        """For as many replicas as the most demanding of ``deliveries`` asks."""
        replicas = max([each.min_replicas for each in deliveries])
        return Wait(replicas, self._options.replica_timeout) if replicas else None
