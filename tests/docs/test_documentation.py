"""What the documentation says is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from gateway.core import closing
from gateway.core.protocol import RESERVED, EndReason, ErrorCode
from gateway.metrics import NodeCollector
from gateway.node.stats import Stats
from gateway.settings import Settings
from gateway.web.keys import BadKey, secret_key
from publisher import Publisher
from publisher.contract.channels import DEFAULT_NAMESPACES
from tests.attacks.harness import MOST_NEWCOMER_SECONDS, MOST_SECONDS
from tests.attacks.kinds import Kind
from tests.deploy.dashboard import panels
from tests.support.tokens import SECRET, verifier
from tests.unit.fakes import Node

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
READMES = pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text("utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text("utf-8")
DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text("utf-8")
PAGES = [
    *(page.name for page in ROOT.glob("*.md")),
    *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
]


def default(name: str) -> str:
    value = Settings.model_fields[name].default
    if value in (None, [], {}):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_its_row(name: str) -> None:
    row = f"| `GATEWAY_{name.upper()}` | {default(name)} | {Settings.model_fields[name].description} |"
    assert row in CONFIGURATION.splitlines()


def test_no_row_is_without_its_setting() -> None:
    rows = re.findall(r"^\| `GATEWAY_(\w+)` \|", CONFIGURATION, re.MULTILINE)
    assert [row.lower() for row in rows] == list(Settings.model_fields)


def test_every_metric_is_in_the_operators_table() -> None:
    collector = NodeCollector(Node().hub, Stats(), lambda: True, 1, dict)
    rows = "\n".join(line for line in DEPLOYMENT.splitlines() if line.startswith("| `gateway_"))
    told = set(re.findall(r"`(gateway_\w+?)(?:_total)?`", rows))
    assert {family.name for family in collector.collect()} == told


def test_every_metric_is_on_the_dashboard() -> None:
    """In a panel of ``deploy/grafana/dashboards/gateway.json``; its queries are tried by ``tests/deploy/test_grafana.py``."""
    collector = NodeCollector(Node().hub, Stats(), lambda: True, 1, dict)
    shown = {
        re.sub(r"_(total|bucket)$", "", name)
        for panel in panels()
        for target in panel.targets
        for name in re.findall(r"\bgateway_\w+", target.expression)
    }
    assert shown == {family.name for family in collector.collect()}


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_code_is_explained(code: ErrorCode) -> None:
    assert f"`{code.value}`" in PROTOCOL


@pytest.mark.parametrize("reason", EndReason)
def test_every_reason_for_the_end_of_a_subscription_is_explained(reason: EndReason) -> None:
    table = PROTOCOL.partition("## When a subscription ends by itself")[2].partition("\n## ")[0]
    assert f"`{reason.value}`" in [first for first, *_ in rows(table)]


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_every_reserved_name_is_listed(name: str) -> None:
    assert f"`{name}`" in PROTOCOL.partition("No namespace may have")[2].partition("\n\n")[0]


@pytest.mark.parametrize(
    "each",
    [
        value
        for value in vars(closing).values()
        if isinstance(value, closing.Closing) and value.reason
    ],
    ids=lambda each: each.reason,
)
def test_every_close_reason_is_explained_and_the_error_before_it(each: closing.Closing) -> None:
    lines = [line for line in PROTOCOL.splitlines() if f"`{each.reason}`" in line]
    assert any(line.startswith(f"| {each.code}") for line in lines)
    assert any(f"followed by close {each.code}" in line for line in lines) == bool(each.error)


@pytest.mark.parametrize("namespace", DEFAULT_NAMESPACES.values(), ids=str)
def test_the_retention_of_the_default_namespaces_is_told(namespace: object) -> None:
    kept = DEFAULT_NAMESPACES[namespace.name].retention  # type: ignore[attr-defined]
    assert kept is not None
    age = {7 * 86_400: "7 days", 86_400: "24 hours"}[kept.max_age_seconds]
    assert f"{kept.max_messages:,} messages, {age}" in PROTOCOL


@READMES
def test_the_backend_example_runs(
    readme: str, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / readme).read_text("utf-8")
    monkeypatch.setenv("PUBLISHER_REDIS_URL", redis_url)
    monkeypatch.setenv("PUBLISHER_REDIS_PREFIX", prefix)
    (example,) = re.findall(r"<!-- tested: backend -->\n```python\n(.*?)```", text, re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(example, readme, "exec"), scope)
    with Publisher.from_url(redis_url, prefix=prefix) as publisher:
        assert len(publisher.history("notifications/user-456")) == 1
        assert len(publisher.history("run-results/session-123")) == 2
    scope["publisher"].close()  # type: ignore[attr-defined]


@READMES
def test_the_token_example_makes_a_token_that_is_accepted(
    readme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_JWT_SECRET", SECRET)
    text = (ROOT / readme).read_text("utf-8")
    (example,) = re.findall(r"<!-- tested: token -->\n```python\n(.*?)```", text, re.DOTALL)
    scope: dict[str, str] = {}
    exec(compile(example, readme, "exec"), scope)
    assert verifier(SECRET).verify(scope["token"]).user == "user-123"


def test_the_example_of_a_channel_token_makes_one_that_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEWAY_JWT_SECRET", SECRET)
    (example,) = re.findall(
        r"<!-- tested: channel token -->\n```python\n(.*?)```", PROTOCOL, re.DOTALL
    )
    scope: dict[str, str] = {}
    exec(compile(example, "protocol.md", "exec"), scope)
    token = scope["channel_token"]
    passed = verifier(SECRET).verify_pass(token, "user-123", "run-results/session-123")
    assert passed.token_id == "f1d5"


SHOWN_TO_OPERATORS = [
    *PAGES,
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "deploy").rglob("*") if path.is_file()),
]


def test_no_secret_that_is_shown_to_operators_is_served_when_pasted() -> None:
    pages = [(ROOT / page).read_text("utf-8") for page in SHOWN_TO_OPERATORS]
    shown = [
        value.strip("\"'`")
        for text in pages
        for value in re.findall(r"GATEWAY_JWT_SECRET[=:] ?(\S+)", text)
    ]
    literal = [value for value in shown if not value.startswith(("$", "@"))]
    assert len(literal) < len(shown)
    explained = [
        words
        for text in pages
        for words in re.findall(r"\$\{GATEWAY_JWT_SECRET:[?-]([^}]+)\}", text)
    ]
    assert explained
    for value in [*literal, *explained, "..."]:
        with pytest.raises(BadKey):
            secret_key(value)


def test_every_alert_leads_to_its_entry_in_the_runbook() -> None:
    alerts = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8")
    found = dict(re.findall(r"- alert: (\w+)\n(?:.*\n)*?\s+runbook_url: (\S+)\n", alerts))
    assert list(found) == re.findall(r"- alert: (\w+)", alerts)
    assert found == {name: f"docs/runbook.md#{name.lower()}" for name in found}
    assert sorted(found) == sorted(re.findall(r"^## (.*)", RUNBOOK, re.MULTILINE))


def test_each_entry_of_the_runbook_names_metrics_settings_and_lines_of_the_log_that_there_are() -> (
    None
):
    sources = "\n".join(
        path.read_text("utf-8")
        for package in ("gateway", "publisher")
        for path in (ROOT / package).rglob("*.py")
    )
    collector = NodeCollector(Node().hub, Stats(), lambda: True, 1, dict)
    metrics = {family.name for family in collector.collect()}
    named = set(re.findall(r"`(gateway_\w+?)(?:_total)?(?: == 0)?`", RUNBOOK))
    assert named
    assert named <= metrics
    for setting in re.findall(r"`GATEWAY_(\w+)`", RUNBOOK):
        assert setting.lower() in Settings.model_fields, setting
    words = set(re.findall(r"`((?!gateway_)[a-z]+(?:_[a-z]+)+)`", RUNBOOK)) - OF_OTHERS
    assert len(words) > 10
    assert [each for each in words if not re.search(rf"[\"']{each}\b|\b{each}: ", sources)] == []


OF_OTHERS = {"least_conn", "process_resident_memory_bytes", "runbook_url"}
"""Words of the runbook that are nginx's and Prometheus'."""


def test_the_example_client_gives_up_where_the_protocol_says_so() -> None:
    table = PROTOCOL.partition("## Close codes")[2]
    # A browser never breaks RFC 6455, so it sees neither 1002 nor 1007.
    hopeless = {
        name
        for code, reasons, _, again in rows(table)
        if again.startswith("no") and code != "1002, 1007"
        for name in re.findall(r"`(\w+)`", reasons) or [code]
    }
    frontend = (ROOT / "docs" / "frontend.md").read_text("utf-8")
    (listed,) = re.findall(r"const hopeless = (.*?);", frontend)
    given_up = {*re.findall(r"'(\w+)'", listed), *re.findall(r"code === (\d+)", listed)}
    assert given_up == hopeless


@pytest.mark.parametrize(
    "reason",
    sorted(
        {*ErrorCode, *EndReason}
        | {each.reason for each in vars(closing).values() if isinstance(each, closing.Closing)}
        - {""}
    ),
)
def test_the_test_page_has_a_sentence_for_whatever_a_gateway_says(reason: str) -> None:
    advice = (ROOT / "gateway" / "web" / "static" / "advice.js").read_text("utf-8")
    assert re.search(rf"^  {reason}: '[A-Z].*\.',$", advice, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_what_something_costs_stands_in_one_place(page: str) -> None:
    text = re.sub(
        r"<!-- bench: .*?<!-- bench: end -->", "", (ROOT / page).read_text("utf-8"), flags=re.DOTALL
    )
    if page != "docs/performance.md":
        assert not re.findall(r".*\d µs.*", text)


@pytest.mark.parametrize(
    ("cost", "bound"),
    [
        (".*heartbeats, from.*", f"{MOST_SECONDS:g} s"),
        (".*its messages, from.*", f"{MOST_SECONDS:g} s"),
        (".*newcomer, from.*", f"{MOST_NEWCOMER_SECONDS:g} s"),
        ("memory of the node.*", f"{Kind.memory_mib:g} MiB"),
        ("the node's log", f"{Kind.log_kb:g} KB"),
        ("Redis", f"{Kind.redis_share:g} of a core"),
        ("memory that Redis.*", f"{Kind.redis_mib:g} MiB"),
        ("keys.*", f"{Kind.keys:g}"),
        ("bytes.*", f"{Kind.drawn_mib:g} MiB"),
    ],
)
def test_what_an_attack_may_cost_is_told_as_it_is_held(cost: str, bound: str) -> None:
    reliability = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    table = reliability.partition("What must hold for each:")[2].partition("### ")[0]
    (told,) = [most for what, most in rows(table) if re.fullmatch(cost, what)]
    assert told.partition(",")[0] == bound


def test_a_version_with_unreleased_changes_has_a_name_of_its_own() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    unreleased = changes.partition("## [Unreleased]\n")[2].partition("\n## [")[0].strip()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    released = re.findall(r"^## \[(\d.*?)\]", changes, re.MULTILINE)
    assert (project["version"] in released) == (not unreleased)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_a_heading(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), target
        if heading:
            assert heading in anchors(file.read_text("utf-8")), f"{target}#{heading}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    for page in {*PAGES} - {"docs/README.md"}:
        link = page.removeprefix("docs/") if page.startswith("docs/") else f"../{page}"
        assert f"]({link}" in index, page


def test_the_map_of_the_code_names_files_that_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (table,) = re.findall(r"^\| to change \|.*?\n\n", text, re.DOTALL | re.MULTILINE)
    named = re.findall(r"`([\w./]*[/.][\w./]*)`", table)
    assert len(named) > 50
    for path in named:
        below = ROOT if path.startswith(("publisher/", "tests/", "deploy/")) else ROOT / "gateway"
        assert (below / path).exists(), path


def test_every_part_of_the_code_is_in_its_map() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (table,) = re.findall(r"^\| to change \|.*?\n\n", text, re.DOTALL | re.MULTILINE)
    for folder in (
        "gateway/node",
        "gateway/backplane",
        "gateway/web",
        "publisher",
        "publisher/transport",
    ):
        for file in (ROOT / folder).glob("[!_]*.py"):
            name = str(file.relative_to(ROOT)).removeprefix("gateway/")
            assert f"`{name}`" in table or name in UNMAPPED, name


UNMAPPED = {"node/connection.py", "node/ports.py"}
"""What every part uses: the text beside the table names it."""


def anchors(page: str) -> set[str]:
    """The names that GitHub gives to a page's headings, and those that the page gives itself."""
    outside_code = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", outside_code, re.MULTILINE)
    named = re.findall(r'<a id="([^"]+)"></a>', outside_code)
    return {*named, *(re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings)}


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]
