"""How many attempts of one user may be under way at a node, whoever still waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from gateway.core import closing
from gateway.core.handshake import Refusal
from gateway.node.ports import Claim, Denied, Entry
from gateway.web.admission import Admission, Room
from gateway.web.handshake_queue import HandshakeQueue
from publisher.contract.control import TokensRevoked
from tests.unit.fakes import Node

PER_USER = 3


class Places:
    """Nobody gets a place before the test says so."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def acquire(self, claim: Claim, wanted: Callable[[], Awaitable[bool]]) -> Entry:
        await self.go.wait()
        return Denied.FULL

    def give_back(self, user: str, connection: str) -> None:
        pass


@pytest.mark.parametrize(("waits", "most"), [(True, PER_USER), (False, PER_USER + 5)])
async def test_no_user_holds_the_room_of_a_node_with_attempts(waits: bool, most: int) -> None:
    """Neither with attempts that are waited for, nor with those that are given up at once."""
    places = Places()
    node = Node()
    queue = HandshakeQueue(1e9, lambda: True, node.stats, time.monotonic)
    room = Room(1_000, PER_USER)
    admission = Admission(places, node.revocations(), lambda: True, room, queue, node.stats.timings)
    attempts = [
        asyncio.create_task(admission.enter(Claim("u", str(n)), lambda: waits)) for n in range(50)
    ]
    await asyncio.sleep(0)
    assert admission._present == most
    places.go.set()
    assert await asyncio.gather(*attempts) == [closing.CONNECTION_LIMIT] * 50
    assert admission._present == 0
    assert not admission._asking


async def test_nobody_gives_way_to_a_token_that_is_revoked_while_it_waits() -> None:
    wanted_again: list[bool] = []

    class Full(Places):
        async def acquire(self, claim: Claim, wanted: Callable[[], Awaitable[bool]]) -> Entry:
            assert await wanted()
            entry = await super().acquire(claim, wanted)
            wanted_again.append(await wanted())
            return entry

    places = Full()
    node = Node()
    revocations = node.revocations()
    queue = HandshakeQueue(1e9, lambda: True, node.stats, time.monotonic)
    room = Room(1_000, PER_USER)
    admission = Admission(places, revocations, lambda: True, room, queue, node.stats.timings)
    claim = Claim("u", "1", issued_at=time.time() - 60)
    attempt = asyncio.create_task(admission.enter(claim, lambda: True))
    await asyncio.sleep(0)
    revocations.hear(TokensRevoked("u", time.time()))
    places.go.set()
    assert await attempt is closing.TOKEN_REVOKED
    assert wanted_again == [False]


async def test_those_who_come_in_the_same_turn_find_no_more_room_than_there_is() -> None:
    """All of them have passed the look before their tokens were read, and none is made again for who has a turn."""
    places = Places()
    node = Node()
    looks = 0

    def ready() -> bool:
        nonlocal looks
        looks += 1
        return True

    queue = HandshakeQueue(1e9, ready, node.stats, time.monotonic)
    admission = Admission(
        places, node.revocations(), ready, Room(2, PER_USER), queue, node.stats.timings
    )
    claims = [Claim(f"user-{n}", str(n)) for n in range(3)]
    assert [admission.refusal() for _ in claims] == [None] * 3
    attempts = [asyncio.create_task(admission.enter(each, lambda: True)) for each in claims]
    await asyncio.sleep(0)
    assert admission.refusal() == "node_full"
    places.go.set()
    *_, last = await asyncio.gather(*attempts)
    assert isinstance(last, Refusal)
    assert last.code == "node_full"
    assert looks == len(claims) + 1
