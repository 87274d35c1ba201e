"""What a node does about what it has missed, against a model of a Redis that forgets and drops.

Whatever Redis forgets and whatever the pub/sub connection loses: what is in the log when the node reads
it comes, once and in order; what does not come is told where it is missing, to those who miss it,
and told once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.frames import PLAIN
from gateway.node.connection import Connection
from tests.unit.bench import Bench, small
from tests.unit.fakes import NEWS, RecordingSocket, run, turn
from tests.unit.lossy import LossyRedis
from tests.unit.wire import messages_in

TOLD = 0
"""Among the ids that a client was sent: here it was told of a loss."""

CLIENTS = 4


class Heard:
    """What one client has heard in the channel, judged as it comes.

    ``events`` are the ids it was sent, and ``TOLD`` where it was told of a loss. ``_spared`` counts the
    reports that nothing missing accounts for: each time that Redis falls back, who is ahead of it
    is to be told, and who shares a channel with them may be. ``_owed``: it was ahead at this event.
    """

    def __init__(
        self, redis: LossyRedis, start: int, client: Connection, socket: RecordingSocket
    ) -> None:
        self.start = start
        self.client = client
        self.socket = socket
        self.events: list[int] = []
        self.position = start
        self.answers = 0
        self._redis = redis
        self._read = 0
        self._told: dict[int, int] = {}
        self._spared = 0
        self._falls = redis.reports_due
        self._owed: int | None = 0 if start > redis.newest else None

    def missing(self) -> set[int]:
        """What was published behind the start and has not come."""
        return {id_ for id_ in self._redis.ever if id_ > self.start} - set(self.events)

    def listen(self) -> None:
        """Read what has come since the last time."""
        data = b"".join(self.socket.writes[self._read :])
        self._read = len(self.socket.writes)
        for message in messages_in(data):
            match message["type"]:
                case "news":
                    assert message["id"] > self.position
                    self.position = message["id"]
                    self.events.append(self.position)
                case "subscribed":
                    self.answers += 1
                    if message.get("recovered") is False:
                        self._hear_of_loss(ahead=self.start in self._redis.rolled_back)
                case _:
                    assert message["code"] == "messages_lost"
                    self._hear_of_loss()

    def _hear_of_loss(self, *, ahead: bool = False) -> None:
        gone = self.missing() & self._redis.gone_when_read
        if not gone - self._told.keys() and not ahead:
            self._spared += 1
            assert self._spared <= self._redis.reports_due, "told again, or of nothing"
        for id_ in gone:
            self._told.setdefault(id_, len(self.events))
        # When Redis has fallen back, what was told is to be forgotten: all that is retained comes, also once more.
        if (
            self._falls < self._redis.reports_due
            or self.position in self._redis.rolled_back
            or self.position > self._redis.newest_when_read
        ):
            self.position = 0
        self._falls = self._redis.reports_due
        self.events.append(TOLD)

    def redis_fell_back(self) -> None:
        if self.position > self._redis.newest:
            self._owed = len(self.events)

    def judge(self, *, left: bool) -> None:
        """Whether every loss was told, and before anything newer came."""
        missing = self.missing() - self._redis.rolled_back
        published = {id_: number for number, id_ in enumerate(self._redis.ever)}
        for place, event in enumerate(self.events):
            number = published.get(event, -1)  # that of TOLD: nothing is older
            assert not [
                id_
                for id_ in missing
                if published[id_] < number and self._told.get(id_, place) >= place
            ]
        if not left:
            assert missing <= self._told.keys()
            assert self._owed is None or TOLD in self.events[self._owed :]
            assert self.answers == 1


class World(Bench):
    """A node with its repair, a Redis that forgets, and clients that come and go."""

    redis: LossyRedis

    def __init__(self, retained: int, linger: float) -> None:
        super().__init__(partial(LossyRedis, retained=retained), linger)
        self.redis.restored = lambda: self.tasks.spawn(self.catchup.check_all(), "check")
        self.present: list[Heard] = []
        self.gone: list[Heard] = []

    async def step(self, step: str) -> None:
        """One of ``STEPS``: of this world, else of its Redis."""
        getattr(self if hasattr(World, step) else self.redis, step)()
        if step in {"wipe", "restart", "fail_over", "fail_over_in_time"}:
            self._redis_fell_back(checked=step != "wipe")
        await turn()
        self._listen()

    def _redis_fell_back(self, *, checked: bool) -> None:
        live = self.node.hub.channels.get(NEWS.name)
        members = live.members.get(PLAIN, {}) if live is not None else {}
        for heard in self.present:
            # With no connection lost nothing is checked: only the chain of live messages tells.
            if checked or heard.client in members:
                heard.redis_fell_back()

    def _listen(self) -> None:
        self.node.hub.outboxes.flush()  # so that a report is judged by what had been read for it
        for heard in self.present:
            heard.listen()

    def enter(self, since: int | None = None) -> None:
        if len(self.present) < CLIENTS:
            number = len(self.present) + len(self.gone)
            client, socket, _ = self.join(since, PLAIN, f"c{number}")
            self.present.append(Heard(self.redis, since or 0, client, socket))

    def enter_at_newest(self) -> None:
        self.enter(self.redis.ever[-1] if self.redis.ever else 0)

    def come_back(self) -> None:
        self.enter(self.gone[-1].position if self.gone else 0)

    def leave(self) -> None:
        """As the subscriptions do."""
        if not self.present:
            return
        heard = self.present.pop(0)
        client, socket = heard.client, heard.socket
        client.closed = True
        subscription = client.subscriptions.pop(NEWS.name)
        if subscription.interested:
            self.node.hub.leave(self.node.open(), subscription)
            self.interests.release(NEWS.name)
        if subscription.task is not None:
            subscription.task.cancel()
        self.node.hub.outboxes.flush()
        heard.listen()
        socket.slow, socket.waiting = False, 0
        self.gone.append(heard)

    def slow(self) -> None:
        if self.present:
            self.present[-1].socket.slow = True

    def drain(self) -> None:
        for heard in self.present:
            heard.socket.slow, heard.socket.waiting = False, 0

    def live(self) -> None:
        self.redis.publish()
        self.redis.flood()

    def wait(self) -> None:
        """For nothing but the next turn of the loop."""

    async def settle(self) -> None:
        for _ in range(200):
            self.redis.accept()
            self.redis.flood()
            self.redis.answer()
            await turn()
            self._listen()
            if self.redis.quiet and not self.tasks._tasks:
                break

    async def end(self, *, busy: bool) -> None:
        """A last outage ends, after which everything is there; then messages come as ever.

        Without another message if it is not ``busy``; else some come while the log is read.
        """
        self.redis.cut()
        self.redis.back()
        self.drain()
        if busy:
            for step in ("flood", "read_log", "live", "live", "live"):
                await self.step(step)
        await self.settle()
        for heard in self.present:
            heard.judge(left=False)
        for _ in range(2):
            self.live()
            await self.settle()
        assert self.redis.quiet
        assert not self.tasks._tasks


BEGINNINGS = [
    ["enter"],
    ["enter", "settle"],
    ["enter", "settle", "live"],
    ["enter", "enter", "settle"],
    ["publish", "enter", "enter", "settle"],  # nobody has heard anything live
]
EVER = ["enter", "publish", "live", "flood", "read_log", "answer", "settle"]
AT_TIMES = [
    *("lose", "outage", "cut", "back", "fail", "answer_last", "accept", "deliver", "wait"),
    *("expire", "save", "wipe", "restart", "fail_over", "fail_over_in_time"),
    *("enter_at_newest", "come_back", "leave", "slow", "drain"),
]


@st.composite
def histories(draw: st.DrawFn) -> list[str]:
    """Steps, of which not everything happens in each history: less of it hides what else went wrong."""
    beginning = draw(st.sampled_from(BEGINNINGS))
    some = draw(st.lists(st.sampled_from(AT_TIMES), unique=True, min_size=1, max_size=5))
    if {"cut", "restart", "fail_over", "fail_over_in_time"} & set(some):
        some.append("back")
    step = st.sampled_from(EVER + some * 2)
    # Hypothesis's lists are short as a rule, and what goes wrong in few steps is soon found.
    return beginning + draw(st.lists(step, max_size=12) | st.lists(step, min_size=12, max_size=30))


async def play(world: World, steps: list[str], *, busy: bool) -> None:
    for step in steps:
        await (world.settle() if step == "settle" else world.step(step))
    await world.end(busy=busy)
    for heard in world.gone:
        heard.judge(left=True)
    for heard in world.present:
        heard.judge(left=False)


# Short ways to what a random history comes to now and then only: with how much is retained, the size of
# a page, how much is held, and whether the end is busy.
KNOWN: list[tuple[str, int, int, int, bool]] = [
    ("enter settle", 1, 1, 0, True),
    ("enter settle", 1, 1, 3, True),
    ("enter settle cut publish back live", 1_000, 3, 3, False),
    ("enter settle restart publish back live", 1, 1, 0, False),
    ("enter publish slow settle publish wipe enter drain settle live", 1, 1, 0, False),
    ("enter publish slow settle publish wipe publish drain settle", 1, 1, 0, False),
    (
        "enter publish enter slow settle live restart drain wait wait answer wait wait",
        1,
        1,
        0,
        False,
    ),
    ("enter settle enter publish answer cut back publish expire", 1, 1, 0, False),
    ("publish enter enter settle restart back live", 1, 1, 0, False),
    ("publish enter enter settle lose live", 1, 1, 0, False),
    ("publish enter enter settle enter restart answer back live", 1, 1, 0, False),
    ("enter settle enter enter lose live answer read_log read_log restart", 1, 1, 0, False),
    ("enter settle enter lose live read_log read_log publish", 1, 1, 0, False),
    ("enter settle enter read_log live expire", 1, 1, 0, False),
    ("enter settle enter publish publish answer_last publish", 4, 2, 0, False),
    ("enter settle lose live read_log lose live", 1, 1, 1, False),
    ("enter settle enter settle publish restart back publish", 1, 1, 0, False),
    ("enter settle enter enter read_log read_log leave leave publish", 1, 1, 0, False),
    ("enter settle enter wait read_log lose live answer wait", 4, 3, 3, False),
    ("enter wait accept flood wait read_log lose live answer wait", 4, 3, 3, False),
    # Told of the loss while live, and then too slow for live delivery: the hole behind message 6 was told.
    (
        "enter settle live live live live live settle save live fail_over back slow settle drain settle",
        1_000,
        1,
        3,
        False,
    ),
    # Redis loses its data twice while what is held back is what followers have read already.
    (
        "enter publish settle wipe enter enter live publish answer answer wipe publish",
        1,
        1,
        1,
        False,
    ),
]


def known(test: Callable[..., None]) -> Callable[..., None]:
    for steps, retained, page, held, busy in KNOWN:
        for lingers in (True, False):
            test = example(steps.split(), retained, page, held, lingers, busy)(test)
    return test


@settings(max_examples=800)
@given(
    histories(),
    st.sampled_from([1, 2, 4, 1_000]),
    st.integers(1, 3),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
)
@known
def test_whatever_is_missed_comes_or_is_told_once(
    steps: list[str], retained: int, page: int, held: int, lingers: bool, busy: bool
) -> None:
    async def scenario() -> None:
        world = World(retained, 3_600 if lingers else 0)
        await play(world, steps, busy=busy)
        channel = world.node.hub.channels.get(NEWS.name)
        if channel is not None:
            assert not world.catchup._repairs, "mute"
            assert channel.buffer is None
            assert channel.away == 0
        for heard in world.present:
            # The last two messages came when all was well.
            known = heard.start not in world.redis.rolled_back
            expected = [
                message.id
                for message in world.redis.log[-2:]
                if not known or message.id > heard.start
            ]
            assert heard.events[len(heard.events) - len(expected) :] == expected
            assert channel is not None
            assert heard.client in channel.members[PLAIN]
        await world.close()

    with small(page, held):
        run(scenario())
