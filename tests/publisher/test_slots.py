"""What a cluster says of its slots, and what is believed of it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from redis.exceptions import AskError, MovedError, ResponseError

from publisher import InvalidURL, Rejected, Unavailable
from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.contract.redis_url import check_url, holds_password, parse_cluster_url
from publisher.contract.scripts import GRANT
from publisher.transport.cluster import (
    LEAST_SECONDS,
    MAP_SECONDS,
    SLOTS,
    Cluster,
    Map,
    Slots,
    slot_of,
)
from publisher.transport.redirects import Redirect, leads_nowhere, redirect
from publisher.transport.redis_py import Connector, Host
from publisher.transport.topology import Topology, asyncio_topology, blocking_topology

A, B, C, SEED = ("a", 1), ("b", 2), ("c", 3), ("seed", 9)
DOWN = Unavailable("refused", maybe_sent=False)


def test_the_slot_of_a_key_is_that_of_its_tag():
    keys = Keys()
    assert slot_of("123456789") == 12_739  # of the specification
    assert slot_of(keys.log("orders/ü")) == slot_of(keys.last("orders/ü"))
    assert slot_of(keys.live("orders/ü")) == slot_of("orders/ü")


def test_a_calls_key_is_its_first():
    assert Call(("GET", "k")).key == "k"
    assert Call.run(GRANT, ["k", "l"], "x").key == "k"
    assert Call(("TIME",)).key is None
    assert Call(("PUBLISH", "control", "x")).key is None
    assert Call(("SPUBLISH", "live", "x")).key == "live"


# -- its URL ---------------------------------------------------------------------------------


URL = "redis+cluster://app:p%40ss@one:7000,[::1],two?client_name=me"


@pytest.mark.parametrize("make", [lambda url: blocking_topology(url, 5.0), asyncio_topology])
def test_publishers_and_gateways_read_the_same_in_its_url(make: Any):
    topology: Topology = pickle.loads(pickle.dumps(make(URL)))
    assert topology.cluster is not None
    assert topology.cluster.seeds == (("one", 7000), ("::1", 6379), ("two", 6379))
    assert topology.address == "one:7000,[::1]:6379,two:6379"
    connection = topology.cluster.at(("three", 7))()
    assert (connection.host, connection.port) == ("three", 7)
    assert (connection.username, connection.password) == ("app", "p@ss")


def test_with_tls_every_server_is_reached_by_it():
    parts = parse_cluster_url("rediss+cluster://one/?ssl_ca_certs=/etc/ca.pem")
    assert parts is not None
    assert parts.servers == "rediss://one:6379?ssl_ca_certs=/etc/ca.pem"
    topology = asyncio_topology("rediss+cluster://one")
    assert topology.servers.tls
    assert topology.servers().check_hostname is True


@pytest.mark.parametrize("url", ["redis+cluster://one/0", "redis+cluster://one,two?db=3"])
def test_a_database_of_a_cluster_is_refused(url: str):
    with pytest.raises(InvalidURL, match="has one database"):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://u:hidden@one,",
        "redis+cluster://u:hidden@one:x",
        "redis+cluster://u:hid@den@one",
        "redis+cluster://u:hid/den@one",
        "redis+cluster://u:hid?den@one",
        "redis+cluster://u:hid#den@one",
    ],
)
def test_a_url_of_a_cluster_that_cannot_be_read_is_not_repeated(url: str):
    with pytest.raises(InvalidURL) as caught:
        check_url(url)
    assert "hid" not in str(caught.value)
    assert "den" not in str(caught.value)


def test_a_password_of_a_cluster_is_one():
    assert holds_password(URL)
    assert not holds_password("redis+cluster://one,two:7000")


# -- its map ---------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Cluster:
    return Cluster((SEED,), Connector(object, {}, 1))


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def moves() -> list[int]:
    return []


@pytest.fixture
def known(cluster: Cluster, now: list[float], moves: list[int]) -> Map:
    return Map(cluster, lambda: now[0], lambda: moves.append(1))


INFO = b"cluster_state:ok\r\ncluster_current_epoch:7\r\ncluster_my_epoch:1\r\n"


def halves(first: Host, second: Host, *replicas: Host) -> Slots:
    return Slots([(0, 8_191, first), (8_192, SLOTS - 1, second)], replicas)


def play(known: Map, **answers: Slots | Unavailable) -> str:
    """Answer as these hosts; returns who was asked."""
    asked = ""
    search = known.look()
    try:
        host = next(search)
        while True:
            asked += host[0] + " "
            answer = answers.get(host[0], DOWN)
            host = search.throw(answer) if isinstance(answer, Unavailable) else search.send(answer)
    except StopIteration:
        return asked.strip()


def server(name: bytes | None, port: int, *more: Any) -> list[Any]:
    return [name, port, b"id", *more]


def test_the_map_is_read_from_what_a_server_answers(cluster: Cluster):
    reply = [
        [0, 5, server(b"a", 1), server(b"c", 3)],
        # The one that was asked, in two ways; and names that are preferred and not known.
        [6, 6, server(b"", 4)],
        [7, 7, server(None, 4, [])],
        [8, 8, server(b"?", 5, [b"ip", b"10.0.0.1"])],
        [9, 9, server(b"?", 5, [])],
    ]
    slots = cluster.read([INFO, reply], SEED)
    assert [slots.owner(each) for each in (0, 5, 6, 7, 8, 9, 10)] == [
        *(A, A, ("seed", 4), ("seed", 4), ("10.0.0.1", 5), None, None)
    ]
    assert slots.primaries == (A, ("seed", 4), ("10.0.0.1", 5))
    assert slots.replicas == (C,)


def test_addresses_are_turned_into_those_that_can_be_reached():
    cluster = Cluster((SEED,), Connector(object, {}, 1), lambda host: (host[0] + "!", host[1]))
    assert cluster.read([INFO, [[0, 5, server(b"a", 1)]]], SEED).primaries == (("a!", 1),)


def test_who_is_in_no_cluster_says_so(cluster: Cluster):
    with pytest.raises(Rejected, match="single server"):
        cluster.read(2 * [ResponseError("ERR This instance has cluster support disabled")], SEED)
    with pytest.raises(Rejected, match=r"NOPERM .*right"):
        cluster.read([INFO, ResponseError("NOPERM User u has no permissions")], SEED)
    with pytest.raises(Unavailable, match="no slots"):
        cluster.read([INFO, []], SEED)


def test_how_many_elections_a_server_knows_of_is_read(cluster: Cluster):
    reply = [[0, 5, server(b"a", 1)]]
    assert cluster.read([INFO, reply], SEED).epoch == 7
    assert cluster.read([b"cluster_state:ok\r\n", reply], SEED).epoch is None
    # It may not be asked for more.
    assert cluster.read([ResponseError("NOPERM no permissions"), reply], SEED).epoch is None
    # What it knows is from before its restart.
    with pytest.raises(Unavailable, match="LOADING") as caught:
        cluster.read([ResponseError("LOADING Redis is loading"), reply], SEED)
    assert caught.value.retryable


def test_the_slots_that_have_moved_are_told():
    before = halves(A, B)
    after = before.copy()
    assert not after.moved_since(before)
    assert after.move(3, B)
    assert not after.move(3, B)
    assert after.moved_since(before) == {3: B}
    after.move(3, C)
    assert after.primaries == (A, C, B)


def test_at_the_start_the_seeds_are_asked(known: Map):
    assert known.stale
    assert play(known, seed=halves(A, B)) == "seed"
    assert not known.stale
    assert known.owner("123456789") == B
    assert known.owner(None) == A


def test_later_the_servers_are_asked_in_turn_and_a_seed_last(known: Map):
    play(known, seed=halves(A, B, C))
    same = halves(A, B, C)
    assert {play(known, a=same, b=same, c=same) for _ in range(3)} == {"a", "b", "c"}
    *others, last = play(known).split()
    assert set(others) < {"a", "b", "c"}
    assert last == "seed"


def test_where_all_servers_have_got_other_addresses_a_seed_tells_them(now: list[float]):
    """None of the former ones answers, and each is waited for: by then the doubts of the first have passed."""
    seeds = tuple((f"seed{number}", 9) for number in range(3))
    known = Map(Cluster(seeds, Connector(object, {}, 1)), lambda: now[0])
    former = [(f"former{number}", 1) for number in range(9)]
    play(known, seed0=halves(former[0], former[1], *former[2:]))
    asked: list[str] = []
    for _ in range(3):
        search = known.look()
        host: Host | None = next(search)
        while host is not None:
            asked.append(host[0])
            now[0] += MAP_SECONDS
            try:
                host = search.throw(DOWN)
            except StopIteration:
                host = None
        now[0] += LEAST_SECONDS
    assert {each[0] for each in seeds} < set(asked)
    assert len(asked) == 9


def test_a_cluster_of_one_server_that_is_its_seed_is_asked_once(now: list[float]):
    known = Map(Cluster((A,), Connector(object, {}, 1)), lambda: now[0])
    play(known, a=Slots([(0, SLOTS - 1, A)]))
    assert play(known) == "a"


def test_each_servers_reason_is_told_where_there_is_no_map(known: Map):
    with pytest.raises(Unavailable, match="seed:9: refused"):
        play(known)
    login = Rejected("wrong password", maybe_sent=False)
    with pytest.raises(Rejected, match="wrong"):
        play(known, seed=login)


def test_a_server_that_is_doubted_is_not_asked_first(known: Map, now: list[float]):
    play(known, seed=halves(A, B))
    now[0] += 1
    known.doubt(B)
    assert known.stale
    assert play(known, a=halves(A, C)) == "a"
    known.doubt(A)
    assert known.owner(None) == C


def test_the_map_is_asked_for_after_a_while_and_never_at_once_again(known: Map, now: list[float]):
    play(known, seed=halves(A, B))
    known.doubt(A)
    assert not known.stale
    now[0] += 0.1
    assert known.stale
    play(known, b=halves(A, B))
    now[0] += 9.9
    assert not known.stale
    now[0] += 0.1
    assert known.stale


def test_servers_that_do_not_answer_change_nothing(known: Map):
    play(known, seed=halves(A, B))
    play(known)
    assert known.owner("123456789") == B


def test_a_move_is_told(known: Map, moves: list[int]):
    play(known, seed=halves(A, B))
    play(known, b=halves(A, B), a=halves(A, B))
    assert not moves
    play(known, b=halves(A, C), a=halves(A, C))
    assert moves == [1]


def test_a_slot_that_nobody_has_is_told(known: Map, now: list[float]):
    play(known, seed=Slots([(0, 5, A)]))
    with pytest.raises(Unavailable, match="no server has slot 12739"):
        known.owner("123456789")
    now[0] += 1
    assert known.stale


# -- redirections ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "host", "asking"),
    [
        (ResponseError("MOVED 12739 c:3"), C, False),
        (MovedError("12739 c:3"), C, False),
        (ResponseError("MOVED 12739 :7"), ("a", 7), False),
        (ResponseError("MOVED 12739 ::1:7"), ("::1", 7), False),
        (ResponseError("ASK 12739 c:3"), C, True),
        (AskError("12739 c:3"), C, True),
    ],
)
def test_an_error_that_leads_elsewhere_is_read(error: Any, host: Host, asking: bool):
    assert redirect(error, A) == (12_739, Redirect(host, asking))


@pytest.mark.parametrize(
    "error",
    [ResponseError("MOVED 12739 ?:3"), MovedError("12739 ?:3"), AskError("12739 ?:3")],
)
def test_a_server_that_is_named_by_nothing_is_learnt_from_the_map(
    known: Map, now: list[float], error: Any
):
    play(known, seed=halves(A, B))
    now[0] += 1
    assert leads_nowhere(error)
    assert known.hear(error, B) is None
    assert known.owner("123456789") == B
    assert known.stale
    # That it says so is no fault of the one that was asked.
    known.doubt(A)
    assert known.owner(None) == B


def test_other_replies_lead_nowhere():
    for reply in (ResponseError("MOVED 1 c:3"), ResponseError("TRYAGAIN x"), b"MOVED 1 ?:3"):
        assert not leads_nowhere(reply)
    assert redirect(ResponseError("TRYAGAIN Multiple keys request"), A) is None
    assert redirect(b"MOVED 1 c:3", A) is None


def test_moved_is_learnt_and_ask_is_not(known: Map, now: list[float], moves: list[int]):
    play(known, seed=halves(A, B))
    now[0] += 1
    assert known.hear(ResponseError("ASK 12739 c:3"), B) == Redirect(C, True)
    assert known.owner("123456789") == B
    assert not known.stale
    assert known.hear(ResponseError("MOVED 12739 c:3"), B) == Redirect(C, False)
    assert known.owner("123456789") == C
    assert known.stale
    assert moves == [1]


@pytest.mark.parametrize("said", ["CLUSTERDOWN The cluster is down", "LOADING Redis", "READONLY x"])
def test_a_server_that_cannot_serve_is_doubted(known: Map, now: list[float], said: str):
    play(known, seed=halves(A, B))
    now[0] += 1
    assert known.hear(ResponseError(said), A) is None
    assert known.stale
