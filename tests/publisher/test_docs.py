"""The examples of docs/publisher.md and docs/tracing.md run, against a real server."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest

import publisher
from publisher import Publisher
from publisher.cli import _parser
from tests.support.topology import primary_url

FOLDER = Path(__file__).parents[2] / "docs"
DOCS, TRACING = ((FOLDER / f"{name}.md").read_text("utf-8") for name in ("publisher", "tracing"))
EXAMPLES = re.findall(r"^```python\n(.*?)^```", DOCS + TRACING, re.DOTALL | re.MULTILINE)
SHELL = "".join(re.findall(r"^```sh\n(.*?)^```", DOCS, re.DOTALL | re.MULTILINE))
COMMANDS = re.findall(r"^(?:.*\| )?publisher (.*?)(?: +#.*)?$", SHELL, re.MULTILINE)

URL = '"redis://localhost:6379/0"'


@pytest.mark.parametrize("example", EXAMPLES, ids=range(1, len(EXAMPLES) + 1))
def test_the_example_runs(example: str, redis_url: str, prefix: str):
    assert example.count(URL) == 1
    ours = f'"{redis_url}", prefix="{prefix}"'
    if "redis.Redis" in example:
        # An existing client has no prefix; what it publishes goes to a channel that no other test reads.
        ours = f'"{primary_url(redis_url)}"'
    scope: dict[str, object] = {"__name__": "example"}
    try:
        exec(compile(example.replace(URL, ours), "docs", "exec"), scope)
    finally:
        for value in scope.values():
            if isinstance(value, Publisher):
                value.close()


def test_there_are_examples():
    assert len(EXAMPLES) >= 8
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_is_understood(command: str):
    assert _parser().parse_args(shlex.split(command))


@pytest.mark.parametrize("name", publisher.__all__)
def test_every_public_name_is_explained(name: str):
    assert f"`{name}" in DOCS or f" {name}" in DOCS


@pytest.mark.parametrize(
    "name",
    [name for name in dir(Publisher) if not name.startswith("_") and not name.startswith("from_")],
)
def test_the_table_of_methods_has_each_with_its_arguments(name: str):
    (row,) = re.findall(rf"^\| `{name}\((.*?)\)`.*$", DOCS, re.MULTILINE)
    parameters = list(inspect.signature(getattr(Publisher, name)).parameters)[1:]
    assert re.findall(r"(\w+)(?:=[^,]+)?(?:,|$)", row) == parameters
