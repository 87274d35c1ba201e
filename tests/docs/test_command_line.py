"""docs/command-line.md names each command, what it prints as JSON, and the lines that were tried in real shells."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from gateway import cli as gateway
from publisher import cli as publisher
from tests.processes.test_completion import LOADS

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| (`(?:gateway|publisher) .*?) \| .*? \| (.*?) \|$", PAGE, re.MULTILINE))


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return found.choices


GATEWAY, PUBLISHER = commands(gateway.parser()), commands(publisher._parser())


def takes_json(command: argparse.ArgumentParser) -> bool:
    return "--json" in command.format_help()


@pytest.mark.parametrize("name", GATEWAY)
def test_each_command_of_operators_has_a_row_that_says_what_json_it_prints(name: str) -> None:
    (json,) = (text for row, text in ROWS.items() if f"`gateway {name}`" in row)
    assert takes_json(GATEWAY[name]) == (not json.startswith("none"))


@pytest.mark.parametrize("name", PUBLISHER)
def test_every_command_of_backends_takes_json_and_is_shown(name: str) -> None:
    if name != "completion":
        assert takes_json(PUBLISHER[name])
        shown = (Path(__file__).parents[2] / "docs" / "publisher.md").read_text("utf-8")
        assert re.search(rf"^(echo .*\| )?publisher {name}\b", shown, re.MULTILINE)


@pytest.mark.parametrize(
    "command", [*GATEWAY.values(), *PUBLISHER.values()], ids=lambda it: it.prog
)
def test_the_help_explains_every_argument_and_says_what_holds_without_it(
    command: argparse.ArgumentParser,
) -> None:
    texts = {each.dest: each.help for each in command._actions}
    assert [name for name, text in texts.items() if not text] == []
    assert [name for name, text in texts.items() if re.search(r"\((\d+|\w+)\)$", text or "")] == []


CODES = {
    code: cells
    for code, *cells in re.findall(r"^\| (\d+) \|([^|]*)\|([^|]*)\|([^|]*)\|$", PAGE, re.MULTILINE)
}


@pytest.mark.parametrize("name", GATEWAY)
def test_the_exit_codes_that_a_commands_help_tells_have_their_rows(name: str) -> None:
    _, _, told = (GATEWAY[name].description or "").partition("Exit codes: ")
    codes = re.findall(r"(?:^|, )(\d+) ", told)
    assert set(codes) <= set(CODES)
    # What is more than done, not done and wrong is told of the command that has it, and of no other.
    for code in set(CODES) - {"0", "1", "2"}:
        assert (code in codes) == (f"`{name}`" in CODES[code][1])
    named = [code for code, cells in CODES.items() if f"`{name}`" in cells[1]]
    assert not codes or set(named) <= set(codes)


@pytest.mark.parametrize("shell", LOADS)
def test_what_is_to_be_written_into_a_shells_settings_is_what_was_tried(shell: str) -> None:
    line = LOADS[shell].format("gateway completion").replace("|", r"\|")
    assert re.search(rf"^\| {shell} \| `{re.escape(line)}`", PAGE, re.MULTILINE)
