"""The completion of both commands in the shells that people have."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.programs import RequireProgram
from tests.support.terminal import TAB, Terminal, terminal

ROOT = Path(__file__).parents[2]
PROMPT = "ready> "
CLEAR_LINE = "\x15"
SHELLS = ["bash", "zsh", "fish"]
LOADS = {
    "bash": "source <({0} bash)",
    "zsh": 'eval "$({0} zsh)"',
    "fish": "{0} fish | source",
}
"""What docs/command-line.md tells to write."""

_BEGINNING = {
    "bash": (["--norc", "--noprofile"], f"PS1='{PROMPT}'; bind 'set bell-style none'"),
    "zsh": (["--no-rcs"], f"PS1='{PROMPT}'; autoload -U compinit; compinit -D"),
    "fish": (
        ["--no-config"],
        f"function fish_prompt; printf '{PROMPT}'; end; set -g fish_greeting",
    ),
}


@contextlib.asynccontextmanager
async def shell(name: str, program: str, folder: Path) -> AsyncIterator[Terminal]:
    """The shell in a terminal, in ``folder``, with the completion of both commands."""
    options, beginning = _BEGINNING[name]
    # The commands as they are installed, though nothing is installed here.
    for command in ("gateway", "publisher"):
        script = folder / "bin" / command
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {command} "$@"\n')
        script.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "TERM": "xterm",
    }
    loads = [LOADS[name].format(f"{each} completion") for each in ("gateway", "publisher")]
    async with terminal([program, *options], environment, columns=200) as shown:
        for line in (beginning, f"cd {folder}", *loads, "echo all-is-' 'loaded"):
            shown.type(line + "\n")
        await shown.shows("all-is- loaded", seconds=40)
        yield shown


@pytest.mark.parametrize("name", SHELLS)
async def test_tab_shows_what_can_be_typed(
    name: str, require_program: RequireProgram, tmp_path: Path
) -> None:
    (tmp_path / "token-of-ann.txt").touch()
    async with shell(name, require_program(name), tmp_path) as shown:
        for typed, all_of in (
            ("gateway dr", ["gateway drain "]),
            ("gateway t", ["tail", "token", "top"]),
            ("gateway serve --redis-", ["--redis-url", "--redis-prefix"]),
            ("gateway tail --token-file tok", ["token-of-ann.txt"]),
            ("gateway completion fi", ["gateway completion fish "]),
            ("publisher revoke-tokens", ["revoke-tokens-before"]),
            ("publisher events --start ", ["new", "oldest"]),
        ):
            shown.forget()
            shown.type(typed + TAB + TAB)
            await shown.shows(*all_of)
            shown.type(CLEAR_LINE)


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("command", ["gateway", "publisher"])
def test_the_shell_finds_nothing_wrong_with_the_script(
    name: str, command: str, require_program: RequireProgram, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    with script.open("w") as output:
        made = [sys.executable, "-m", command, "completion", name]
        subprocess.run(made, cwd=ROOT, stdout=output, check=True)
    read = subprocess.run(
        [require_program(name), "-n", str(script)], capture_output=True, text=True, check=False
    )
    assert (read.returncode, read.stdout, read.stderr) == (0, "", "")


@pytest.mark.parametrize("command", ["gateway", "publisher"])
def test_what_is_missing_is_told(command: str, tmp_path: Path) -> None:
    (tmp_path / "shtab.py").write_text("raise ModuleNotFoundError(name='shtab')")
    for shell_name, told in (
        ("bash", f"{command}: there is no shtab: run pip install '.[completion]' in a checkout"),
        ("cmd", "invalid choice: 'cmd'"),
    ):
        run = subprocess.run(
            [sys.executable, "-m", command, "completion", shell_name],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (run.returncode, run.stdout) == (2, "")
        assert told in run.stderr
        assert "Traceback" not in run.stderr


def test_a_command_loads_no_library_that_only_another_one_needs() -> None:
    others = {
        "rich",
        "shtab",
        "pygments",
        "gateway.conformance",
        "gateway.client",
        "gateway.webhooks",
    }
    program = (
        "import contextlib, io, sys\nfrom gateway.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['serve', '--help'])\n"
        f"sys.exit(', '.join({others} & {{*sys.modules}}) or 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
