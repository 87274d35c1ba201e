"""Names of sharded pub/sub that move with their slots, while what is said crosses on its way."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest
from redis.exceptions import ResponseError

from publisher.transport.cluster import slot_of
from tests.unit.sharded_world import A, B, C, World
from tests.unit.virtual_time import run_at_once

X, Y = "live:{x}", "live:{y}"
"""Names of two slots."""


def at_once(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on a loop whose time passes at once."""

    @wraps(test)
    def wrapped(*arguments: Any, **named: Any) -> None:
        run_at_once(test(*arguments, **named))

    return wrapped


@at_once
async def test_a_name_goes_to_where_its_server_leads_it() -> None:
    async with World.running(X, Y) as world:
        world.move(X, B, A, B)
        confirmed = world.listen(X)
        await world.settle()
        assert confirmed.done()
        assert world.at(X) == [B]
        assert not world.missed


@pytest.mark.parametrize("first", ["push", "map"])
@at_once
async def test_a_name_whose_slot_moves_follows_it_and_only_it_is_checked(first: str) -> None:
    async with World.running(X, Y) as world:
        world.listen(X)
        world.listen(Y)
        await world.settle()
        line = world.primaries[A].lines[0]
        world.move(X, B, B)
        if first == "map":
            world.map.known.doubt(A)
            await world.settle()
        world.all_learn()
        await world.settle()
        assert (world.at(X), world.at(Y)) == ([B], [A])
        assert world.missed == [X]
        assert world.primaries[A].lines == [line]


@at_once
async def test_who_is_dropped_as_its_slot_leaves_costs_the_others_nothing() -> None:
    """The server says that it has given the name away, and refuses what it was asked meanwhile."""
    async with World.running(X, Y) as world:
        world.listen(X)
        world.listen(Y)
        await world.settle()
        line = world.primaries[A].lines[0]
        world.move(X, B, A, B)
        world.shards.drop(X)
        await world.settle()
        assert world.primaries[A].lines == [line]
        assert (world.at(X), world.at(Y)) == ([], [A])
        assert not world.missed


@at_once
async def test_a_new_map_that_overtakes_the_server_that_gives_a_name_away_costs_nothing() -> None:
    async with World.running(X, Y) as world:
        world.listen(X)
        world.listen(Y)
        await world.settle()
        line = world.primaries[A].lines[0]
        world.move(X, B, A, B)
        # What A says of it is still on its way when a call is led to B.
        world.map.known.hear(_moved(X), A)
        await world.turns()
        other = world.listen(Y + "2")
        await world.settle()
        assert other.done()
        assert world.primaries[A].lines == [line]
        assert world.at(X) == [B]
        assert world.missed == [X]


def _moved(name: str) -> ResponseError:
    return ResponseError(f"MOVED {slot_of(name)} b:2")


@at_once
async def test_a_name_that_is_listened_to_again_waits_for_an_answer_of_its_own() -> None:
    async with World.running(X) as world:
        world.listen(X)
        await world.turns()
        line = world.primaries[A].lines[0]
        line.arrive()
        line.answer()
        # Before anybody has been told of it.
        world.shards.drop(X)
        again = world.listen(X)
        await world.turns()
        assert not again.done()
        await world.settle()
        assert again.done()
        assert world.at(X) == [A]
        assert not world.missed


@at_once
async def test_a_refusal_of_an_earlier_subscription_takes_nothing_from_a_later_one() -> None:
    async with World.running(X) as world:
        world.move(X, B, A)
        first = world.listen(X)
        world.shards.drop(X)
        second = world.listen(X)
        await world.turns()
        line = world.primaries[A].lines[0]
        line.arrive()
        # Meanwhile the slot has come back.
        world.move(X, A, A)
        world.deliver()
        await world.turns()
        assert first.cancelled()
        assert second.done()
        assert world.at(X) == [A]
        assert world.primaries[A].taken[b"SSUBSCRIBE"] == 2


@at_once
async def test_servers_that_lead_to_each_other_are_asked_ever_less() -> None:
    """As where a slot was handed over by halves: the one that gave it away knows, the other does not."""
    async with World.running(X, Y) as world:
        world.listen(X)
        world.listen(Y)
        await world.settle()
        world.move(X, B, A)
        before = _taken(world)
        await world.settle(30.0)
        assert not world.at(X)
        assert _taken(world) - before < 60
        assert world.at(Y) == [A]
        world.all_learn()
        await world.settle(2.0)
        assert world.at(X) == [B]


def _taken(world: World) -> int:
    return sum(each.taken.total() for each in world.primaries.values())


@at_once
async def test_a_name_that_nobody_has_waits_without_asking_and_is_taken_with_its_slot() -> None:
    async with World.running(X, Y) as world:
        world.listen(Y)
        world.move(X, None, *world.primaries)
        await world.settle(11.0)  # the map is asked for now and then
        confirmed = world.listen(X)
        before = _taken(world)
        await world.settle(5.0)
        assert _taken(world) == before
        assert not confirmed.done()
        world.move(X, B, *world.primaries)
        await world.settle(11.0)
        assert confirmed.done()
        assert world.at(X) == [B]


@at_once
async def test_what_is_listened_to_before_any_map_is_known_waits_for_it() -> None:
    world = World([X])
    confirmed = world.listen(X)
    world.primaries[A].alive = False
    async with world.followed():
        await world.settle(1.0)
        assert not confirmed.done()
        world.primaries[A].alive = True
        await world.settle(3.0)
        assert confirmed.done()


@at_once
async def test_a_connection_that_was_lost_makes_only_its_names_be_checked() -> None:
    async with World.running(X, Y) as world:
        world.move(Y, B, *world.primaries)
        world.map.known.doubt(A)
        world.listen(X)
        world.listen(Y)
        await world.settle()
        assert (world.at(X), world.at(Y)) == ([A], [B])
        world.missed.clear()
        world.primaries[B].lines[0].abort()
        await world.settle(1.0)
        assert (world.at(X), world.at(Y)) == ([A], [B])
        assert world.missed == [Y]


@at_once
async def test_a_primary_that_comes_while_nothing_is_read_is_not_read_either() -> None:
    async with World.running(X, Y) as world:
        world.shards.throttle(True)
        world.listen(X)
        world.move(X, B, *world.primaries)
        world.map.known.doubt(A)
        await world.settle()
        assert all(shard._throttled for shard in world.shards.of.values())
        assert set(world.shards.of) == {A, B}


@at_once
async def test_a_primary_that_owns_nothing_any_more_is_left_and_a_new_one_is_used() -> None:
    async with World.running(X, Y) as world:
        world.listen(X)
        world.listen(Y)
        await world.settle()
        world.move(X, C)
        world.move(Y, C, *world.primaries)
        await world.settle(0.5)
        assert (world.at(X), world.at(Y)) == ([C], [C])
        assert set(world.shards.of) == {C}
        assert not world.primaries[A].lines
        assert sorted(world.missed) == [X, Y]


@at_once
async def test_a_primary_that_fails_over_takes_its_names_to_its_successor() -> None:
    async with World.running(X, Y) as world:
        world.move(Y, B, *world.primaries)
        world.map.known.doubt()
        world.listen(X)
        world.listen(Y)
        await world.settle()
        world.missed.clear()
        world.primaries[A].die()
        await world.settle(1.0)
        world.move(X, C, B, C)
        await world.settle(1.2)
        assert (world.at(X), world.at(Y)) == ([C], [B])
        assert world.missed == [X]
