"""Several tabs of one user, who confirm while others read the log: nothing is missing, and no loss is invented."""

from __future__ import annotations

import asyncio
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.node.connection import Subscription
from publisher.contract.message import NO_POSITION, LogPage
from tests.unit.bench import Bench, FakeRedis, ids, small
from tests.unit.fakes import NEWS, Node, make_connection, run
from tests.unit.wire import TEXT, frames_in, messages_in

USER = "ann"
TABS = 5


class Redis(FakeRedis):
    """Knows what the user has confirmed, once it is written."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.position = NO_POSITION
        self.pages: deque[tuple[asyncio.Future[LogPage], LogPage, int]] = deque()
        self.questions: deque[tuple[asyncio.Future[LogPage], int | None, int, int]] = deque()

    @property
    def unwritten(self) -> int:
        """What the node has noted and not written yet, as ``LogReader`` counts it."""
        return max([id_ for _, _, id_ in self.node.positions.advanced], default=NO_POSITION)

    async def read(self, channel: str, user: str, since: int | None, limit: int) -> LogPage:
        answered: asyncio.Future[LogPage] = asyncio.get_running_loop().create_future()
        self.questions.append((answered, since, limit, self.unwritten))
        return await answered

    def read_log(self) -> None:
        """A question reaches Redis; the answer is under way."""
        if self.questions:
            answered, since, limit, unwritten = self.questions.popleft()
            position = self.position if since is None else since
            after = [message for message in self.log if message.id > position][:limit]
            noted = unwritten if since is None else NO_POSITION
            self.pages.append((answered, LogPage(position, self.newest, after), noted))

    def answer(self) -> None:
        if not self.pages:
            self.read_log()
        if self.pages:
            answered, page, noted = self.pages.popleft()
            if not answered.done():
                answered.set_result(page._replace(position=max(page.position, noted)))

    def write(self) -> None:
        self.position = max(self.position, self.unwritten)
        self.node.positions.advanced.clear()


class Tab:
    """A connection of the user's."""

    def __init__(self, bench: Bench, number: int) -> None:
        self.client, self.socket = make_connection(id=f"c{number}", user=USER)
        self._answered = 0
        self.subscription = Subscription(self.client, NEWS)
        self.client.subscriptions[NEWS.name] = self.subscription
        bench.catchup.start(self.subscription, lambda: bench.catchup.join(self.subscription, None))

    def pong(self, node: Node) -> None:
        """Answer the pings that have come since the last time."""
        pings = [frame for frame in frames_in(self.socket.received) if frame.opcode != TEXT]
        for ping in pings[self._answered :]:
            node.confirmation.pong(self.client, ping.payload)
        self._answered = len(pings)


class World(Bench):
    redis: Redis

    def __init__(self) -> None:
        super().__init__(Redis)
        self.tabs: list[Tab] = []
        self.here: list[Tab] = []

    async def step(self, step: str) -> None:
        match step:
            case "join" if len(self.tabs) < TABS:
                self.tabs.append(Tab(self, len(self.tabs)))
                self.here.append(self.tabs[-1])
            case "pong":
                for tab in self.here:
                    tab.pong(self.node)
            case "leave" if self.here:
                tab = self.here.pop(0)
                tab.client.closed = True
                self.catchup.leave(tab.subscription)
            case "write" | "read_log":
                getattr(self.redis, step)()
            case "join" | "leave":
                pass
            case _:
                await super().step(step)

    async def settle(self) -> None:
        for _ in range(100):
            self.redis.accept()
            self.redis.flood()
            self.redis.answer()
            await asyncio.sleep(0)
        assert not self.redis.questions
        assert not self.redis.pages


def in_order(received: list[int], log: list[int]) -> bool:
    """Whether what was received is one piece of the log."""
    return not received or received == log[log.index(received[0]) :][: len(received)]


STEPS = st.lists(
    st.sampled_from(
        [
            *("publish", "live", "live", "deliver", "flood", "accept", "answer", "advance", "turn"),
            *("join", "pong", "pong", "leave", "write", "settle", "read_log"),
        ]
    ),
    min_size=5,
    max_size=50,
)


@settings(max_examples=300)
@given(STEPS, st.integers(1, 4), st.integers(0, 3))
def test_however_tabs_confirm_each_gets_one_piece_of_the_log_and_hears_of_no_loss(
    steps: list[str], page: int, held: int
) -> None:
    async def scenario() -> None:
        world = World()
        for step in ["join", *steps, "join", "settle", "live", "settle"]:
            await world.step(step)
        log = [message.id for message in world.redis.log]
        for tab in world.tabs:
            received = ids(tab.socket)
            assert in_order(received, log)
            # Only what another tab has received is left out.
            others = {id_ for other in world.tabs if other is not tab for id_ in ids(other.socket)}
            assert not received or {id_ for id_ in log if id_ < received[0]} <= others
            for message in messages_in(tab.socket.received):
                assert message["type"] in {"subscribed", "news"}
                assert "recovered" not in message
        for tab in world.here:
            assert ids(tab.socket)[-1] == log[-1]
        assert world.node.stats.losses_reported == 0
        await world.close()

    with small(page, held):
        run(scenario())
