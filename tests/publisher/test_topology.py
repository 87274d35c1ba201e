"""What URLs and clients mean, and what is believed of what sentinels say."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.exceptions import ResponseError

from publisher import AsyncPublisher, InvalidData, InvalidURL, Publisher, Rejected, Unavailable
from publisher.contract.redis_url import holds_password, parse_sentinel_url
from publisher.transport.redis_py import Connector, Host
from publisher.transport.sentinel import Answer, Known, Search, Sentinels
from publisher.transport.topology import (
    Topology,
    asyncio_topology,
    blocking_topology,
    topology_of,
)

URL = (
    "redis+sentinel://app:p%40ss@one:26380,[::1],two:26379/main/3"
    "?sentinel_username=watch&sentinel_password=s%26t&client_name=me"
)
OLD, NEW = ("old", 6379), ("new", 6379)


def test_a_url_of_sentinel_has_the_data_servers_login_before_its_hosts():
    parts = parse_sentinel_url(URL)
    assert parts is not None
    assert parts.name == "main"
    assert parts.servers == "redis://app:p%40ss@one:26380/3?client_name=me"
    assert parts.sentinels == tuple(
        f"redis://watch:s%26t@{host}?" for host in ("one:26380", "[::1]:26379", "two:26379")
    )


def test_with_tls_the_sentinels_are_reached_as_the_servers_are():
    parts = parse_sentinel_url("rediss+sentinel://one/main?ssl_ca_certs=/etc/ca.pem&db=2")
    assert parts is not None
    assert parts.servers == "rediss://one:26379/?ssl_ca_certs=%2Fetc%2Fca.pem&db=2"
    assert parts.sentinels == ("rediss://one:26379?ssl_ca_certs=%2Fetc%2Fca.pem",)


@pytest.mark.parametrize("make", [lambda url: blocking_topology(url, 5.0), asyncio_topology])
def test_publishers_and_gateways_read_the_same_in_it(make: Any):
    topology: Topology = make(URL)
    assert topology.servers.database == 3
    assert topology.address == "main@one:26380,[::1]:26379,two:26379"
    assert topology.sentinels is not None
    assert "p@ss" not in repr(topology)
    again = pickle.loads(pickle.dumps(topology))
    assert again.address == topology.address


def test_a_url_of_one_server_has_no_sentinels():
    assert asyncio_topology("redis://localhost/2").sentinels is None
    assert asyncio_topology("unix:///run/redis.sock").address == "/run/redis.sock"


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://one:26379",
        "redis+sentinel://one:26379/",
        "redis+sentinel://u:hidden@/main",
        "redis+sentinel://u:hidden@one,/main",
        "redis+sentinel://u:hidden@one:x/main",
        "redis+sentinel://u:hidden@one/main/first",
        "redis+sentinel://u:hid@den@one/main",
        "redis+sentinel://u:hid/den@one/main",
        "redis+sentinel://u:hid#den@one/main",
        "redis+sentinel://u:hid?den@one/main",
        "redis+sentinel://one/main?sentinel_password=hid@den",
        "redis+sentinel://u:hidden@one/main?colour=blue",
    ],
)
@pytest.mark.parametrize("client", [Publisher, AsyncPublisher])
def test_a_url_of_sentinel_that_cannot_be_read_is_not_repeated(client: Any, url: str):
    with pytest.raises(InvalidURL) as caught:
        client.from_url(url)
    assert "hid" not in str(caught.value)
    assert "den" not in str(caught.value)


def test_a_password_of_the_sentinels_is_one_too():
    assert holds_password(URL)
    assert holds_password("redis+sentinel://one/main?sentinel_password=x")
    assert not holds_password("redis+sentinel://one,two:26379/main?sentinel_username=x")


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("rediss://one", True),
        ("rediss://one?ssl_cert_reqs=none", False),
        ("rediss+sentinel://one/main", True),
    ],
)
def test_certificates_are_verified_unless_the_url_says_otherwise(url: str, checked: bool):
    connection = asyncio_topology(url).servers()
    assert connection.check_hostname is checked


@pytest.mark.parametrize("package", [redis, redis.asyncio])
def test_a_client_of_sentinels_master_for_is_read_as_a_url_is(package: Any):
    sentinel = package.sentinel.Sentinel(
        [("one", 26379), ("two", 26380)], sentinel_kwargs={"password": "s"}, password="p"
    )
    topology = topology_of(sentinel.master_for("main", db=4, username="app"))
    assert topology.address == "main@one:26379,two:26380"
    assert topology.servers.database == 4
    connection = topology.servers()
    assert type(connection) is package.Connection
    assert (connection.username, connection.password) == ("app", "p")
    assert topology.sentinels is not None
    assert topology.sentinels.sentinels[0]().password == "s"


@pytest.mark.parametrize("package", [redis, redis.asyncio])
def test_a_client_of_replicas_is_refused(package: Any):
    sentinel = package.sentinel.Sentinel([("one", 26379)])
    with pytest.raises(InvalidData, match="master_for"):
        topology_of(sentinel.slave_for("main"))


# -- what is believed ----------------------------------------------------------------------------


@pytest.fixture
def sentinels() -> Sentinels:
    some = tuple(Connector(object, {"host": name}, 1) for name in "abc")
    return Sentinels("main", some, some[0])


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def moves() -> list[tuple[Host, Host]]:
    return []


@pytest.fixture
def known(sentinels: Sentinels, now: list[float], moves: list[tuple[Host, Host]]) -> Known:
    return Known(sentinels, lambda: now[0], lambda *move: moves.append(move))


def play(search: Search, **answers: Answer | Unavailable) -> tuple[Host, str]:
    """Answer as the sentinels a, b and c; returns what is found, and who was asked."""
    asked = ""
    step: Any = search.send
    given: Any = None
    try:
        while True:
            name = "abc"[step(given)]
            asked += name
            given = answers[name]
            step = search.throw if isinstance(given, Unavailable) else search.send
    except StopIteration as done:
        return done.value, asked


DOWN = Unavailable("refused", maybe_sent=False)


def test_the_first_sentinel_that_knows_is_believed_and_asked_first_from_then_on(known: Known):
    assert play(known.find(), a=DOWN, b=Answer(OLD, 1)) == (OLD, "ab")
    assert play(known.find(), b=Answer(OLD, 1)) == (OLD, "b")


def test_an_answer_of_an_older_epoch_does_not_count(known: Known, moves: list[Any]):
    play(known.find(), a=Answer(NEW, 2))
    assert play(known.find(), a=Answer(OLD, 1), b=Answer(NEW, 2)) == (NEW, "ab")
    play(known.look(), b=Answer(OLD, 1))
    assert (known.host, moves) == (NEW, [])


def test_sentinels_that_were_set_up_anew_count_from_the_beginning(known: Known, moves: list[Any]):
    play(known.find(), a=Answer(OLD, 7))
    assert play(known.find(), a=Answer(NEW, 0), b=Answer(NEW, 1), c=DOWN) == (NEW, "abc")
    assert moves == [(OLD, NEW)]


def test_some_that_are_behind_are_not_believed_while_most_do_not_answer(
    known: Known, moves: list[Any]
):
    """They were cut off during the failover, and name the old primary."""
    play(known.find(), a=Answer(NEW, 2))
    with pytest.raises(Unavailable, match=r"a:6379: it is behind.*b:6379: refused") as caught:
        play(known.find(), a=Answer(OLD, 1), b=DOWN, c=Rejected("login", maybe_sent=False))
    assert caught.value.retryable
    assert (known.host, moves) == (NEW, [])


def test_one_of_two_sentinels_is_not_most_of_them():
    two = tuple(Connector(object, {"host": name}, 1) for name in "ab")
    known = Known(Sentinels("main", two, two[0]), lambda: 100.0, lambda *_: None)
    play(known.find(), a=Answer(NEW, 2))
    with pytest.raises(Unavailable, match="behind"):
        play(known.find(), a=Answer(OLD, 1), b=DOWN)


def test_a_move_is_told_once(known: Known, moves: list[Any]):
    play(known.look(), a=Answer(OLD, 1))
    play(known.look(), a=Answer(NEW, 2))
    known.learn(Answer(NEW, 2))
    assert moves == [(OLD, NEW)]


def test_who_writes_asks_at_least_once_a_second(known: Known, now: list[float]):
    assert known.stale
    play(known.look(), a=Answer(OLD, 1))
    assert not known.stale
    now[0] += 1.0
    assert known.stale


def test_while_one_asks_the_others_go_on_with_what_is_known(known: Known):
    play(known.find(), a=Answer(OLD, 1))
    for begin in (known.look, known.find):
        known.doubt()
        assert known.stale
        search = begin()
        next(search)
        assert not known.stale
        # Unless something more has happened: that is not answered by what was asked before.
        known.doubt()
        with pytest.raises(StopIteration):
            search.send(Answer(OLD, 1))
        assert known.stale


def test_after_a_doubt_another_sentinel_is_asked_at_once(known: Known):
    play(known.look(), a=Answer(OLD, 1))
    known.doubt()
    assert known.stale
    assert play(known.look(), b=Answer(OLD, 1)) == (OLD, "b")


def test_a_sentinel_that_does_not_answer_changes_nothing(known: Known):
    play(known.look(), a=Answer(OLD, 1))
    assert play(known.look(), a=DOWN) == (OLD, "a")
    assert play(known.look(), b=Answer(OLD, 1)) == (OLD, "b")
    assert not known.stale


def test_each_sentinels_reason_is_told(known: Known):
    login = Rejected("wrong password", maybe_sent=False)
    with pytest.raises(Unavailable, match=r"sentinel a:6379: refused.*c:6379: wrong") as caught:
        play(known.find(), a=DOWN, b=DOWN, c=login)
    assert caught.value.retryable
    with pytest.raises(Rejected):
        play(known.find(), a=login, b=login, c=login)


DETAILS = [
    *(b"ip", b"old", b"port", b"6379", b"flags", b"master"),
    *(b"num-other-sentinels", b"2", b"config-epoch", b"5"),
]


def with_flags(flags: bytes) -> list[bytes]:
    return [flags if each == b"master" else each for each in DETAILS]


def test_what_a_sentinel_answers_is_read(sentinels: Sentinels):
    assert sentinels.read([[b"old", b"6379"], DETAILS]) == Answer(OLD, 5)
    # It may not be asked for more.
    assert sentinels.read([[b"old", b"6379"], ResponseError("NOPERM")]) == Answer(OLD, None)


def test_while_the_old_primary_is_down_the_promoted_one_is_believed(sentinels: Sentinels):
    down = with_flags(b"master,s_down,o_down,failover_in_progress")
    assert sentinels.read([[b"new", b"6379"], down]) == Answer(NEW, 5)
    with pytest.raises(Unavailable, match="cannot reach the primary old:6379"):
        sentinels.read([[b"old", b"6379"], down])


def test_a_server_that_is_no_sentinel_is_told_from_one(sentinels: Sentinels):
    unknown = ResponseError("ERR unknown command 'SENTINEL', with args beginning with: 'MASTER'")
    with pytest.raises(Rejected, match="it is no sentinel"):
        sentinels.read([unknown, unknown])


def test_a_sentinel_that_does_not_know_the_name_says_so(sentinels: Sentinels):
    with pytest.raises(Unavailable, match="no primary named 'main'"):
        sentinels.read([None, ResponseError("ERR No such master with that name")])


def test_a_sentinel_alone_is_not_believed_where_that_is_asked(sentinels: Sentinels):
    careful = Sentinels("main", sentinels.sentinels, sentinels.servers, min_others=3, host="nat")
    with pytest.raises(Unavailable, match="too few"):
        careful.read([[b"old", b"6379"], DETAILS])
    trusting = Sentinels("main", sentinels.sentinels, sentinels.servers, min_others=2, host="nat")
    assert trusting.read([[b"old", b"6379"], DETAILS]) == Answer(("nat", 6379), 5)
