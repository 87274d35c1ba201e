"""Which map of a cluster is believed where servers tell different ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from publisher import Publisher, Unavailable
from publisher.transport.cluster import SLOTS, Cluster, Map, Slots
from publisher.transport.redis_py import Connector, Host
from tests.support.redis_cluster import RedisCluster, redis_cluster, wait_until

A, B, C, D, SEED = ("a", 1), ("b", 2), ("c", 3), ("d", 4), ("seed", 9)
NEW: list[Host] = [("x", 1), ("y", 2), ("z", 3)]
DOWN = Unavailable("refused", maybe_sent=False)
CHANNEL = "run-results/1"


@pytest.fixture
def known() -> Map:
    """A, B and C lead since the seventh election; before it D did in place of C."""
    known = Map(Cluster((SEED,), Connector(object, {}, 1)), lambda: 100.0)
    play(known, {"seed": thirds(A, B, C, epoch=7, replicas=[D])})
    return known


def thirds(*primaries: Host, epoch: int | None, replicas: Any = ()) -> Slots:
    size = SLOTS // len(primaries)
    ranges = [(n * size, (n + 1) * size - 1, each) for n, each in enumerate(primaries)]
    return Slots(ranges, replicas, epoch)


def play(known: Map, answers: dict[str, Slots], looks: int = 1) -> str:
    """Look so often, and answer as these hosts; returns who was asked."""
    asked = ""
    for _ in range(looks):
        search = known.look()
        try:
            host = next(search)
            while True:
                asked += host[0] + " "
                if (slots := answers.get(host[0])) is None:
                    host = search.throw(DOWN)
                else:
                    host = search.send(slots.copy())
        except StopIteration:
            pass
    return asked.strip()


def test_a_map_of_before_the_last_election_does_not_count(known: Map):
    older = thirds(A, B, D, epoch=6)
    now = thirds(A, B, C, epoch=7, replicas=[D])
    asked = play(known, {"a": now, "b": now, "c": now, "d": older}, looks=8)
    assert "d" in asked
    assert known.primaries == (A, B, C)
    # It has heard of it by now.
    play(known, dict.fromkeys("abcd", thirds(A, B, D, epoch=8)), looks=1)
    assert known.primaries == (A, B, D)


def test_a_server_that_is_behind_is_not_the_next_choice(known: Map):
    assert known.owner(None) == A
    older, now = thirds(A, B, D, epoch=6), thirds(A, B, C, epoch=7)
    play(known, {"a": older, "b": now, "c": now}, looks=4)
    assert known.owner(None) != A


def test_a_map_without_a_number_counts(known: Map):
    """Who may not be asked for more is believed as ever, and what is known of elections stays."""
    play(known, dict.fromkeys("abcd", thirds(A, B, D, epoch=None)))
    assert known.primaries == (A, B, D)
    play(known, dict.fromkeys("abcd", thirds(A, C, epoch=6)))
    assert known.primaries == (A, B, D)


def test_some_that_are_behind_are_not_believed_while_most_do_not_answer(known: Map):
    """They are cut off from the others: D, which led once, and its replica."""
    play(known, {"d": thirds(A, B, D, epoch=6)}, looks=20)
    assert known.primaries == (A, B, C)
    play(known, {"a": thirds(A, B, D, epoch=6), "d": thirds(A, B, D, epoch=6)}, looks=20)
    assert known.primaries == (A, B, D)


def test_a_cluster_that_was_set_up_anew_counts_from_the_beginning(known: Map):
    anew = thirds(B, A, epoch=3)
    asked = play(known, dict.fromkeys([*"abcd", "seed"], anew), looks=4)
    assert known.primaries == (B, A)
    assert set(asked.split()) == {*"abcd", "seed"}
    play(known, dict.fromkeys("ab", thirds(A, B, epoch=4)), looks=1)
    assert known.primaries == (A, B)


def test_one_that_was_set_up_anew_elsewhere_is_found_by_a_seed(known: Map):
    anew = thirds(*NEW, epoch=3)
    play(known, dict.fromkeys(["seed", *(name for name, _ in NEW)], anew), looks=12)
    assert known.primaries == tuple(NEW)


# -- a real one ------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def the_map(publisher: Publisher) -> Map:
    map_: Map = publisher._connections.map  # type: ignore[union-attr]
    return map_


def test_a_server_that_knows_nothing_of_the_others_leads_nobody_to_itself(
    cluster: RedisCluster, prefix: str
):
    """It was taken out of the cluster, and has all slots for itself."""
    channels = [f"run-results/{number}" for number in range(30)]
    with Publisher.from_url(cluster.url, prefix=prefix) as publisher:
        publisher.publish_many([(each, 1) for each in channels])
        alone = next(each for each in cluster.servers if not each.leads)
        others = [each for each in cluster.servers if each is not alone]
        alone.run("CLUSTER", "RESET", "HARD")
        alone.run("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        wait_until(lambda: "cluster_state:ok" in alone.run("CLUSTER", "INFO"))
        # So it is the first that is asked.
        for each in others:
            the_map(publisher).doubt(each.host)
        wait_until(lambda: the_map(publisher).stale)
        publisher.publish_many([(each, 2) for each in channels])
        assert alone.run("DBSIZE") == 0
        assert set(the_map(publisher).primaries) < {each.host for each in others}
        for each in channels:
            assert [message.data for message in publisher.history(each)] == [1, 2]


def test_a_cluster_that_was_set_up_anew_is_followed(cluster: RedisCluster, prefix: str):
    def epoch() -> int:
        slots = the_map(publisher).slots
        assert slots is not None
        assert slots.epoch is not None
        return slots.epoch

    def is_late() -> bool:
        for each in cluster.primaries:
            each.run("CLUSTER", "BUMPEPOCH")
        publisher.ping()
        the_map(publisher).doubt()
        return epoch() > 20

    with Publisher.from_url(cluster.url, prefix=prefix) as publisher:
        publisher.publish(CHANNEL, 1)
        wait_until(is_late)
        for each in cluster.servers:
            if each.leads:
                each.run("FLUSHALL")
            each.run("CLUSTER", "RESET", "HARD")
        cluster.servers.reverse()
        cluster.form()
        publisher.publish(CHANNEL, 2)
        assert [each.data for each in publisher.history(CHANNEL)] == [2]
        the_map(publisher).doubt()
        wait_until(lambda: publisher.ping() is None and epoch() < 20)
        leading = {each.host for each in cluster.servers if each.leads}
        assert set(the_map(publisher).primaries) == leading
