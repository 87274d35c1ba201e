"""Grafana's dashboard, asked of a real Prometheus."""

from __future__ import annotations

import math
import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.deploy.busy_gateways import busy_gateways
from tests.deploy.dashboard import FOLDER, Panel, dashboard, panels
from tests.support.programs import RequireProgram
from tests.support.waiting import until

_WITHIN_SECONDS = 45.0
"""A renewed certificate may take ten to be noticed; what passes takes a quarter of this."""


async def test_no_panel_is_empty(
    redis_url: str, prefix: str, tmp_path: Path, require_program: RequireProgram
) -> None:
    empty = {
        (panel.title, target.query): target.query for panel in panels() for target in panel.targets
    }
    assert len(empty) > 30

    async with busy_gateways(redis_url, prefix, require_program("prometheus"), tmp_path) as server:

        async def all_have_shown_something() -> bool:
            for what, query in list(empty.items()):
                found = await server.query(query)
                # Of nothing counted yet a quantile, or a share, is not a number.
                if any(not math.isnan(value) for each in found for _, value in each.values):
                    del empty[what]
            return not empty

        try:
            await until(all_have_shown_something, _WITHIN_SECONDS)
        except TimeoutError:
            pytest.fail(f"no data: {sorted(empty)}")


def test_each_series_has_a_name_of_its_own() -> None:
    """A legend that leaves out what tells series apart would show the same name twice."""
    for panel in panels():
        for target in panel.targets:
            told_apart = set(re.findall(r"\{\{(\w+)\}\}", target.legend))
            grouped = re.match(r"(?:sum|min|count) by \((\w+)\)", target.query)
            if grouped:
                assert told_apart == {grouped[1]}, target
        legends = [target.legend for target in panel.targets]
        assert len(set(legends)) == len(legends), panel.title


def test_panels_lie_beside_each_other() -> None:
    def overlap(one: Panel, other: Panel) -> bool:
        (x, y, w, h), (x2, y2, w2, h2) = one.place, other.place
        return x < x2 + w2 and x2 < x + w and y < y2 + h2 and y2 < y + h

    found = panels()
    assert len({panel.id for panel in found}) == len(found)
    assert all(panel.place[0] + panel.place[2] <= 24 for panel in found)
    assert [(a.title, b.title) for a, b in combinations(found, 2) if overlap(a, b)] == []


def test_each_panel_says_what_it_shows() -> None:
    graphs = [panel for panel in panels() if panel.targets]
    assert [panel.title for panel in graphs if not (panel.description and panel.unit)] == []
    questions = [panel.title for panel in panels() if not panel.targets]
    assert all(title.endswith("?") for title in questions)


def test_the_dashboard_asks_the_prometheus_that_is_chosen_in_it() -> None:
    found = dashboard()
    (variable,) = found["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    sources = {
        part["datasource"]["uid"]
        for panel in found["panels"]
        for part in (panel, *panel.get("targets", []))
        if "datasource" in part
    }
    assert sources == {"${datasource}"}


def test_what_is_provisioned_is_the_prometheus_of_this_folder() -> None:
    text = (FOLDER / "provisioning" / "datasources" / "gateway.yml").read_text("utf-8")
    scraped = (FOLDER.parent / "prometheus" / "prometheus.yml").read_text("utf-8")
    (interval,) = re.findall(r"timeInterval: (\S+)", text)
    assert f"scrape_interval: {interval}" in scraped


def test_grafana_finds_in_compose_what_the_provisioning_names() -> None:
    mounted = (FOLDER.parent / "compose.yaml").read_text("utf-8")
    for kind in ("dashboards", "datasources"):
        # Grafana looks for each kind in a folder of this name.
        assert list((FOLDER / "provisioning" / kind).glob("*.yml"))
    assert "./grafana/provisioning:/etc/grafana/provisioning:ro" in mounted
    provider = (FOLDER / "provisioning" / "dashboards" / "gateway.yml").read_text("utf-8")
    (path,) = re.findall(r"path: (\S+)", provider)
    assert f"./grafana/dashboards:{path}:ro" in mounted


def test_the_picture_in_the_docs_has_each_panel() -> None:
    picture = ET.parse(FOLDER.parents[1] / "docs" / "dashboard.svg").getroot()
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert [panel.title for panel in panels() if panel.title not in texts] == []
