"""Sharded pub/sub against a model, whatever moves and whatever crosses on its way."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from publisher.transport.cluster import slot_of
from tests.unit.sharded_world import HOSTS, World
from tests.unit.virtual_time import run_at_once

NAMES = ("live:{x}", "granted:{x}", "live:{y}", "live:{z}")
"""Two of them are of one slot."""

SECONDS_TO_SETTLE = 13.0
"""A move that nobody has heard of is found after ten seconds, and a name rests for one at most."""

KINDS = {
    "listen": 4,
    "drop": 2,
    "move": 3,
    "learn": 3,
    "arrive": 5,
    "answer": 6,
    "deliver": 1,
    "publish": 4,
    "cut": 1,
    "die": 1,
    "live": 1,
    "wait": 2,
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from([kind for kind, weight in KINDS.items() for _ in range(weight)]),
        st.integers(0, len(NAMES) - 1),
        st.integers(0, len(HOSTS) - 1),
    ),
    min_size=20,
    max_size=60,
)


class Bench:
    """``published`` has the name and the payload of what the node should have heard, or be told that it may not have."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.wanted: dict[str, asyncio.Future[None]] = {}
        self.published: list[tuple[str, bytes]] = []
        # How much was published before the node was last told that it may have missed something.
        self.told: dict[str, int] = {}
        self._count = 0

    def take(self, kind: str, number: int, other: int) -> None:
        name, host = NAMES[number], HOSTS[other]
        lines = self._world.lines
        line = lines[(number + len(NAMES) * other) % len(lines)] if lines else None
        match kind:
            case "listen" if name not in self.wanted:
                self.wanted[name] = self._world.listen(name)
            case "drop" if name in self.wanted:
                self._world.shards.drop(name)
                del self.wanted[name]
                self.published = [each for each in self.published if each[0] != name]
            case "move" if self._world.truth[slot_of(name)] != host:
                # Nobody hands over what another does not know to be theirs.
                self._world.all_learn()
                self._world.move(name, host)
            case "learn":
                self._world.primaries[host].learn(self._world.truth)
            case "arrive" | "answer" | "cut" if line is not None:
                getattr(line, {"cut": "abort"}.get(kind, kind))()
            case "deliver":
                self._world.deliver()
            case "publish":
                self._publish(name)
            case "die":
                self._world.primaries[host].die()
            case "live":
                self._world.primaries[host].alive = True

    def _publish(self, name: str) -> None:
        self._count += 1
        payload = b"%d" % self._count
        confirmed = self.wanted.get(name)
        if self._world.publish(name, payload) and confirmed is not None and confirmed.done():
            self.published.append((name, payload))

    def note_told(self) -> None:
        for name in self._world.missed:
            self.told[name] = self._count
        self._world.missed.clear()

    def check(self) -> None:
        world = self._world
        for name in NAMES:
            if name in self.wanted:
                assert world.at(name) == [world.truth[slot_of(name)]], name
                assert self.wanted[name].done(), name
            else:
                assert world.at(name) == [], name
        for name, payload in self.published:
            heard = world.heard.count((name, payload))
            assert heard == 1 or (heard == 0 and int(payload) <= self.told.get(name, 0)), name


@settings(max_examples=60)
@given(STEPS)
@example([("move", 0, 1), ("learn", 0, 0), ("drop", 0, 0)])
@example([("cut", 0, 0), ("publish", 0, 0)])
def test_in_the_end_each_name_is_listened_to_where_its_slot_is(steps: list[Any]) -> None:
    async def scenario() -> None:
        async with World.running(*NAMES) as world:
            bench = Bench(world)
            for number in range(len(NAMES)):
                bench.take("listen", number, 0)
            await world.settle()
            for kind, number, other in steps:
                bench.take(kind, number, other)
                await (asyncio.sleep(0.03 * (number + 1)) if kind == "wait" else world.turns())
                bench.note_told()
            for primary in world.primaries.values():
                primary.alive = True
            world.all_learn()
            await world.settle(SECONDS_TO_SETTLE)
            bench.note_told()
            for name in bench.wanted:
                bench.take("publish", NAMES.index(name), 0)
            await world.settle()
            bench.check()

    run_at_once(scenario())
