"""Reading the events of a group: by whom, from where, once acknowledged never again, and what a dead consumer leaves."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import pytest
import redis

from publisher import AsyncPublisher, InvalidData, Publisher, Rejected
from publisher.contract import events as contract
from publisher.contract.keys import Keys
from publisher.contract.scripts import TAKE_EVENTS
from tests.publisher.asking import ask
from tests.publisher.reply_cutter import ReplyCutter

NUMBERS = itertools.count()


@pytest.fixture
def publisher(publisher_url: str, prefix: str):
    with Publisher.from_url(publisher_url, prefix=prefix) as found:
        yield found


def tell(server: redis.Redis, keys: Keys, *users: str, most: int = 1000) -> None:
    batch = [contract.told("lost", user, "n", 1, channel="c/d") for user in users]
    (written,) = ask(server, [contract.write(keys, "n", next(NUMBERS), most, batch)])
    assert written == len(users)


def users(events, count: int) -> list[str]:
    return [each.user for each in itertools.islice(events, count)]


def pending(server: redis.Redis, keys: Keys, group: str) -> int:
    return server.xpending(keys.events, group)["pending"]


def test_an_event_is_acknowledged_when_the_next_is_asked_for(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    tell(server, keys, "a", "b", "c")
    events = publisher.events("g", start="oldest")
    assert next(events).user == "a"
    assert pending(server, keys, "g") == 3
    assert next(events).user == "b"
    assert pending(server, keys, "g") == 2
    assert next(events).user == "c"
    tell(server, keys, "d")
    assert next(events).user == "d"
    assert pending(server, keys, "g") == 1


def test_a_group_begins_with_what_comes_unless_it_asks_for_the_oldest(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    tell(server, keys, "old")
    ask(server, [contract.take(keys, contract.Consumer("new", "x"), "new")])
    tell(server, keys, "a")
    assert users(publisher.events("new"), 1) == ["a"]
    assert users(publisher.events("old", start="oldest"), 2) == ["old", "a"]


def test_consumers_of_a_group_share_the_events_and_groups_do_not(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    tell(server, keys, "a", "b")
    one, other = publisher.events("g", start="oldest"), publisher.events("g")
    assert users(one, 2) == ["a", "b"]
    tell(server, keys, "c")
    assert users(other, 1) == ["c"]
    assert users(publisher.events("h", start="oldest"), 3) == ["a", "b", "c"]


def test_what_a_dead_consumer_has_not_acknowledged_another_one_is_given(
    publisher: Publisher, server: redis.Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
):
    tell(server, keys, "a", "b", "c")
    assert users(publisher.events("g", start="oldest"), 2) == ["a", "b"]  # b is not acknowledged
    tell(server, keys, "d")
    # Not yet: the first one may live still.
    assert users(publisher.events("g"), 1) == ["d"]
    monkeypatch.setattr(contract, "_IDLE_MS", 0)
    assert users(publisher.events("g"), 3) == ["b", "c", "d"]


def test_a_consumer_that_is_busy_takes_over_what_a_dead_one_has_left_too(
    publisher: Publisher, server: redis.Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
):
    tell(server, keys, "a", "b")
    dead, busy = contract.Consumer("g", "dead"), contract.Consumer("g", "busy")
    ask(server, [contract.take(keys, dead, "oldest", most=1)])
    ask(server, [contract.take(keys, busy, "oldest", most=1)])
    monkeypatch.setattr(contract, "_IDLE_MS", 0)
    (reply,) = ask(server, [contract.take(keys, busy, "oldest", own=True, others=True)])
    assert not isinstance(reply, Exception)
    assert sorted({each.user for each in contract.parse(reply)[1]}) == ["a", "b"]


def test_a_consumer_without_anything_to_handle_is_forgotten_after_a_while(
    publisher: Publisher, server: redis.Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
):
    consumer = contract.Consumer("g", "gone")
    ask(server, [contract.take(keys, consumer, "new")])
    tell(server, keys, "a", "b")
    assert users(publisher.events("g"), 1) == ["a"]
    monkeypatch.setattr(contract, "_FORGOTTEN_MS", -1)
    tell(server, keys, "c")
    assert users(publisher.events("g"), 1) == ["c"]
    names = [each["name"] for each in server.xinfo_consumers(keys.events, "g")]
    assert b"gone" not in names
    assert len(names) == 2  # who has something to handle stays


def test_what_was_taken_long_ago_is_asked_for_again_before_it_is_given(
    publisher: Publisher, server: redis.Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
):
    tell(server, keys, "a", "b", "c")
    events = publisher.events("g", start="oldest")
    assert next(events).user == "a"
    # Another one has taken the rest meanwhile.
    found = server.xpending_range(keys.events, "g", "-", "+", 10)
    server.xclaim(keys.events, "g", "other", 0, [each["message_id"] for each in found[1:]])
    tell(server, keys, "d")
    events._reader._taken_at -= 3600
    assert next(events).user == "d"


def test_who_waits_for_events_that_nobody_tells_is_told_so_once(
    publisher: Publisher, server: redis.Redis, keys: Keys, caplog: pytest.LogCaptureFixture
):
    reader = publisher.events("g")._reader
    for _ in range(2):
        assert publisher._run(reader.take()) == []
    (warning,) = caplog.records
    assert warning.getMessage().startswith("events_from_nobody group=g advice=")
    caplog.clear()
    server.execute_command(*contract.renew(keys, "n", 10).whole())
    assert publisher._run(publisher.events("g")._reader.take()) == []
    assert not caplog.records


def test_what_was_trimmed_away_before_it_was_handled_is_not_given(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    tell(server, keys, "a", "b")
    events = publisher.events("g", start="oldest")
    assert next(events).user == "a"
    server.xtrim(keys.events, maxlen=0, approximate=False)
    events._reader._taken_at -= 3600
    tell(server, keys, "c")
    assert next(events).user == "c"
    assert pending(server, keys, "g") == 1


def test_a_group_that_redis_has_lost_goes_on_with_all_that_came_since(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    ask(server, [contract.take(keys, contract.Consumer("g", "x"), "new")])
    tell(server, keys, "a")
    events = publisher.events("g")
    assert next(events).user == "a"
    server.delete(keys.events)
    tell(server, keys, "b")
    assert next(events).user == "b"


def test_the_stream_holds_no_more_than_it_may(server: redis.Redis, keys: Keys):
    for _ in range(5):
        tell(server, keys, *map(str, range(200)), most=100)
    # Whole nodes of the stream are removed, of 100 events each.
    assert server.xlen(keys.events) <= 300


def test_the_end_of_a_dead_nodes_connections_is_told_once_and_of_a_living_ones_never(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    def run(*calls):
        return ask(server, list(calls))

    begun = contract.told("connected", "u", "n", 1, change="+", connection="n/1")
    end = contract.end(keys, "n", 1000, tell=True)
    assert run(contract.renew(keys, "n", 60)) == [[0]]
    assert run(contract.write(keys, "n", 1, 1000, [begun])) == [1]
    assert run(end) == [0]
    assert run(contract.renew(keys, "n", 60)) == [[1]]
    run(contract.leave(keys, "n"))
    assert run(contract.renew(keys, "m", 60)) == [[0, b"n"]]
    assert run(end, end) == [0, 0]
    assert run(contract.renew(keys, "m", 60)) == [[1]]
    found = list(itertools.islice(publisher.events("g", start="oldest"), 2))
    assert [each.kind for each in found] == ["connected", "disconnected"]
    assert found[1].last
    assert server.xlen(keys.events) == 2


async def test_after_a_lost_answer_no_later_event_comes_before_those_that_were_in_it(
    cutter: ReplyCutter, prefix: str, server: redis.Redis, keys: Keys
):
    async with AsyncPublisher.from_url(cutter.url, prefix=prefix) as cut_off:
        events = cut_off.events("g", start="oldest")
        assert await events.take(own=False) == []
        tell(server, keys, "under way")
        assert [each.user for each in await events.take(own=False)] == ["under way"]
        tell(server, keys, "first")
        cutter.cut(TAKE_EVENTS.sha.encode(), meanwhile=lambda: tell(server, keys, "second"))
        assert [each.user for each in await events.take(own=False, most=1)] == [
            "under way",
            "first",
        ]
        assert [each.user for each in await events.take(own=False)] == ["second"]
    assert cutter.cut_replies == 1


def test_what_was_trimmed_away_before_a_group_was_given_it_is_told(
    publisher: Publisher,
    server: redis.Redis,
    keys: Keys,
    caplog: pytest.LogCaptureFixture,
):
    server.execute_command(*contract.renew(keys, "n", 10).whole())
    tell(server, keys, "a", "b", "c", "d", "e")
    events = publisher.events("g", start="oldest")
    reader = events._reader
    assert [each.user for each in publisher._run(reader.take(most=2))] == ["a", "b"]
    server.xtrim(keys.events, maxlen=2, approximate=False)
    assert [each.user for each in publisher._run(reader.take(own=False))] == ["d", "e"]
    # Redis 7.0 counts for a group what it was given, and not what it has passed over.
    is_told = not server.info()["redis_version"].startswith("7.0.")
    told = ["events_missed group=g count=1"] if is_told else []
    assert [each.getMessage().partition(" advice=")[0] for each in caplog.records] == told
    tell(server, keys, "f")
    assert [each.user for each in publisher._run(reader.take(own=False))] == ["f"]
    server.xtrim(keys.events, maxlen=0, approximate=False)  # all of it was given
    tell(server, keys, "g")
    assert [each.user for each in publisher._run(reader.take(own=False))] == ["g"]
    assert len(caplog.records) == len(told)


def began(connection: str, user: str = "u") -> contract.Told:
    return contract.told("connected", user, "n", 1, change="+", connection=connection)


def test_a_node_whose_end_others_have_told_writes_nothing_until_it_has_renewed_its_lease(
    server: redis.Redis, keys: Keys
):
    """Else it would count a connection whose end nobody tells: the user would never be the first again, nor the last."""

    def run(*calls):
        return ask(server, list(calls))

    run(contract.renew(keys, "n", 60), contract.renew(keys, "m", 60))
    assert run(contract.write(keys, "n", 1, 1000, [began("n/1")], 60)) == [1]
    run(contract.leave(keys, "n"))
    late = contract.write(keys, "n", 2, 1000, [began("n/2", "v")], 60)
    assert run(late) == [contract.LEASE_OVER]
    assert run(contract.end(keys, "n", 1000, tell=True)) == [0]
    assert run(late) == [contract.LEASE_OVER]
    assert not server.exists(keys.connected_at("n"), keys.connected)
    assert run(contract.renew(keys, "n", 60)) == [[0]]
    assert run(late) == [1]


def test_who_writes_renews_the_lease_and_what_is_noted_expires(server: redis.Redis, keys: Keys):
    ask(server, [contract.renew(keys, "n", 5)])
    before = server.zscore(keys.reporting, "n")
    ask(server, [contract.write(keys, "n", 1, 1000, [began("n/1")], 60)])
    assert server.zscore(keys.reporting, "n") >= before + 50_000
    assert server.ttl(keys.connected_at("n")) > 0
    # A node that tells of no connections has no lease.
    tell(server, keys, "u")
    assert server.ttl(keys.connected_at("n")) > 0


def test_a_batch_that_failed_halfway_may_be_written_again(server: redis.Redis, keys: Keys):
    server.set(keys.events, "no stream")
    failing = contract.write(keys, "n", 1, 1000, [began("n/1")])
    assert isinstance(ask(server, [failing])[0], Exception)
    server.delete(keys.events, keys.connected_at("n"))
    assert ask(server, [failing]) == [1]


@pytest.mark.parametrize("group", ["", 5, None])
def test_a_bad_group_is_refused_before_anything_is_sent(publisher: Publisher, group):
    with pytest.raises(InvalidData):
        publisher.events(group)


def test_a_bad_start_is_refused(publisher: Publisher):
    with pytest.raises(InvalidData, match="'new' or 'oldest'"):
        publisher.events("g", start="0")


def test_an_error_that_does_not_pass_is_raised(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    server.set(keys.events, "no stream")
    with pytest.raises(Rejected):
        next(publisher.events("g"))


async def test_asyncio_gives_the_same_events(
    publisher_url: str, prefix: str, server: redis.Redis, keys: Keys
):
    tell(server, keys, "a", "b")
    async with AsyncPublisher.from_url(publisher_url, prefix=prefix) as publisher:
        found = []
        async for event in publisher.events("g", start="oldest"):
            found.append(event.user)
            if len(found) == 2:
                break
    assert found == ["a", "b"]
    assert pending(server, keys, "g") == 1


def test_the_command_line_prints_events_as_they_come(
    publisher_url: str, prefix: str, server: redis.Redis, keys: Keys
):
    tell(server, keys, "a", "b")
    command = [sys.executable, "-m", "publisher", "--prefix", prefix, "events", "--group", "g"]
    with subprocess.Popen(
        [*command, "--start", "oldest"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PUBLISHER_REDIS_URL": publisher_url},
    ) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.kill()
    assert [each["user"] for each in lines] == ["a", "b"]
    assert lines[0] == {
        "kind": "lost",
        "user": "a",
        "node": "n",
        "timestamp": 1,
        "id": lines[0]["id"],
        "channel": "c/d",
    }
