"""``gateway`` commands, each in a process of its own that is forked from one which has loaded the program.

``python -m tests.support.commands_at_once`` reads from standard input, in JSON, ``[arguments, environment]`` of each, and
writes ``[exit status, errors]`` of each.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.cli import main, parser

Command = tuple[Sequence[str], Mapping[str, str]]
"""Its arguments, and variables of the environment, in which there are no others of the gateway."""


def run_all(commands: Sequence[Command]) -> list[tuple[int, str]]:
    """The exit status and the errors of each."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.commands_at_once"],
        input=json.dumps(commands),
        env=inherited | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [(status, errors) for status, errors in json.loads(done.stdout)]


def _run(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = os.fork()
        if process == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            os.environ.update(environment)
            main(arguments)
        _, status = os.waitpid(process, 0)
        errors.seek(0)
        return os.waitstatus_to_exitcode(status), errors.read().decode()


if __name__ == "__main__":
    parser()
    gc.freeze()  # else each of the processes would copy all that was loaded when it ends
    json.dump([_run(*each) for each in json.load(sys.stdin)], sys.stdout)
