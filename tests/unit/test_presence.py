"""Who is noted to be in a channel: by the node, and in Redis while that is in trouble."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.backplane.presence import PresenceTable, PresenceWriter
from gateway.backplane.presence_reader import PresenceReader
from gateway.backplane.servers import Servers
from gateway.node.connection import Subscription
from gateway.node.presence import PresentUsers
from gateway.node.presence_changes import PresenceChanges
from gateway.node.stats import Stats
from publisher.contract.calls import Call
from publisher.contract.channels import Namespace, Presence, parse_channel
from publisher.contract.keys import Keys
from publisher.errors import Rejected, Unavailable
from tests.support.waiting import until
from tests.unit.bench import Bench
from tests.unit.fakes import Node, make_connection
from tests.unit.wire import messages_in

KEYS = Keys()
NAMESPACES = {"rooms": Namespace("rooms", presence=Presence()), "halls": Namespace("halls")}
ROOM, HALL = parse_channel("rooms/a"), parse_channel("halls/a")


def test_only_a_users_first_and_last_subscription_count() -> None:
    changes: list[tuple[str, str]] = []
    stats = Stats()
    present = PresentUsers(NAMESPACES, lambda *change: changes.append(change), stats)
    present.enter(ROOM, "u")
    present.enter(ROOM, "u")
    present.enter(HALL, "u")
    present.leave(ROOM, "u")
    present.leave(HALL, "u")
    assert changes == [("rooms/a", "u")]
    assert stats.presence_users == 1
    assert dict(present.users("rooms/a")) == {"u": 1}
    present.leave(ROOM, "u")
    assert changes == [("rooms/a", "u")] * 2
    assert not list(present.channels())
    assert not stats.presence_users


class Redis:
    """Keeps who is there as the script does; ``error`` comes in place of an answer."""

    def __init__(self) -> None:
        self.error: Unavailable | None = None
        self.away: set[str] = set()
        self.calls = 0
        self.there: dict[str, set[str]] = {}

    async def call(self, call: Call) -> Any:
        await asyncio.sleep(0)
        self.calls += 1
        if self.error is not None:
            raise self.error
        _, key, _, _, count, _, _, *members = map(str, call.arguments)
        there = self.there.setdefault(key, set())
        there |= set(members[: int(count)])
        there -= set(members[int(count) :])
        return None


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def writer(redis: Redis) -> PresenceWriter:
    pipeline: Any = redis
    table = PresenceTable(KEYS, "n", 10, NAMESPACES)
    servers = Servers(away=lambda key: key in redis.away)
    return PresenceWriter(pipeline, table, lambda: 0.0, Stats(), servers)


async def test_what_could_not_be_written_is_written_later_as_it_is_then(
    redis: Redis, writer: PresenceWriter
) -> None:
    for user in ("stays", "leaves"):
        writer.present.enter(ROOM, user)
    redis.error = Unavailable("cut", maybe_sent=True)
    with pytest.raises(Unavailable):
        await writer.flush()
    writer.present.leave(ROOM, "leaves")
    redis.error = None
    await writer.flush()
    assert redis.there == {KEYS.presence("rooms/a"): {"n/stays"}}
    calls = redis.calls
    await writer.flush()
    assert redis.calls == calls


async def test_who_leaves_while_they_are_written_is_written_again(
    redis: Redis, writer: PresenceWriter
) -> None:
    writer.present.enter(ROOM, "u")
    writing = asyncio.create_task(writer.flush())
    await asyncio.sleep(0)
    writer.present.leave(ROOM, "u")
    await writing
    await writer.flush()
    assert redis.there == {KEYS.presence("rooms/a"): set()}


async def test_what_redis_refuses_is_told_once_and_tried_with_the_next_renewal(
    redis: Redis, writer: PresenceWriter, caplog: pytest.LogCaptureFixture
) -> None:
    redis.error = Rejected("WRONGTYPE", maybe_sent=False)
    writer.present.enter(ROOM, "u")
    await writer.flush()
    writer.renew()
    await writer.flush()
    assert redis.calls == 2
    assert caplog.text.count("presence_refused") == 1
    redis.error = None
    writer.renew()
    await writer.flush()
    assert redis.there == {KEYS.presence("rooms/a"): {"n/u"}}


async def test_a_server_that_is_away_is_told_when_it_is_back(
    redis: Redis, writer: PresenceWriter
) -> None:
    redis.away = {KEYS.presence("rooms/a")}
    writer.present.enter(ROOM, "u")
    await writer.flush()
    assert redis.calls == 0
    redis.away = set()
    writer.renew()
    await writer.flush()
    assert redis.there == {KEYS.presence("rooms/a"): {"n/u"}}


async def test_a_crowd_is_noted_500_users_in_a_call(redis: Redis, writer: PresenceWriter) -> None:
    users = [f"u{number}" for number in range(1_200)]
    for user in users:
        writer.present.enter(ROOM, user)
    await writer.flush()
    assert redis.calls == 3
    assert redis.there == {KEYS.presence("rooms/a"): {f"n/{user}" for user in users}}


async def test_members_are_told_of_changes_unless_it_is_not_known_who_may_hear_them() -> None:
    node = Node()
    channel = node.hub.open(ROOM, keeps_log=False)
    connection, socket = make_connection()
    subscription = connection.subscriptions[ROOM.name] = Subscription(connection, ROOM)
    node.hub.go_live(channel, subscription)
    nothing: Any = None
    announced = {"rooms": Namespace("rooms", presence=Presence(announce=True))}
    missed: list[Subscription] = []
    changes = PresenceChanges(node.hub, nothing, nothing, announced, missed.append)
    node.hub.hold()
    changes.hear(ROOM.name, b'{"joined":["a"]}')
    node.hub.release()
    changes.hear(ROOM.name, b'{"left":["b","c"],"joined":["d"],"later":1}')
    node.hub.outboxes.flush()
    told = [{"type": "joined", "users": ["d"]}, {"type": "left", "users": ["b", "c"]}]
    assert messages_in(socket.received) == [{**each, "channel": ROOM.name} for each in told]
    hall = node.hub.open(HALL, keeps_log=False)
    changes.unheard([channel, hall])
    assert missed == [subscription]


async def test_logs_are_compared_before_it_is_asked_anew_who_is_there() -> None:
    bench = Bench()
    missed: list[Subscription] = []
    nothing: Any = None
    announced = {"news": Namespace("news", presence=Presence(announce=True))}
    client, _, task = bench.join()
    await bench.redis.advance()
    bench.redis.answer()
    await task
    bench.catchup._presence = PresenceChanges(
        bench.node.hub, nothing, nothing, announced, missed.append
    )
    check = asyncio.create_task(bench.catchup.check_all())
    await until(lambda: bench.redis.reads)
    assert missed == []
    bench.redis.answer()
    await check
    assert missed == list(client.subscriptions.values())
    await bench.tasks.aclose()


class Counting:
    """A server that does not answer, and another one; ``asked`` is what the first is asked about."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[list[bytes]]] = []

    async def call(self, call: Call) -> Any:
        if str(call.key) == KEYS.presence("rooms/other"):
            return [b"0", b"n/u"]
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


async def test_of_many_channels_a_few_are_read_at_a_time_and_a_silent_server_holds_up_no_other() -> (
    None
):
    redis = Counting()
    calls: Any = redis
    servers = Servers(of=lambda key: str(key == KEYS.presence("rooms/other")))
    own = PresentUsers(NAMESPACES, lambda _channel, _user: None, Stats())
    reader = PresenceReader(calls, KEYS, "here", own, servers)
    reading = [asyncio.create_task(reader.users(f"rooms/{number}")) for number in range(200)]
    await until(lambda: redis.asked)
    assert await reader.users("rooms/other") == ["u"]
    assert len(redis.asked) == 50
    most = 0
    while not all(each.done() for each in reading):
        most = max(most, sum(not each.done() for each in redis.asked))
        for each in redis.asked:
            if not each.done():
                each.set_result([b"0", b"n/x"])
        await asyncio.sleep(0)
    assert most <= 50
    assert [each.result() for each in reading] == [["x"]] * 200
