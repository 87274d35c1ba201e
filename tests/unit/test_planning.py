"""Plans: the arithmetic agrees with what was measured and with simulations, and every mistake is named."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

import pytest

from gateway import cli
from gateway.planning import costs
from gateway.planning.limits import limits
from gateway.planning.load import DRAIN_SECONDS, InvalidLoad, Load
from gateway.planning.plan import Plan, plan, reach, redis_cores
from gateway.planning.telling import as_json, as_text
from gateway.settings import Settings

SIZES = [1, 100, 10_000, 1_000_000, 50_000_000]


def planned(**given: Any) -> Plan:
    return plan(Load(**{"connections": 10_000, "publishes": 100, **given}))


def used(made: Plan) -> dict[str, float]:
    return {each.name: each.used for each in limits(made)}


# -- what was measured ------------------------------------------------------------------------


@pytest.mark.parametrize("work", [costs.MESSAGE, costs.REDIS_PUBLISH, costs.REDIS_CLUSTER_PUBLISH])
def test_the_cost_of_messages_goes_through_both_figures(work: costs.Work) -> None:
    assert work.cores(0) == 0
    assert work.cores(work.low_rate) * 1e6 == pytest.approx(work.low_rate * work.low.value)
    assert work.cores(work.high_rate) * 1e6 == pytest.approx(work.high_rate * work.high.value)
    rates = [10**exponent for exponent in range(8)]
    each = [work.cores(rate) / rate for rate in rates]
    assert all(after <= before * 1.000001 for before, after in pairwise(each))


def test_a_full_process_is_as_busy_as_one_that_was_measured() -> None:
    # Items 4 and 8: 10,000 idle connections. Four processes, and as many in reserve.
    made = planned(connections=40_000, publishes=0)
    assert made.nodes.connections_a_process == 10_000
    assert made.nodes.busy == pytest.approx(costs.CONNECTION_IDLE.value * 10_000 / 1e6)
    expected = costs.PROCESS_MEMORY.value + 10_000 * costs.CONNECTION_MEMORY.value / 1024
    assert made.nodes.memory_gib * 1024 / 4 == pytest.approx(expected)


def test_each_further_subscriber_costs_a_delivery() -> None:
    # Item 1: one process, 2,000 sockets, 20 messages a second.
    load = {"connections": 2_000, "publishes": 20, "cores": 1}
    all_of_them = planned(**load, subscribers=2_000).nodes.busy_cores
    nobody = planned(**load, subscribers=0).nodes.busy_cores
    expected = 20 * (1_999 * costs.DELIVERY.value + costs.MESSAGE.low.value) / 1e6
    assert all_of_them - nobody == pytest.approx(expected)


# -- simulations ------------------------------------------------------------------------------


@pytest.mark.parametrize(("subscribers", "processes"), [(1, 1), (1, 8), (5, 8), (40, 8), (3, 100)])
def test_subscribers_meet_on_processes_as_in_a_simulation(subscribers: int, processes: int) -> None:
    chance = random.Random(1)
    found = [len({chance.randrange(processes) for _ in range(subscribers)}) for _ in range(4_000)]
    assert reach(subscribers, processes) == pytest.approx(sum(found) / len(found), rel=0.03)


@pytest.mark.parametrize("machines", [2, 3, 10, 40])
def test_a_deploy_moves_clients_as_often_as_in_a_simulation(machines: int) -> None:
    made = planned(connections=(machines - 1) * 80_000, publishes=0, window=machines * 15 + 15)
    assert (made.nodes.machines, made.nodes.away) == (machines, 1)
    chance = random.Random(2)
    clients = [number % machines for number in range(20_000)]
    moves = 0
    for drained in range(machines):
        others = [machine for machine in range(machines) if machine != drained]
        for number, machine in enumerate(clients):
            if machine == drained:
                clients[number] = chance.choice(others)
                moves += 1
    expected = pytest.approx(moves / len(clients), rel=0.03)
    assert made.deploy.reconnects / made.load.connections == expected


# -- what a plan promises ---------------------------------------------------------------------


@pytest.mark.parametrize("connections", SIZES)
@pytest.mark.parametrize("publishes", [0, 5_000, 200_000])
@pytest.mark.parametrize("subscribers", [1, 50])
@pytest.mark.parametrize("window", [60, 600, 86_400])
def test_the_machines_that_are_left_carry_the_load(
    connections: int, publishes: float, subscribers: float, window: float
) -> None:
    subscribers = min(subscribers, connections)
    made = planned(
        connections=connections, publishes=publishes, subscribers=subscribers, window=window
    )
    nodes, redis = made.nodes, made.redis
    assert nodes.connections_a_process <= costs.PROCESS_CONNECTIONS
    assert nodes.busy <= costs.BUSY
    assert 1 <= nodes.away < nodes.machines
    assert nodes.serving * nodes.connections_a_process == pytest.approx(connections)
    assert nodes.machines / nodes.away * 15 <= window
    assert redis.busy <= costs.BUSY
    assert redis.memory_gib <= costs.PRIMARY_GIB


@pytest.mark.parametrize(
    "more",
    [
        {"connections": 500_000},
        {"publishes": 50_000},
        {"subscribers": 100},
        {"message_bytes": 20_000},
        {"channels": 5e6},
        {"kept_messages": 1_000},
    ],
    ids=lambda more: next(iter(more)),
)
def test_more_of_anything_is_never_cheaper(more: dict[str, Any]) -> None:
    less = {"connections": 50_000, "publishes": 1_000}
    small, large = planned(**less), planned(**{**less, **more})
    pairs = [
        (small.nodes.machines, large.nodes.machines),
        (small.nodes.busy_cores, large.nodes.busy_cores),
        (small.redis.primaries, large.redis.primaries),
        (small.redis.busy_cores, large.redis.busy_cores),
        (small.network.clients_out, large.network.clients_out),
        (
            small.redis.memory_gib * small.redis.primaries,
            large.redis.memory_gib * large.redis.primaries,
        ),
    ]
    assert all(before <= after * 1.001 for before, after in pairs)
    assert any(before < after * 0.999 for before, after in pairs)


def test_as_many_primaries_as_are_asked_for_share_the_work() -> None:
    one = planned(publishes=20_000, primaries=1).redis
    three = planned(publishes=20_000, primaries=3).redis
    assert three.primaries == 3
    assert three.busy < one.busy
    assert three.memory_gib == pytest.approx(one.memory_gib / 3)


def test_too_few_primaries_are_told_and_not_corrected() -> None:
    made = planned(publishes=200_000, primaries=1)
    assert made.redis.primaries == 1
    assert used(made)["CPU of Redis"] > 1
    assert made.deploy.shortest_seconds == float("inf")
    assert as_json(made)["deploy"]["shortest_seconds"] is None
    assert "endless" in as_text(made)


# -- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("hot channel", {"publishes": 5_000, "hot_publishes": 5_000, "subscribers": 1_000}),
        ("reconnect storm", {"connections": 1_000_000, "window": 30}),
        ("control commands", {"connections": 10_000_000, "commands": 10_000}),
        ("connections to Redis", {"connections": 70_000_000, "publishes": 0, "primaries": 100}),
        ("memory of Redis", {"kept_messages": 100_000, "primaries": 1}),
        ("CPU of Redis", {"publishes": 30_000, "hot_publishes": 0, "primaries": 1}),
    ],
)
def test_the_limit_that_comes_first_is_named_with_what_to_do(
    name: str, load: dict[str, Any]
) -> None:
    made = planned(**load)
    first = limits(made)[0]
    assert first.name == name
    assert f"{name} comes first. {first.advice}" in as_text(made).replace("\n", " ")


def test_where_no_limit_is_near_nothing_is_advised() -> None:
    made = planned(connections=10_000, publishes=200)
    first = limits(made)[0]
    assert first.used < 0.5
    assert as_text(made).endswith(f"No limit is near. The first would be {first.name}.")
    assert first.advice not in as_text(made).replace("\n", " ")


def test_the_bus_of_a_cluster_counts_where_there_is_one() -> None:
    assert "cluster bus" not in used(planned(primaries=1))
    assert used(planned(primaries=50))["cluster bus"] == 0.1
    assert planned(primaries=1).network.cluster_bus == 0
    assert planned(primaries=50).network.cluster_bus > planned(primaries=3).network.cluster_bus > 0


def test_several_primaries_are_a_cluster_which_has_three_at_least() -> None:
    one = planned(publishes=1_000)
    assert one.redis.primaries == 1
    assert "Redis: 1 primary with a replica" in as_text(one)
    assert one.redis.clients == one.nodes.processes * 3
    cluster = planned(publishes=35_000)
    two = redis_cores(cluster.load, cluster.nodes.processes, 2)
    assert two <= 2 * costs.BUSY, "two would not have room for it"
    assert cluster.redis.primaries == 3
    assert "Redis: a cluster of 3 primaries, each with a replica" in as_text(cluster)
    assert cluster.redis.clients == cluster.nodes.processes * 5


def test_live_messages_and_commands_go_over_the_bus_of_a_cluster() -> None:
    quiet = planned(primaries=3, publishes=0, commands=0).network.cluster_bus
    live = planned(primaries=3, publishes=3_000, commands=0).network.cluster_bus
    assert live - quiet == pytest.approx(1_000 * (2_256 + 200 + 150) * 8 / 1e6)
    commands = planned(primaries=3, publishes=0, commands=100).network.cluster_bus
    assert commands - quiet == pytest.approx(100 * 5 * 2_256 * 8 / 1e6)


@pytest.mark.parametrize("subscribers", [0, 1, 5, 1_000, 100_000, 1_000_000])
def test_a_channel_carries_what_makes_its_primary_or_a_process_busy(subscribers: int) -> None:
    made = planned(connections=1_000_000, subscribers=subscribers)
    followers = max(0.0, reach(subscribers, made.nodes.processes) - 1)
    further = max(0, subscribers - 1)
    rate = made.channel.redis
    publish = costs.REDIS_PUBLISH.high.value + costs.REDIS_REPLICA.value
    busy = (
        rate * (publish + followers * costs.REDIS_FOLLOWER.value)
        + min(rate, 1 / costs.STREAM_CONFIRM_SECONDS) * further * costs.REDIS_POSITION.value
    )
    assert busy / 1e6 == pytest.approx(costs.BUSY)
    if subscribers:
        with_some = reach(subscribers, made.nodes.serving)
        deliveries = subscribers / with_some - 1
        each = costs.MESSAGE.high.value + deliveries * costs.DELIVERY.value
        assert made.channel.gateways * each / 1e6 == pytest.approx(costs.BUSY)
    else:
        assert made.channel.gateways == float("inf")
        assert as_json(made)["channel"]["gateways"] is None


def test_a_channel_that_gets_all_that_it_can_carry_is_at_its_limit() -> None:
    load = {"connections": 1_000_000, "publishes": 5_000, "subscribers": 1_000}
    most = planned(**load).channel.most
    assert used(planned(**load, hot_publishes=most))["hot channel"] == pytest.approx(1)


# -- the command ------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["plan", *arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_command_prints_text(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--connections", "1e6", "--publishes", "5e3")
    assert code == 0
    assert out.startswith("1,000,000 connections; 5,000 publishes a second of 200 bytes")
    assert max(map(len, out.splitlines())) <= 100


def test_the_command_prints_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--connections", "5e4", "--publishes", "0.5", "--json")
    assert code == 0
    told = json.loads(out)
    assert told == json.loads(json.dumps(as_json(planned(connections=50_000, publishes=0.5))))
    assert told["load"]["connections"] == 50_000
    assert [each["name"] for each in told["limits"]]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--publishes", "1"], "the following arguments are required: --connections"),
        (["--connections", "1"], "the following arguments are required: --publishes"),
        (["--connections", "many", "--publishes", "1"], "such as 50000 or 5e4, not 'many'"),
        (["--connections", "nan", "--publishes", "1"], "such as 50000 or 5e4, not 'nan'"),
        (["--connections", "inf", "--publishes", "1"], "such as 50000 or 5e4, not 'inf'"),
        (["--connections", "0", "--publishes", "1"], "--connections: must be more than 0, not 0"),
        (["--connections", "-5", "--publishes", "1"], "--connections: must be more than 0"),
        (["--connections", "1.5", "--publishes", "1"], "--connections: must be a whole number"),
        (["--connections", "1e13", "--publishes", "1"], "--connections: must be at most 1e+12"),
        (["--connections", "1", "--publishes", "-1"], "--publishes: must be 0 or more, not -1"),
        (
            ["--connections", "5", "--publishes", "1", "--subscribers", "6"],
            "--subscribers: a message cannot go to more connections (6) than there are",
        ),
        (
            ["--connections", "5", "--publishes", "1", "--hot-publishes", "2"],
            "--hot-publishes: one channel cannot get more (2 a second) than all together",
        ),
        (
            ["--connections", "5", "--publishes", "1", "--window", "15"],
            "--window: must be more than 15 seconds",
        ),
        (["--connections", "5", "--publishes", "1", "--cores", "0"], "--cores: must be more than"),
        (["--connections", "5", "--publishes", "1", "--primaries", "2.5"], "--primaries: must be"),
    ],
)
def test_a_mistake_is_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert problem in err


def test_a_load_names_its_mistake_too() -> None:
    with pytest.raises(InvalidLoad, match="--message-bytes: must be more than 0"):
        Load(connections=1, publishes=1, message_bytes=0)


def test_a_drain_takes_as_long_as_a_gateway_with_the_default_settings_takes():
    seconds = [
        Settings.model_fields[name].default for name in ("drain_delay_seconds", "drain_seconds")
    ]
    assert sum(seconds) == DRAIN_SECONDS
