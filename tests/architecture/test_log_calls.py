"""Each log call says an event and its fields, so that every line of the log can be searched by them."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from gateway.logs import ABOUT_CLIENTS, TEMPLATE
from tests.architecture.arrows import modules

ROOT = Path(__file__).parents[2]
SOURCES = sorted(modules(ROOT).values())

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
# What every line has besides, and what stands for the words of other libraries.
TAKEN = {"time", "level", "logger", "event", "message", "exception"}


def templates(tree: ast.Module, levels: Collection[str] = LEVELS) -> Iterator[tuple[int, ast.expr]]:
    """Line and template of each log call at these levels; ``_complain`` hands its own on."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        owner = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
        if (owner == "log" and call.func.attr in levels) or call.func.attr == "_complain":
            yield call.lineno, call.args[0]
        elif owner == "log" and call.func.attr == "log":
            yield call.lineno, call.args[1]


def wrong(tree: ast.Module) -> list[int]:
    """The lines of log calls that say something else."""
    found = []
    for line, template in templates(tree):
        if isinstance(template, ast.Name):
            continue  # made of templates, or handed on
        text = template.value if isinstance(template, ast.Constant) else None
        keys = re.findall(r"(\w+)=", text) if isinstance(text, str) else []
        if (
            not isinstance(text, str)
            or not TEMPLATE.fullmatch(text)
            or re.search(r"%[\d.]*[a-z]%", text)  # the second one may be fields of its own
            or TAKEN & set(keys)
            or len(keys) > len(set(keys))
        ):
            found.append(line)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_log_call_says_an_event_and_its_fields(path: Path) -> None:
    assert wrong(ast.parse(path.read_text("utf-8"))) == []


def test_log_calls_are_found() -> None:
    found = [each for path in SOURCES for each in templates(ast.parse(path.read_text("utf-8")))]
    assert len(found) > 50


@pytest.mark.parametrize(
    "call",
    [
        'log.info("event and prose")',
        'log.info("event key=%s: prose", 1)',
        'log.info("event key=a value")',
        'log.info(f"event key={1}")',
        'log.info("event key=%s%s" % (1, 2))',
        'log.info("event key=%s%s", 1, 2)',
        'log.info("event key=%s key=%s", 1, 2)',
        'log.info("event level=%s", 1)',
        'log.log(20, "an event")',
        'self._complain("an event")',
    ],
)
def test_a_call_that_says_something_else_is_found(call: str) -> None:
    assert wrong(ast.parse(call)) == [1]


@pytest.mark.parametrize(
    "call", ['log.info("event")', 'log.error("event key=%s:%d more=%r")', "log.log(level, event)"]
)
def test_a_call_that_says_an_event_is_accepted(call: str) -> None:
    assert wrong(ast.parse(call)) == []


# -- lines about single clients -----------------------------------------------------------------------

ABOUT_OTHERS = {
    "channel_refused_by_redis": "each channel is told once, and a hundred at most",
    "node_started": "the address is the node's own",
    "redis_reached": "the address is that of Redis",
    "sentinel_failed": "the address is that of a sentinel, once a minute",
    "sentinel_refused": "the address is that of a sentinel",
    "token_expiry_in_milliseconds": "one a minute: it is about whoever makes the tokens",
    "waiting_for_redis": "the address is that of Redis",
}
"""Events with such a key of which there are few all the same."""

AUDIT = ROOT / "gateway" / "node" / "audit.py"
"""Whoever wants this log wants each line of it. A thread writes it, and what it cannot keep up with is counted."""


def unlimited(tree: ast.Module) -> set[str]:
    """Events that name a connection, a user or an address, and of which any number may be written.

    What is logged at ERROR is a defect, and each is wanted.
    """
    found: set[str] = set()
    for _, template in templates(tree, {"info", "warning"}):
        text = template.value if isinstance(template, ast.Constant) else ""
        if isinstance(text, str) and re.search(r" (connection|user|address)=", text):
            event = text.partition(" ")[0]
            if event not in ABOUT_CLIENTS and " left_out=%" not in text:
                found.add(event)
    return found


def test_of_lines_about_single_clients_few_are_written() -> None:
    found = {
        each
        for path in SOURCES
        if path != AUDIT
        for each in unlimited(ast.parse(path.read_text("utf-8")))
    }
    assert found == set(ABOUT_OTHERS)


@pytest.mark.parametrize("key", ["connection", "user", "address"])
@pytest.mark.parametrize("level", ["info", "warning"])
def test_a_line_about_a_client_that_nothing_limits_is_found(level: str, key: str) -> None:
    assert unlimited(ast.parse(f'log.{level}("event {key}=%r", 1)')) == {"event"}
    assert not unlimited(ast.parse(f'log.{level}("event {key}=%r left_out=%s", 1, 2)'))
    assert not unlimited(ast.parse(f'log.{level}("slow_consumer {key}=%r", 1)'))
