"""A node whose Redis, log and event loop the test interleaves at will."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gateway.core import reader as reader_module
from gateway.core.frames import PLAIN, Encoding
from gateway.node import recovery as pages_module
from gateway.node.catchup import Catchup
from gateway.node.connection import Channel, Connection, Subscription
from gateway.node.interest import Interests
from gateway.node.pacing import Pacing
from gateway.node.ports import Grants
from gateway.node.presence import PresentUsers
from gateway.node.presence_changes import PresenceChanges
from gateway.node.recovery import Pages
from gateway.node.refusals import Refusals
from gateway.node.stalls import Patience
from gateway.node.stats import Stats
from gateway.node.tasks import Tasks
from publisher.contract.channels import Namespace, Owner, Retention
from publisher.contract.message import LogPage, Message
from publisher.errors import Unavailable
from tests.unit.fakes import (
    MAX_SUBSCRIPTIONS,
    NEWS,
    Node,
    RecordingFeed,
    RecordingSocket,
    logged,
    make_connection,
    payload,
    turn,
)
from tests.unit.wire import messages_in

NAMESPACES = {
    "news": Namespace("news", Owner.ANYONE, Retention(1_000, 60)),
    "runs": Namespace("runs", Owner.GRANT, Retention(1_000, 60)),
    "calls": Namespace("calls", Owner.ANYONE, None),
}


class FakeRedis:
    """One channel: a log, a stream of live messages in order, answers when the test says so."""

    def __init__(self, node: Node, name: str = NEWS.name) -> None:
        self.node = node
        self.name = name
        self.log: list[Message] = []
        self.subscribed = False
        self.subscribing: deque[asyncio.Future[None]] = deque()
        self.stream: deque[asyncio.Future[None] | Message] = deque()
        self.reads: deque[tuple[asyncio.Future[LogPage], int, int]] = deque()
        self.down = False

    # -- ports ------------------------------------------------------------------------------------

    def subscribe(self, channel: str) -> asyncio.Future[None]:
        confirmed = asyncio.get_running_loop().create_future()
        self.subscribing.append(confirmed)
        return confirmed

    def unsubscribe(self, channel: str) -> None:
        self.subscribed = False

    async def read(self, channel: str, user: str, since: int | None, limit: int) -> LogPage:
        answered: asyncio.Future[LogPage] = asyncio.get_running_loop().create_future()
        self.reads.append((answered, since or 0, limit))
        return await answered

    async def raise_last(self, channel: str, position: int) -> None:
        pass

    # -- what the test does -----------------------------------------------------------------------

    @property
    def newest(self) -> int:
        """The last id."""
        return self.log[-1].id if self.log else 0

    def publish(self) -> None:
        message = logged(self.newest + 2, self.newest)
        self.log.append(message)
        if self.subscribed:
            self.stream.append(message)

    def accept(self) -> None:
        """A SUBSCRIBE arrives: from here on, messages travel behind its confirmation."""
        if self.subscribing:
            self.subscribed = True
            self.stream.append(self.subscribing.popleft())

    def deliver(self) -> None:
        """The next thing on the pub/sub connection arrives at the node."""
        if self.stream:
            match self.stream.popleft():
                case Message() as message:
                    self.node.hub.receive(self.name, payload(message.id, message.prev))
                case confirmed if not confirmed.done():
                    confirmed.set_result(None)

    def flood(self) -> None:
        """Deliver all that is under way, in one turn of the loop."""
        while self.stream:
            self.deliver()

    def answer(self) -> None:
        """The log is read now; what was asked for arrives in a later turn."""
        if not self.reads:
            return
        answered, since, limit = self.reads.popleft()
        if answered.done():
            return  # given up
        if self.down:
            answered.set_exception(Unavailable("down", maybe_sent=False))
            return
        after = [message for message in self.log if message.id > since]
        answered.set_result(LogPage(since, self.newest, after[:limit]))

    async def advance(self) -> None:
        """Bring whoever is joining to where it has asked for the log."""
        for _ in range(8):
            await turn()
            self.accept()
            self.flood()


class BenchNode(Node):
    """Hands what its hub reports to the bench's catch-up; every message is asked about."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(threshold=100, interval=0)
        self._bench = bench

    def gap(self, channel: Channel) -> None:
        super().gap(channel)
        self._bench.catchup.miss(channel)

    def behind(self, connection: Connection) -> None:
        self._bench.catchup.leave_out(connection)


class Bench:
    def __init__(
        self, redis_of: Callable[[Node], FakeRedis] = FakeRedis, linger: float = 3_600
    ) -> None:
        self.node = BenchNode(self)
        self.redis = redis_of(self.node)
        self.tasks = Tasks()
        self.patience = Patience(self.node.hub, 30, self.node.clock)
        self.pacing = Pacing(self.node.clock, self.node.stats)
        self.interests = Interests(self.redis, self.node.hub.forget, linger)
        self.failed: list[tuple[Subscription, Exception]] = []
        self.catchup = Catchup(
            self.node.hub,
            self.interests,
            # It tries again without a pause.
            Pages(self.redis, self.node.confirmation, lambda: -1.0),
            self.node.confirmation,
            self.patience,
            self.pacing,
            self.tasks,
            NAMESPACES,
            lambda *failure: self.failed.append(failure),
            MAX_SUBSCRIPTIONS,
            PresenceChanges(
                self.node.hub,
                PresentUsers(NAMESPACES, lambda _channel, _user: None, Stats()),
                self.interests,
                NAMESPACES,
                lambda _subscription: None,
            ),
        )

    def refusals(self, grants: Grants, feed: RecordingFeed) -> Refusals:
        """Remembers refusals; ``feed`` notes the channels of which Redis is to tell who is granted them."""
        interests = Interests(feed, lambda _channel: None, linger=0)
        return Refusals(self.node.hub, interests, grants, self.tasks, self.node.clock, lambda: -1.0)

    def join(
        self, since: int | None = None, encoding: Encoding = PLAIN, id: str = "c1"
    ) -> tuple[Connection, RecordingSocket, asyncio.Task[None]]:
        client, socket = make_connection(encoding, id=id, user=f"user-{id}")
        subscription = Subscription(client, NEWS)
        client.subscriptions[NEWS.name] = subscription
        self.catchup.start(subscription, lambda: self.catchup.join(subscription, since))
        task = subscription.task
        assert task is not None
        return client, socket, task

    async def step(self, step: str) -> None:
        match step:
            case "publish" | "accept" | "deliver" | "flood" | "answer":
                getattr(self.redis, step)()
            case "advance":
                await self.redis.advance()
            case "live":
                self.redis.publish()
                self.redis.flood()
                await turn()
            case "settle":
                await self.settle()
            case _:
                await turn()

    async def settle(self) -> None:
        """Let everything arrive."""
        for _ in range(100):
            self.redis.accept()
            self.redis.deliver()
            self.redis.answer()
            await turn()
        assert not self.redis.stream
        assert not self.redis.reads

    async def close(self) -> None:
        self.interests.close()
        await self.tasks.aclose()


def ids(socket: RecordingSocket) -> list[int]:
    return [message["id"] for message in messages_in(socket.received) if "id" in message]


@contextmanager
def small(page: int, held: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages_module, "PAGE", page)
        patch.setattr(reader_module, "MAX_BUFFERED", held)
        yield
