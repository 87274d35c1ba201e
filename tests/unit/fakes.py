"""What stands around the parts of a node in these tests: a client, Redis, and the time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from gateway.core.access import Identity
from gateway.core.budget import Budget
from gateway.core.closing import Closing
from gateway.core.frames import PLAIN, Encoding
from gateway.core.reader import Reader, Verdict
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Channel, Connection, Subscription
from gateway.node.hub import Events, Hub
from gateway.node.revocations import Revocations
from gateway.node.stats import Stats
from gateway.node.timings import Timings
from publisher.contract.channels import parse_channel
from publisher.contract.message import NOT_LOGGED, LogPage, Message
from publisher.errors import Rejected

T = TypeVar("T")

HIGH_WATER = 150
"""Bytes; only what is written to a socket that is ``slow`` waits."""

MAX_SUBSCRIPTIONS = 3

NEWS = parse_channel("news/today")


class FakeClock:
    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class RecordingSocket:
    there = False

    def __init__(self, encoding: Encoding = PLAIN) -> None:
        self.encoding = encoding
        self.writes: list[bytes] = []
        self.closing: Closing | None = None
        self.reads = True
        self.unheard = False
        self.slow = False
        self.waiting = 0
        self.piled = 0
        self.arrived = 0
        self.quiet = float("inf")

    @property
    def received(self) -> bytes:
        return b"".join(self.writes)

    def write(self, data: bytes) -> bool:
        if self.closing is None:
            self.writes.append(data)
            if self.slow:
                self.waiting += len(data)
                self.piled += len(data)
        return self.waiting <= HIGH_WATER

    @property
    def untaken(self) -> int:
        return self.waiting

    @property
    def taken(self) -> int:
        return self.piled - self.waiting

    @property
    def congested(self) -> bool:
        return self.waiting > 0

    async def drained(self) -> None:
        while self.congested and self.closing is None:
            await asyncio.sleep(0)

    def stop_reading(self) -> None:
        self.reads = False

    def close(self, reason: Closing) -> None:
        self.closing = reason


class RecordingPositions:
    def __init__(self) -> None:
        self.advanced: list[tuple[str, str, int]] = []

    def advance(self, channel: str, user: str, id: int) -> None:
        self.advanced.append((channel, user, id))

    def hurry(self) -> None:
        pass


class FakeRevokedTokens:
    """What Redis knows of revoked tokens: ``digests``, and before which time those of ``users``.

    While ``answers`` is not set it does not answer. Of ``untold`` it tells nothing for now.
    """

    def __init__(self) -> None:
        self.digests: set[str] = set()
        self.users: dict[str, float] = {}
        self.at_once = 2
        self.asked: list[str] = []
        self.untold: set[str] = set()
        self.answers = asyncio.Event()
        self.answers.set()

    def ask(self, digest: str) -> asyncio.Future[bool]:
        self.asked.append(digest)
        return asyncio.ensure_future(self._is_revoked(digest))

    async def _is_revoked(self, digest: str) -> bool:
        found = digest in self.digests
        await self.answers.wait()
        return found

    async def revoked(self, digests: Sequence[str]) -> dict[str, bool]:
        return {each: await self.ask(each) for each in digests if each not in self.untold}

    async def ended(self, users: Sequence[str]) -> dict[str, bool]:
        self.asked += users
        found = {each: each in self.users for each in users if each not in self.untold}
        await self.answers.wait()
        return found

    async def look_up(self, user: str, digest: str | None) -> tuple[float | None, bool]:
        found = self.users.get(user), digest in self.digests
        await self.answers.wait()
        return found


class RecordingPlaces:
    """What was asked for of the places that connections hold. ``refuses``: whether asking about one is refused."""

    def __init__(self) -> None:
        self.rounds = 0
        self.restorations = 0
        self.freed: list[tuple[str, str]] = []
        self.asked: list[tuple[str, list[str]]] = []
        self.refuses = False

    def restore(self) -> None:
        self.restorations += 1

    async def ask(self, user: str, connections: Sequence[str]) -> None:
        self.asked.append((user, list(connections)))
        if self.refuses:
            raise Rejected("WRONGTYPE", maybe_sent=False)

    def give_back(self, user: str, connection: str) -> None:
        self.freed.append((user, connection))


class RecordingFeed:
    """Redis confirms a subscription when ``confirm`` is set."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.confirm = asyncio.Event()

    def subscribe(self, channel: str) -> asyncio.Future[None]:
        self.calls.append(("subscribe", channel))
        return asyncio.ensure_future(self._confirmed())

    async def _confirmed(self) -> None:
        await self.confirm.wait()

    def unsubscribe(self, channel: str) -> None:
        self.calls.append(("unsubscribe", channel))


class Node:
    """A hub with nothing around it but its confirmation; what it reports is noted.

    With an interval of for ever, only a channel's first message is followed by a ping.
    """

    def __init__(self, *, threshold: int = 1024, interval: float = float("inf")) -> None:
        self.clock = FakeClock()
        self.positions = RecordingPositions()
        self.stats = Stats(timings=Timings(self.clock))
        self.gaps: list[str] = []
        self.throttled: list[bool] = []
        self.commands: list[bytes] = []
        self.sealed: list[str] = []
        self.places = RecordingPlaces()
        self.confirmation = Confirmation(
            self.positions, {}, self.clock, interval, self.stats.timings
        )
        self.hub = Hub(
            lambda callback: asyncio.get_running_loop().call_soon(callback),
            self.confirmation,
            self.stats,
            Events(self.gap, self.behind, self.congested, self.commands.append, self.cannot_open),
            threshold,
        )

    def revocations(self, tokens: FakeRevokedTokens | None = None) -> Revocations:
        """Of a node that is called ``here``."""
        known = tokens or FakeRevokedTokens()
        return Revocations(self.hub, known, "here", self.places, self.clock, lambda: 0.0)

    # -- what the hub reports ---------------------------------------------------------------------

    def gap(self, channel: Channel) -> None:
        self.gaps.append(channel.name)

    def cannot_open(self, channel: Channel) -> None:
        self.sealed.append(channel.name)
        self.hub.stop(channel)

    def behind(self, connection: Connection) -> None:
        pass

    def congested(self, congested: bool) -> None:
        self.throttled.append(congested)

    # -- what the test does -----------------------------------------------------------------------

    def open(self, name: str = NEWS.name) -> Channel:
        return self.hub.open(parse_channel(name), keeps_log=True)

    def listen(self, client: Connection, name: str = NEWS.name) -> Subscription:
        """Let a client hear a channel at once, as if it had nothing to catch up with."""
        subscription = Subscription(client, parse_channel(name))
        client.subscriptions[name] = subscription
        self.hub.go_live(self.open(name), subscription)
        return subscription


def make_connection(
    encoding: Encoding = PLAIN, *, user: str = "user-123", id: str = "c1"
) -> tuple[Connection, RecordingSocket]:
    socket = RecordingSocket(encoding)
    return Connection(id, Identity(user), socket, Budget(1e9, 1e9, MAX_SUBSCRIPTIONS, 0.0)), socket


def logged(id: int, prev: int = 0, body: bytes = b"1") -> Message:
    return Message(id, prev, body)


def unlogged(id: int, body: bytes = b"1") -> Message:
    return Message(id, NOT_LOGGED, body)


def lost(position: int, newest: int, following: list[Message]) -> bool:
    """Whether a reader at ``position`` has lost something, when ``following`` is all that comes after it."""
    reader = Reader()
    reader.position = position
    return reader.judge_page(LogPage(position, newest, following), position) is Verdict.LOST


def payload(id: int, prev: int | None = 0, body: bytes = b"1") -> bytes:
    """A message as it comes from Redis; ``prev`` of None: it is not logged."""
    return b"%d:%b:n:%b" % (id, b"" if prev is None else b"%d" % prev, body)


async def turn() -> None:
    """Let the event loop finish what was scheduled for this turn."""
    await asyncio.sleep(0)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run on a loop of its own: for examples of Hypothesis, which is not asynchronous."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()
