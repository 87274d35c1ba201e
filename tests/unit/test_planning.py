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
from gateway.planning.plan import Plan, plan, reach
from gateway.planning.telling import as_json, as_text
from gateway.settings import Settings

SIZES = [1, 100, 10_000, 1_000_000, 50_000_000]


def planned(**given: Any) -> Plan:
    return plan(Load(**{"connections": 10_000, "publishes": 100, **given}))


def used(made: Plan) -> dict[str, float]:
    return {each.name: each.used for each in limits(made)}


# -- what was measured ------------------------------------------------------------------------


@pytest.mark.parametrize("work", [costs.MESSAGE, costs.REDIS_PUBLISH])
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
    assert made.nodes.busy == pytest.approx(0.009)
    assert made.nodes.memory_gib * 1024 / 4 == pytest.approx(59 + 10_000 * 6.3 / 1024)


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


def test_the_bus_of_a_cluster_counts_where_there_is_one() -> None:
    assert "cluster bus" not in used(planned(primaries=1))
    assert used(planned(primaries=50))["cluster bus"] == 0.1
    assert planned(primaries=1).network.cluster_bus == 0
    assert planned(primaries=50).network.cluster_bus > planned(primaries=3).network.cluster_bus > 0


def test_a_plan_with_several_primaries_says_what_is_not_supported_yet() -> None:
    assert "does not support yet" not in as_text(planned(connections=100, publishes=10))
    assert "does not support yet" in as_text(planned(primaries=3)).replace("\n", " ")


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
