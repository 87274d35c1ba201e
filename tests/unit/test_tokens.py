"""Tokens that are shown on open connections."""

from __future__ import annotations

import pytest

from gateway.core.access import Identity, TokenRejected
from gateway.core.protocol import BadRequest
from gateway.node.recheck import Recheck
from gateway.node.tokens import Tokens
from tests.unit.bench import Bench
from tests.unit.fakes import FakeClock, RecordingFeed, make_connection
from tests.unit.test_recheck import NAMESPACES, Grants


class Rejecting:
    """No token is good enough."""

    def verify(self, token: str) -> Identity:
        raise TokenRejected(f"{token!r} is made up")


async def test_a_wall_clock_that_is_set_changes_nothing_of_how_many_rejections_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    node, grants, wall_clock = bench.node, Grants(), FakeClock()
    refusals = bench.refusals(grants, RecordingFeed())
    recheck = Recheck(
        node.hub, bench.catchup, grants, refusals, NAMESPACES, node.clock, lambda: 0.0
    )
    tokens = Tokens(node.hub, Rejecting(), recheck, node.clock, wall_clock)
    client, _ = make_connection()

    def logged_of(count: int) -> int:
        caplog.clear()
        for _ in range(count):
            with pytest.raises(BadRequest):
                tokens.refresh(client, "x")
        return sum(each.startswith("refresh_rejected") for each in caplog.messages)

    caplog.set_level("INFO")
    assert logged_of(100) == 10
    wall_clock.now += 86_400
    assert logged_of(100) == 0
    wall_clock.now -= 2 * 86_400
    node.clock.now += 10
    assert logged_of(100) == 1
