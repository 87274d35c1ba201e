"""By which clock a retry looks for its message: servers take over from each other, and each has its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.operations import Operations
from publisher.publication import Options
from publisher.publishing import BYTES_SEARCHED, ENTRIES_SEARCHED
from publisher.records import Outgoing
from publisher.retrying import Retries
from tests.publisher.test_operations import CUT, TIME, Run, arguments_of

TIME_US = int(TIME[0]) * 1_000_000 + int(TIME[1])
ALONE, ONE_OF_SEVERAL = None, 15.0
"""How long a call is tried where another server may take over."""


class Backend:
    """Learns the clock of Redis at 0 of its own, and publishes at 59: a second later it asks for it again."""

    def __init__(self, give_up_after: float | None) -> None:
        self.now = 0.0
        self._operations = Operations(
            Keys("p"),
            clock=lambda: self.now,
            wall_clock=lambda: TIME_US,
            retries=Retries(3, lambda: 1.0, give_up_after=give_up_after, clock=lambda: self.now),
            options=Options(),
        )
        self._operations._preflight.check_rights = lambda _use: iter(())
        Run(self._operations.publish(Outgoing("run-results/s", 0)), [[], TIME], [b"17:0"])
        self.now = 59.0

    def publish(self, *answers: Any) -> Call:
        """Publish, with the first answer lost; returns how it is asked what became of the message."""
        run = Run(self._operations.publish(Outgoing("run-results/s", 1)), *answers, [[b"18"]])
        ((question,),) = run.trips[1:]
        return question

    def hear(self, time: list[bytes]) -> None:
        """Another call of the same publisher asks for the namespaces, and for this time."""
        Run(self._operations.publish(Outgoing("run-results/t", 2)), [[], time], [b"19:0"])


def since(question: Call) -> int:
    return int(arguments_of(question)[0])


def test_a_retry_asks_by_the_clock_of_the_server_that_was_tried():
    """A replica whose clock is an hour ahead has taken over, and what the old primary took is older to it."""
    backend = Backend(ONE_OF_SEVERAL)

    def lost(_calls: Sequence[Call]) -> list[Any]:
        backend.now += 2.0
        backend.hear([b"%d" % (int(TIME[0]) + 3_600), TIME[1]])
        raise CUT

    question = backend.publish(lost)
    assert TIME_US + 58_000_000 < since(question) <= TIME_US + 59_000_000
    assert arguments_of(question)[1] == 2_000_000


@pytest.mark.parametrize(("give_up_after", "ms"), [(ALONE, 0), (ONE_OF_SEVERAL, 10)])
def test_where_servers_take_over_their_clocks_may_differ_a_little(
    give_up_after: float | None, ms: int
):
    question = Backend(give_up_after).publish(CUT)
    drift_us = 59_000
    assert since(question) == TIME_US + 59_000_000 - drift_us - 1_000 * ms
    wider = 8 if ms else 1
    bounds = ENTRIES_SEARCHED * wider + 1, BYTES_SEARCHED * wider + 1
    assert arguments_of(question)[2:4] == bounds
