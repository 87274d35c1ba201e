"""Places while the server of a cluster is away that has the list of nodes, or the places themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeAlias

import pytest

from gateway.backplane import places as places_module
from gateway.backplane.place_table import PlaceTable
from gateway.backplane.places import Held, PlaceEvents, Places
from gateway.backplane.servers import Servers
from gateway.node.ports import Claim, Denied
from gateway.node.tasks import Tasks
from publisher.contract import scripts
from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from tests.support.waiting import until

PlacesOf: TypeAlias = Callable[["Redis"], Places]
KEYS = Keys(sharded=True)
HERE = b"here"


class Redis:
    """A user at the limit, whose places are those of ``dead``, and a list of nodes. ``gone`` is what was dropped."""

    def __init__(self, nodes: list[bytes]) -> None:
        self.nodes = nodes
        self.gone: list[Any] = []
        self.renewed: list[str] = []
        self.listed = 0
        self.away: set[str] = set()
        self.hanging: set[str] = set()

    async def call(self, call: Call) -> Any:
        key = str(call.key)
        if key in self.away:
            raise Unavailable("refused", maybe_sent=False)
        if key in self.hanging:
            self.renewed.append(f"{key} hangs")
            self.away |= self.hanging
            raise Unavailable("no answer in time", maybe_sent=True)
        if call.script is scripts.LIVE_NODES:
            self.listed += 1
            return self.nodes
        if call.script is scripts.ACQUIRE:
            self.gone += call.arguments[8:]
            return 5 if self.gone else [b"dead/1", b"123"]
        if call.script is scripts.RENEW:
            self.renewed.append(key)
            return [], [], []
        return 0

    def begin(self, call: Call) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self.call(call))


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks()
    yield tasks
    await tasks.aclose()


@pytest.fixture
def places_of(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> PlacesOf:
    monkeypatch.setattr(places_module, "_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(places_module, "CHECK_SECONDS", 0.03)
    return partial(make_places, tasks)


def make_places(tasks: Tasks, redis: Redis) -> Places:
    pipeline: Any = redis

    async def nothing(_ids: list[str]) -> None:
        pass

    return Places(
        pipeline,
        pipeline,
        PlaceTable(KEYS, HERE.decode(), 1, 60),
        PlaceEvents(nothing, lambda _id: None, lambda _command: None),
        tasks,
        lambda: 0.5,
        Servers(away=redis.away.__contains__),
    )


@pytest.mark.parametrize(
    ("nodes", "dropped"),
    [
        pytest.param([HERE], True, id="this node is on the list"),
        pytest.param([], False, id="all leases have run out while nobody could renew them"),
        pytest.param([b"other"], False, id="this node has not renewed its own yet"),
        pytest.param([HERE, b"/grace"], False, id="nodes may be missing that were never on it"),
    ],
)
async def test_a_node_is_dead_if_the_list_is_one_that_the_living_are_on(
    places_of: PlacesOf, nodes: list[bytes], dropped: bool
) -> None:
    redis = Redis(nodes)
    places = places_of(redis)
    assert await places.acquire(Claim("u", "c")) == (5 if dropped else Denied.FULL)
    assert bool(redis.gone) is dropped


async def test_while_the_list_is_away_a_user_at_the_limit_is_refused_and_nobody_is_dead(
    places_of: PlacesOf,
) -> None:
    redis = Redis([])
    redis.away.add(KEYS.nodes)
    places = places_of(redis)
    assert await places.acquire(Claim("u", "c")) is Denied.FULL
    assert not redis.gone
    assert not redis.listed


async def test_on_one_server_a_list_that_cannot_be_read_is_told(
    places_of: PlacesOf,
) -> None:
    redis = Redis([])
    places = places_of(redis)
    places._away = lambda _key: False
    redis.away.add(KEYS.nodes)
    with pytest.raises(Unavailable):
        await places.acquire(Claim("u", "c"))


async def test_the_places_of_a_server_that_hangs_cost_one_round_of_renewing_its_time_out(
    places_of: PlacesOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places_module, "CALLS_AT_ONCE", 4)
    redis = Redis([HERE])
    places = places_of(redis)
    users = [f"u{number}" for number in range(20)]
    places._held.update({f"c-{user}": Held(user, 1) for user in users})
    # Every second user's places are at the server that hangs; after the first time-out it counts as away.
    redis.hanging = {KEYS.connections(user) for user in users[::2]}
    assert await places.renew() == 2
    assert [each for each in redis.renewed if each.endswith("hangs")] == [
        f"{KEYS.connections('u0')} hangs"
    ]
    assert set(redis.renewed) >= {KEYS.connections(user) for user in users[1::2]}


async def test_a_place_that_was_given_while_places_came_into_question_is_taken_once_more(
    places_of: PlacesOf,
) -> None:
    """Who has given it may have been a primary until then."""
    redis = Redis([HERE])
    redis.gone = [b"dead/1"]
    places = places_of(redis)
    asked, answers = 0, asyncio.Event()
    call = redis.call

    async def late(what: Call) -> Any:
        nonlocal asked
        asked += 1
        number = asked
        await answers.wait()
        return await call(what) + number

    redis.call = late  # type: ignore[method-assign]
    taking = asyncio.create_task(places.acquire(Claim("u", "1")))
    await until(lambda: asked)
    places.recount()
    answers.set()
    assert await taking == 7
    assert asked == 2
    assert places._held["1"] == Held("u", 7)
