"""For how long the strangers of an address are told nothing more after too many failures, and whom that concerns."""

from __future__ import annotations

from gateway.node.stats import Stats
from gateway.web import failed_authentications
from gateway.web.failed_authentications import FailedAuthentications


class World:
    def __init__(self, most: int) -> None:
        self.now = 1_000.0
        self.stats = Stats()
        self.failures = FailedAuthentications(most, self.stats, lambda: self.now)


def test_an_address_that_fails_too_often_is_told_nothing_more_for_the_rest_of_the_minute() -> None:
    world = World(most=100)
    for _ in range(99):
        world.failures.note("192.0.2.1")
    assert world.failures.wait("192.0.2.1") == 0
    world.now += 45
    world.failures.note("192.0.2.1")
    assert world.failures.wait("192.0.2.1") == 15
    assert world.failures.wait("192.0.2.2") == 0
    assert world.stats.addresses_blocked == 1
    # Handshakes that were under way fail too.
    world.failures.note("192.0.2.1")
    assert world.stats.addresses_blocked == 1
    world.now += 15
    assert world.failures.wait("192.0.2.1") == 0


def test_nobody_is_kept_out_for_what_a_proxy_or_an_unknown_one_has_sent() -> None:
    world = World(most=1)
    for _ in range(10):
        world.failures.note(None)
    assert world.failures.wait(None) == 0
    assert world.stats.addresses_blocked == 0


def test_somebody_with_a_million_addresses_keeps_nobody_out_and_takes_no_memory() -> None:
    world = World(most=1)
    world.failures.note("192.0.2.1")
    most = failed_authentications._MOST_ADDRESSES
    for number in range(3 * most):
        world.failures.note(f"2001:db8:{number:x}::/64")
        assert len(world.failures._quota._taken) <= most
    assert world.failures.wait("192.0.2.1") == 0
