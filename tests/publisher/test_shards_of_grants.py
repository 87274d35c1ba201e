"""Which primaries of a cluster a grant needs: those of others may be down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from publisher.contract.channels import DEFAULT_NAMESPACES
from publisher.contract.keys import Keys
from publisher.errors import Rejected, Unavailable
from publisher.operations import Operations
from publisher.preflight import Preflight
from publisher.publication import Options
from publisher.retrying import Retries
from publisher.transport.flows import Flow, Owners, Pause, RoundTrip, Step, driven
from publisher.transport.redis_py import Host

CHANNEL = "run-results/s"
KEYS = Keys("p", sharded=True)
OWN, OTHER, FURTHER = ("own", 1), ("other", 2), ("further", 3)


class Shards:
    """Runs flows. One primary has the channel, and another one everything else; ``down`` are those that do not answer."""

    def __init__(self) -> None:
        self.owner: Host | None = OWN
        self.down: set[Host | None] = set()
        self.forbidden = ""
        self.tried: list[Host | None] = []
        self.now = 1.0
        retries = Retries(3, lambda: 1.0, give_up_after=15.0, clock=lambda: self.now)
        preflight = Preflight(KEYS, lambda: self.now, retries, DEFAULT_NAMESPACES, learnt_at=1.0)
        self.operations = Operations(
            KEYS,
            clock=lambda: self.now,
            wall_clock=lambda: 0,
            retries=retries,
            options=Options(),
            preflight=preflight,
        )

    def run(self, flow: Flow[Any]) -> Any:
        return driven(flow, self._take)

    def _take(self, step: Step) -> list[Any]:
        if isinstance(step, Pause):
            self.now += step.seconds
            return []
        if isinstance(step, Owners):
            return [self._owner(key) for key in step.keys]
        assert isinstance(step, RoundTrip)
        host = step.at or next((self._owner(each.key) for each in step.calls if each.key), OTHER)
        self.tried.append(host)
        if host in self.down:
            self.now += 1.0
            self.on_failure()
            raise Unavailable("no answer in time", maybe_sent=True)
        return [
            NoPermissionError(f"User has no permissions to run the '{name}' command")
            if (name := str(each.arguments[0]).lower()) == self.forbidden
            else 1
            for each in step.calls
        ]

    def _owner(self, key: str | None) -> Host | None:
        return self.owner if key and CHANNEL in key else OTHER

    def on_failure(self) -> None:
        """Something happens while a server does not answer."""


@pytest.fixture
def shards() -> Shards:
    return Shards()


def granting(operations: Operations) -> Flow[Any]:
    return operations.grant(CHANNEL, "u")


def revoking(operations: Operations) -> Flow[Any]:
    return operations.revoke(CHANNEL, "u")


either = pytest.mark.parametrize("call", [granting, revoking])
Made = Callable[[Operations], Flow[Any]]


@either
def test_the_first_needs_the_primary_of_its_channel_alone(shards: Shards, call: Made):
    shards.down = {OTHER}
    shards.run(call(shards.operations))
    assert set(shards.tried) == {OWN}


@either
def test_rights_that_this_one_does_not_give_are_named(shards: Shards, call: Made):
    shards.forbidden = "publish"
    with pytest.raises(Rejected, match=r"\+publish"):
        shards.run(call(shards.operations))
    assert shards.tried == [OWN]


@either
def test_while_nobody_has_its_slot_or_answers_it_waits_for_who_takes_over(
    shards: Shards, call: Made
):
    shards.down = {OWN}

    def fail_over() -> None:
        shards.owner = FURTHER

    shards.on_failure = fail_over  # type: ignore[method-assign]
    shards.run(call(shards.operations))
    assert shards.tried[0] == OWN
    assert set(shards.tried[1:]) == {FURTHER}


@either
def test_while_it_has_only_asked_for_its_rights_nothing_was_sent(shards: Shards, call: Made):
    shards.down = {OWN}
    with pytest.raises(Unavailable) as caught:
        shards.run(call(shards.operations))
    assert not caught.value.maybe_sent
    shards.owner = None
    with pytest.raises(Unavailable, match="no server has the slot"):
        shards.run(call(shards.operations))
