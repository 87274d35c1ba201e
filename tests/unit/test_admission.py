"""How many attempts of one user may be under way at a node, whoever still waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from gateway.core import closing
from gateway.node.ports import Claim, Denied, Entry
from gateway.web.admission import Admission, Room
from gateway.web.handshake_queue import HandshakeQueue
from tests.unit.fakes import Node

PER_USER = 3


class Places:
    """Nobody gets a place before the test says so."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def acquire(self, claim: Claim, waits: Callable[[], bool]) -> Entry:
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
    admission = Admission(places, node.revocations(), lambda: True, room, queue)
    attempts = [
        asyncio.create_task(admission.enter(Claim("u", str(n)), lambda: waits)) for n in range(50)
    ]
    await asyncio.sleep(0)
    assert admission._present == most
    places.go.set()
    assert await asyncio.gather(*attempts) == [closing.CONNECTION_LIMIT] * 50
    assert admission._present == 0
    assert not admission._asking
