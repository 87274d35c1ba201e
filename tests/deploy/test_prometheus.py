"""Prometheus's configuration, judged by Prometheus's own tool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from gateway.metrics import NodeCollector
from gateway.node.stats import Stats

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "deploy" / "prometheus"


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_valid(require_program):
    run(require_program("promtool"), "check", "config", FOLDER / "prometheus.yml")


def test_the_alerts_are_valid(require_program):
    run(require_program("promtool"), "check", "rules", FOLDER / "alerts.yml")


def test_each_alert_fires_when_it_should(require_program):
    run(require_program("promtool"), "test", "rules", HERE / "alerts_test.yml")


def test_each_alert_has_a_test():
    names = re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yml").read_text())
    tests = (HERE / "alerts_test.yml").read_text()
    assert names
    assert [name for name in names if f'alertname="{name}"' not in tests] == []


class _Hub:
    connections: dict[str, object] = {}  # noqa: RUF012 - never written
    channels: dict[str, object] = {}  # noqa: RUF012 - never written


def test_the_alerts_speak_of_metrics_that_the_gateway_has():
    collector = NodeCollector(_Hub(), Stats(), lambda: True, 1, dict)
    known = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in collector.collect()
    }
    text = (FOLDER / "alerts.yml").read_text()
    named = set(re.findall(r"\b(gateway_\w+?)(?:_bucket)?\b", text))
    assert named
    assert named <= known
