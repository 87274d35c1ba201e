"""How soon an address may begin with TLS that has wasted it too often, and whom that concerns."""

from __future__ import annotations

import pytest

from gateway.web import wasted_tls
from gateway.web.wasted_tls import WastedTls

HERE, THERE = "192.0.2.1", "192.0.2.2"


class World:
    def __init__(self, most: int) -> None:
        self.now = 1_000.0
        self.wasted = WastedTls(most, lambda: self.now)

    def waste(self, count: int, block: str | None = HERE) -> None:
        for _ in range(count):
            self.wasted.note(block)


def test_an_address_that_wastes_too_many_has_them_one_after_the_other_until_the_minute_is_over() -> (
    None
):
    world = World(most=600)
    world.waste(599)
    assert [world.wasted.turn(HERE) for _ in range(3)] == [0, 0, 0]
    world.waste(1)
    assert [world.wasted.turn(HERE) for _ in range(3)] == pytest.approx([0, 0.1, 0.2])
    assert world.wasted.turn(THERE) == 0
    world.now += 0.25
    assert world.wasted.turn(HERE) == pytest.approx(0.05)
    world.now += 30
    assert world.wasted.turn(HERE) == 0
    world.now += 30
    assert [world.wasted.turn(HERE) for _ in range(3)] == [0, 0, 0]


def test_nobody_waits_for_longer_than_ten_seconds() -> None:
    world = World(most=600)
    world.waste(600)
    turns = [world.wasted.turn(HERE) for _ in range(200)]
    given = [each for each in turns if each is not None]
    assert 9.8 < given[-1] <= 10
    assert turns[len(given) :] == [None] * (200 - len(given))
    # Those who were given none take nobody's turn.
    world.now += 1
    assert world.wasted.turn(HERE) == pytest.approx(given[-1] + 0.1 - 1)


def test_whatever_the_limit_one_in_a_second_may_begin() -> None:
    world = World(most=1)
    world.waste(1)
    assert [world.wasted.turn(HERE) for _ in range(3)] == [0, 1, 2]


def test_nobody_waits_for_what_a_proxy_or_an_unknown_one_has_wasted() -> None:
    world = World(most=1)
    world.waste(10, None)
    assert [world.wasted.turn(None) for _ in range(3)] == [0, 0, 0]


def test_somebody_with_a_million_addresses_takes_no_memory() -> None:
    world = World(most=1)
    most = wasted_tls._MOST_ADDRESSES
    for number in range(3 * most):
        world.waste(1, f"2001:db8:{number:x}::/64")
        world.wasted.turn(f"2001:db8:{number:x}::/64")
        world.now += 0.001
        assert len(world.wasted._turns) <= most
