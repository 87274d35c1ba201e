"""A line of the log: logfmt or JSON, whatever was logged."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.logs import ABOUT_CLIENTS, FORMATS, FewOfClients, LineFormatter
from tests.support.log_lines import read_logfmt

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.c2lnbmF0dXJl"


def record(template: object, *args: object, **details: Any) -> logging.LogRecord:
    return logging.LogRecord(
        "gateway.app", logging.INFO, "app.py", 1, template, args, details.get("exc_info")
    )


def logfmt(template: object, *args: object, **details: Any) -> str:
    return LineFormatter(FORMATS["logfmt"], details.pop("worker", None)).format(
        record(template, *args, **details)
    )


def as_json(template: object, *args: object, **details: Any) -> dict[str, Any]:
    line = LineFormatter(FORMATS["json"], details.pop("worker", None)).format(
        record(template, *args, **details)
    )
    return dict(json.loads(line))


def test_a_line_has_time_level_logger_event_and_the_fields_of_the_call() -> None:
    line = logfmt("node_started node=%s address=%s:%d", "ab12", "127.0.0.1", 3001)
    time, rest = line.split(" ", 1)
    assert time.startswith("time=20")
    assert time.endswith("Z")
    assert rest == (
        "level=info logger=gateway.app event=node_started node=ab12 address=127.0.0.1:3001"
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("auth0|5f7c", "auth0|5f7c"),
        ("张三", "张三"),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("o'brien", '"o\'brien"'),
        ("back\\slash", r'"back\\slash"'),
        ("new\nline", r'"new\nline"'),
        ("\u2028", r'"\u2028"'),
        ("", '""'),
        (5, "5"),
        (True, "true"),
        ([1, 2], '"[1, 2]"'),
    ],
)
def test_a_value_is_quoted_where_it_must_be(value: object, written: str) -> None:
    for form in ("%s", "%r"):
        assert logfmt(f"event key={form} last=1", value).endswith(
            f" event=event key={written} last=1"
        )


@given(st.lists(st.text(), min_size=3, max_size=3), st.sampled_from(["%s", "%r"]))
def test_any_value_comes_back_out_of_a_line(values: list[str], form: str) -> None:
    template = f"event a={form} b=%s c={form}"
    line = logfmt(template, *values)
    assert line.splitlines() == [line]
    read = read_logfmt(line)
    assert [read["a"], read["b"], read["c"]] == values
    assert list(read) == ["time", "level", "logger", "event", "a", "b", "c"]
    told = as_json(template, *values)
    assert [told["a"], told["b"], told["c"]] == values


def test_json_keeps_numbers_and_truth_values() -> None:
    told = as_json("event count=%d sure=%s seconds=%.1f code=%s", 3, False, 0.25, 1001)
    assert {key: told[key] for key in ("count", "sure", "seconds", "code")} == {
        "count": 3,
        "sure": False,
        "seconds": 0.2,
        "code": 1001,
    }
    assert as_json("event seconds=%s", float("nan"))["seconds"] == "nan"


def test_a_field_that_holds_nothing_is_left_out() -> None:
    assert logfmt("connection_closed code=%s user=%r", None, None).endswith(
        "event=connection_closed"
    )


def test_a_worker_is_named_at_the_end() -> None:
    assert logfmt("event key=%s", "value", worker=2).endswith(" key=value worker=2")
    assert as_json("event", worker=2)["worker"] == 2


def test_what_a_library_writes_is_one_field() -> None:
    told = read_logfmt(logfmt("Task %r was %s\nbadly", "a", "destroyed"))
    assert (told["event"], told["message"]) == ("message", "Task 'a' was destroyed\nbadly")
    told = read_logfmt(logfmt(ValueError("level=error event=forged")))
    assert (told["level"], told["event"]) == ("info", "message")


def test_what_a_call_says_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert as_json("read_once key=%s at=%s:%d", "a", "host", 1)["at"] == "host:1"
    monkeypatch.setattr("gateway.logs.TEMPLATE", None)
    told = as_json("read_once key=%s at=%s:%d", "b", "host", 2)
    assert (told["event"], told["key"], told["at"]) == ("read_once", "b", "host:2")


def test_a_mapping_as_the_only_argument_is_a_value() -> None:
    assert as_json("event rules=%r", {"owner": "user"})["rules"] == "{'owner': 'user'}"


def test_a_traceback_stays_on_the_line() -> None:
    trouble = (ValueError, ValueError("oh\nno"), None)
    line = logfmt("task_failed task=%s", "a b", exc_info=trouble)
    assert "\n" not in line
    assert read_logfmt(line)["exception"].endswith("ValueError: oh\nno")
    assert as_json("task_failed", exc_info=trouble)["exception"].endswith("ValueError: oh\nno")


@pytest.mark.parametrize("form", FORMATS)
def test_a_token_is_in_no_line(form: str) -> None:
    line = LineFormatter(FORMATS[form]).format(record("event path=%r", f"/ws?token={TOKEN}"))
    assert TOKEN not in line
    assert "[token]" in line


@pytest.mark.parametrize("dot", [".", "%2E", "%252e"])
def test_a_token_is_left_out_however_its_dots_are_written(dot: str) -> None:
    told = logfmt("event token=%s more=1", TOKEN.replace(".", dot))
    assert told.endswith("token=[token] more=1")


@pytest.mark.parametrize("event", sorted(ABOUT_CLIENTS))
def test_lines_about_single_clients_are_few_and_tell_how_many_were_left_out(
    event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    few = FewOfClients()
    template = event + " connection=%s user=%r"
    passed = sum(few.filter(record(template, number, "u")) for number in range(1_000))
    assert passed == 10
    assert few.filter(record("node_started node=%s", "ab12"))
    now[0] = 10.0
    next_one = record(template, 1_000, "u")
    assert few.filter(next_one)
    line = LineFormatter(FORMATS["logfmt"]).format(next_one)
    assert read_logfmt(line)["left_out"] == "990"


def test_events_about_single_clients_are_logged_somewhere() -> None:
    root = Path(__file__).parents[2] / "gateway"
    code = "".join(path.read_text("utf-8") for path in root.rglob("*.py"))
    assert not [event for event in ABOUT_CLIENTS if f'"{event} ' not in code]
