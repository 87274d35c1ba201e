"""The examples of docs/testing.md run, as the tests that they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from publisher.testing import PublishedMessage, Recording

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text("utf-8")


def example(name: str) -> str:
    (found,) = re.findall(rf"<!-- tested: {name} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    return found


def run(name: str) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(compile(example(name), "testing.md", "exec"), scope)
    return scope


def test_the_example_of_recording_passes():
    run("recording")["test_the_customer_is_told_once"]()


@pytest.mark.parametrize("took_effect", [True, False])
def test_the_example_of_failing_passes(took_effect: bool):
    run("failing")["test_a_reminder_comes_once"](took_effect)


@pytest.mark.parametrize("name", [each for each in vars(Recording) if not each.startswith("_")])
def test_all_that_a_test_may_use_is_explained(name: str):
    assert f"`{name}" in PAGE or f", `{name}" in PAGE


@pytest.mark.parametrize("name", PublishedMessage.__dataclass_fields__)
def test_all_that_is_recorded_is_named(name: str):
    assert f"`{name}`" in PAGE
