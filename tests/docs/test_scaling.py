"""What docs/scaling.md shows is what ``gateway plan`` prints, and its figures are those that were measured."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import cli
from gateway.planning import costs
from gateway.planning.load import Load
from gateway.planning.plan import plan, reach

ROOT = Path(__file__).parents[2]
SCALING = (ROOT / "docs" / "scaling.md").read_text("utf-8")
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text("utf-8")
SHOWN = re.findall(
    r"^```console\n\$ gateway (plan .*?)\n(.*?)^```", SCALING, re.DOTALL | re.MULTILINE
)
_HALF, _DOUBLE = 0.5, 2.0


@pytest.mark.parametrize(("command", "printed"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_plan_that_is_shown_is_what_the_command_prints(
    command: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(shlex.split(command))
    assert ended.value.code == 0
    assert capsys.readouterr().out == printed


def test_the_three_sizes_are_worked_through() -> None:
    sizes = {found for command, _ in SHOWN for found in re.findall(r"--connections (\S+)", command)}
    assert {"1e4", "1e6", "5e7"} <= sizes


@pytest.mark.parametrize("subscribers", [1, 100, 10_000, 1_000_000])
def test_what_a_hot_channel_carries_is_what_a_plan_says(subscribers: int) -> None:
    made = plan(Load(connections=1_000_000, publishes=0, subscribers=subscribers))
    figures = reach(subscribers, made.nodes.processes), made.channel.redis, made.channel.gateways
    row = " | ".join(f"{each:,.0f}" for each in (subscribers, *figures))
    assert f"| {row} |" in SCALING


def test_every_figure_of_the_plans_is_on_the_page_of_costs() -> None:
    table = "\n".join(
        f"| {each.what} | {each.value:,g} {each.unit} | {each.where} |" for each in costs.MEASURED
    )
    assert table in PERFORMANCE


def test_every_figure_is_in_the_table() -> None:
    figures = [each for each in vars(costs).values() if isinstance(each, costs.Cost)]
    figures += [
        figure
        for work in vars(costs).values()
        if isinstance(work, costs.Work)
        for figure in (work.low, work.high)
    ]
    assert sorted(figures) == sorted(costs.MEASURED)


def row(what: str, number: int = 0) -> float:
    """The first figure in a row of the table that ``make bench`` writes; ``number``: of those with the same text."""
    found = re.findall(rf"^\| *\d+ *\| {what} +\| ([\d,.]+)", PERFORMANCE, re.MULTILINE)
    return float(found[number].replace(",", ""))


IDLE = "10,000 idle connections, pings every 30 s: of a core"
STORM = "storm: sequences per CPU-second of the gateway"


@pytest.mark.parametrize(
    ("cost", "run"),
    [
        (costs.PROCESS_MEMORY, lambda: row("memory of the process before / after them")),
        (costs.CONNECTION_MEMORY, lambda: row("memory per connection, 10,000 idle")),
        (costs.CONNECTION_IDLE, lambda: row(IDLE) / 100 / 10_000 * 1e6),
        (costs.MESSAGE.low, lambda: row("one to one, at [0-9,]+/s: CPU per message")),
        (costs.MESSAGE.high, lambda: row("one to one, at full speed: CPU per message")),
        (costs.DELIVERY, lambda: row("fan-out, paced: CPU per delivery")),
        (costs.RECONNECT, lambda: 1e6 / row(STORM)),
        (costs.REDIS_PUBLISH.low, lambda: row("the same: CPU of Redis", 0)),
        (costs.REDIS_PUBLISH.high, lambda: row("the same: CPU of Redis", 1)),
    ],
    ids=lambda each: each.what if isinstance(each, costs.Cost) else "",
)
def test_a_figure_of_the_plans_is_near_the_last_run(
    cost: costs.Cost, run: Callable[[], float]
) -> None:
    # Machines differ. A figure that is off by more than this misleads: measure, and change it.
    measured = run()
    assert measured * _HALF <= cost.value <= measured * _DOUBLE
