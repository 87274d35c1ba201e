"""The scripts that only the gateways call, against a real server."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import redis

from publisher.contract.calls import Argument, Call, parse_log, read_log
from publisher.contract.keys import Keys
from publisher.contract.message import NO_POSITION
from publisher.contract.scripts import ACQUIRE, LIVE_NODES, RENEW, RENEW_NODE, Script
from tests.publisher.asking import ask

LEASE_MS = 60_000
MAX_MS = 900_000


@pytest.fixture
def call(server: redis.Redis, keys: Keys):
    further = {
        ACQUIRE: [keys.before("u")],
        RENEW: [keys.before("u"), keys.disconnected("u")],
    }

    def run(script: Script, key: str, *arguments: Argument) -> Any:
        (reply,) = ask(server, [Call.run(script, [key, *further.get(script, ())], *arguments)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    return run


@pytest.fixture
def places(keys: Keys) -> str:
    return keys.connections("u")


def is_taken(reply: Any) -> bool:
    return isinstance(reply, int) and reply > 0


def now_ms() -> int:
    return int(time.time() * 1000)


def test_a_place_is_taken_for_the_time_of_the_lease(call, server: redis.Redis, places: str):
    before = now_ms()
    assert is_taken(call(ACQUIRE, places, "n/1", 5, LEASE_MS, MAX_MS, "-"))
    assert before <= server.zscore(places, "n/1") - LEASE_MS <= now_ms()
    assert 0 < server.pttl(places) <= LEASE_MS


@pytest.mark.one_server("its counts of commands are looked at")
def test_a_users_first_place_takes_five_commands(call, server: redis.Redis, places: str):
    server.config_resetstat()
    assert is_taken(call(ACQUIRE, places, "n/1", 5, LEASE_MS, MAX_MS, "1640995200"))
    counted = {
        name.removeprefix("cmdstat_"): each["calls"]
        for name, each in server.info("commandstats").items()
    }
    of_the_script = {name: n for name, n in counted.items() if name[0] in "gptz" and name != "ping"}
    assert of_the_script == {"get": 1, "time": 1, "zcard": 1, "zadd": 1, "pexpire": 1}


def test_at_the_limit_the_holders_are_named_and_nothing_is_taken(
    call, server: redis.Redis, places: str
):
    for n in range(5):
        assert is_taken(call(ACQUIRE, places, f"n/{n}", 5, LEASE_MS, MAX_MS, "-"))
    holders = call(ACQUIRE, places, "n/5", 5, LEASE_MS, MAX_MS, "-")
    assert dict(zip(holders[::2], map(float, holders[1::2]), strict=True)) == dict(
        server.zrange(places, 0, -1, withscores=True)
    )
    assert server.zcard(places) == 5


def test_the_dead_are_dropped_unless_they_have_come_back(call, server: redis.Redis, places: str):
    server.zadd(places, {"dead/1": now_ms() + 5_000, "back/1": now_ms() + 5_000})
    seen = call(ACQUIRE, places, "n/1", 2, LEASE_MS, MAX_MS, "-")
    call(RENEW, places, LEASE_MS, 2, MAX_MS, "back/", "", "back/1")
    assert is_taken(call(ACQUIRE, places, "n/1", 2, LEASE_MS, MAX_MS, "-", *seen))
    assert sorted(server.zrange(places, 0, -1)) == [b"back/1", b"n/1"]


def test_a_holder_may_take_its_own_place_again_at_the_limit(call, places: str):
    assert is_taken(call(ACQUIRE, places, "n/0", 1, LEASE_MS, MAX_MS, "-"))
    assert is_taken(call(ACQUIRE, places, "n/0", 1, LEASE_MS, MAX_MS, "-"))
    assert call(ACQUIRE, places, "n/1", 1, LEASE_MS, MAX_MS, "-")[::2] == [b"n/0"]


def test_the_limit_is_exact_when_many_ask_at_once(call, server: redis.Redis, places: str):
    start = threading.Barrier(8)
    taken: list[str] = []

    def ask(node: int) -> None:
        start.wait()
        names = (f"{node}/{n}" for n in range(10))
        taken.extend(
            name
            for name in names
            if is_taken(call(ACQUIRE, places, name, 5, LEASE_MS, MAX_MS, "-"))
        )

    threads = [threading.Thread(target=ask, args=(node,)) for node in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 5
    assert sorted(server.zrange(places, 0, -1)) == sorted(each.encode() for each in taken)


def test_a_lease_that_has_run_out_frees_its_place(call, server: redis.Redis, places: str):
    server.zadd(places, {"dead/1": now_ms() - 1, "live/1": now_ms() + LEASE_MS})
    assert is_taken(call(ACQUIRE, places, "n/1", 2, LEASE_MS, MAX_MS, "-"))
    assert sorted(server.zrange(places, 0, -1)) == [b"live/1", b"n/1"]


def test_a_short_lease_does_not_shorten_the_life_of_the_others(
    call, server: redis.Redis, places: str
):
    call(ACQUIRE, places, "n/1", 5, LEASE_MS, MAX_MS, "-")
    call(ACQUIRE, places, "n/2", 5, 1_000, MAX_MS, "-")
    call(RENEW, places, 1_000, 5, MAX_MS, "n/", "", "n/2")
    assert server.pttl(places) > LEASE_MS - 10_000


def test_a_renewal_moves_the_leases(call, server: redis.Redis, places: str):
    expiry = now_ms() + 5_000
    server.zadd(places, {"n/1": expiry, "n/2": expiry})
    server.pexpire(places, 5_000)
    assert call(RENEW, places, LEASE_MS, 2, MAX_MS, "n/", "", "n/1") == [[], [b"n/2"], []]
    assert server.zscore(places, "n/1") > expiry
    assert server.zscore(places, "n/2") == expiry
    assert server.pttl(places) > 5_000


def test_what_was_lost_is_taken_again_up_to_the_limit_the_first_first(
    call, server: redis.Redis, places: str
):
    server.zadd(
        places, {"n/out": now_ms() - 1, "n/held": now_ms() + 5_000, "other/1": now_ms() + 5_000}
    )
    given = ("n/out", "n/gone", "n/late", "n/held")
    assert call(RENEW, places, LEASE_MS, 4, MAX_MS, "n/", "", *given) == [[b"n/late"], [], []]
    assert sorted(server.zrange(places, 0, -1)) == [b"n/gone", b"n/held", b"n/out", b"other/1"]
    assert server.zscore(places, "n/out") > now_ms()


def test_a_renewal_without_room_for_any_creates_nothing(call, server: redis.Redis, places: str):
    assert call(RENEW, places, LEASE_MS, 0, MAX_MS, "n/", "", "n/1") == [[b"n/1"], [], []]
    assert not server.exists(places)


@pytest.mark.parametrize(
    ("issued", "before", "revoked"),
    [
        ("1640995200", "1640995200", False),
        ("1640995199.5", "1640995200", True),
        ("1640995200.25", "1640995200.5", True),
        ("", "1", True),
        ("-", "1640995200", False),
        ("1", None, False),
        ("", None, False),
    ],
)
def test_no_place_is_taken_with_a_token_that_was_issued_before_the_revocation(
    call, server: redis.Redis, keys: Keys, places: str, issued: str, before: str, revoked: bool
):
    if before is not None:
        server.set(keys.before("u"), before)
    reply = call(ACQUIRE, places, "n/1", 5, LEASE_MS, MAX_MS, issued)
    assert (reply == 0) is revoked
    assert server.zcard(places) == (0 if revoked else 1)


def test_a_place_says_when_it_was_taken(call, places: str):
    earliest = time.time_ns() // 1_000
    at = call(ACQUIRE, places, "n/1", 5, LEASE_MS, MAX_MS, "")
    assert earliest <= at <= time.time_ns() // 1_000


def test_a_renewal_brings_what_has_ended_since_the_oldest_connection_came(
    call, server: redis.Redis, keys: Keys, places: str
):
    renew = (RENEW, places, LEASE_MS, 5, MAX_MS, "n/")
    assert call(*renew, 2_000, "n/1") == [[], [], [b""]]
    server.set(keys.before("u"), "1640995200.5")
    at = 1_640_995_200_000_000
    server.zadd(keys.disconnected("u"), {"a:{}": at - 1, "b:{}": at, "c:{}": at + 1})
    found = [b"1640995200.5", b"b:{}", b"%d" % at, b"c:{}", b"%d" % (at + 1)]
    assert call(*renew, at, "n/1") == [[], [], found]
    assert call(*renew, "") == [[], [b"n/1"], []]


def test_a_nodes_renewal_tells_whether_its_lease_was_held_until_now(
    call, server: redis.Redis, keys: Keys
):
    assert call(RENEW_NODE, keys.nodes, "a", 10_000, 60_000, 5_000, 3_000, 60_000) == 0
    assert call(RENEW_NODE, keys.nodes, "a", 10_000, 60_000, 5_000, 3_000, 60_000) == 1
    server.zadd(keys.nodes, {"a": now_ms() - 1})
    assert call(RENEW_NODE, keys.nodes, "a", 10_000, 60_000, 5_000, 3_000, 60_000) == 0
    server.zadd(keys.nodes, {"a": now_ms() - 60_001})
    assert call(RENEW_NODE, keys.nodes, "a", 10_000, 60_000, 5_000, 3_000, 60_000) == 0


def test_nodes_live_as_long_as_they_renew_their_lease(call, server: redis.Redis, keys: Keys):
    call(RENEW_NODE, keys.nodes, "a", 10_000, 60_000, 5_000, 3_000, 60_000)
    server.zadd(keys.nodes, {"silent": now_ms() - 1, "forgotten": now_ms() - 60_001})
    assert call(LIVE_NODES, keys.nodes) == [b"a"]
    call(RENEW_NODE, keys.nodes, "b", 10_000, 60_000, 5_000, 3_000, 60_000)
    assert call(LIVE_NODES, keys.nodes) == [b"a", b"b"]
    assert b"forgotten" not in server.zrange(keys.nodes, 0, -1)
    assert b"silent" in server.zrange(keys.nodes, 0, -1)


def test_after_redis_was_away_no_node_counts_as_gone_for_a_while(
    call, server: redis.Redis, keys: Keys
):
    def renew(node: str) -> None:
        call(RENEW_NODE, keys.nodes, node, 10_000, 60_000, 5_000, 3_000, 60_000)

    renew("a")
    long_ago = now_ms() - 600_000
    server.zadd(keys.nodes, {"a": long_ago, "late": long_ago, "/beat": long_ago})
    renew("a")
    assert b"late" in call(LIVE_NODES, keys.nodes)
    renew("a")
    assert b"late" in call(LIVE_NODES, keys.nodes)
    server.zadd(keys.nodes, {"/grace": now_ms() - 1})
    assert call(LIVE_NODES, keys.nodes) == [b"a"]
    # While anybody renews, a lease that runs out means what it says.
    server.zadd(keys.nodes, {"late": now_ms() - 1, "/beat": now_ms() - 4_000})
    renew("a")
    assert call(LIVE_NODES, keys.nodes) == [b"a"]


def test_a_page_of_the_log_begins_after_what_the_user_has_confirmed(
    server: redis.Redis, keys: Keys
):
    channel = "run-results/s"
    server.zadd(keys.log(channel), {b"%d:%d:n:1" % (n, n - 1): n for n in range(1, 6)})
    server.zadd(keys.confirmed(channel), {"u": 2})

    def read(user: str, since: int | None, limit: int) -> tuple[int, int, list[int]]:
        request = read_log(keys, channel, user, since, limit)
        page = parse_log(ask(server, [request])[0])
        return page.position, page.newest, [message.id for message in page.messages]

    assert read("u", None, 2) == (2, 5, [3, 4])
    assert read("u", 4, 2) == (4, 5, [5])
    assert read("stranger", None, 9) == (NO_POSITION, 5, [1, 2, 3, 4, 5])
    assert read("u", 5, 9) == (5, 5, [])


@pytest.mark.parametrize("id_", [1_795_365_451_321_934, 1_795_365_000_000_000, 2**52 - 1])
def test_a_position_is_read_to_the_microsecond(server: redis.Redis, keys: Keys, id_: int):
    server.zadd(keys.confirmed("run-results/s"), {"u": id_})
    request = read_log(keys, "run-results/s", "u", None, 9)
    assert parse_log(ask(server, [request])[0]).position == id_
