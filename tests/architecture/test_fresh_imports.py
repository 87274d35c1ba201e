"""Each module can be the first one imported, and no import warns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.arrows import modules

ROOT = Path(__file__).parents[2]
RUNS_ON_IMPORT = {"gateway.__main__", "publisher.__main__"}

# What a module needs of ours it must import itself: nothing that another had imported is there.
# The libraries stay.
PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    for loaded in [each for each in sys.modules if each.split(".")[0] in ("gateway", "publisher")]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except BaseException as error:
        raise SystemExit(f"{name}: {error!r}")
"""


NAMES = sorted(modules(ROOT).keys() - RUNS_ON_IMPORT)
AT_ONCE = 25


@pytest.mark.parametrize(
    "names",
    [NAMES[n : n + AT_ONCE] for n in range(0, len(NAMES), AT_ONCE)],
    ids=lambda names: names[0],
)
def test_each_module_imports_first_and_without_a_warning(names: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
