"""Each alert is caused, what the runbook says is done, and the alert ends. Some here; all with ``make alerts``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.alerts import causes  # noqa: F401 - fills the table
from tests.alerts.cases import CASES, Case, play
from tests.alerts.faster import faster
from tests.support.programs import RequireProgram

RULES = (Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8")
QUICK = ("GatewayNotReady",)


def test_each_alert_has_a_cause() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES)
    assert sorted(set(alerts)) == sorted({case.alert for case in CASES})


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.alert in QUICK], ids=lambda case: case.name
)
async def test_an_alert_fires_and_ends_as_the_runbook_says(
    case: Case, require_program: RequireProgram
) -> None:
    for program in ("prometheus", "prometheus-alertmanager"):
        require_program(program)
    assert (await play(case)).tried


def test_time_passes_faster_and_thresholds_stay() -> None:
    text = "expr: rate(x_total[5m]) > 0.25\nfor: 2m\ngroup_wait: 5s\nscrape_interval: 15s\n"
    assert faster(text, 60) == (
        "expr: rate(x_total[5000ms]) > 0.25\nfor: 2000ms\ngroup_wait: 100ms\nscrape_interval: 250ms\n"
    )
    assert faster("for: 2h", 60) == "for: 20000ms"


def test_every_duration_of_the_rules_is_shortened() -> None:
    assert re.findall(r"\b\d+[smhd]\b", faster(RULES, 60)) == []
