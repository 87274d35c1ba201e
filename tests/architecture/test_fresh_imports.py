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
# The libraries stay, which makes sixty imports a matter of two seconds.
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


@pytest.mark.parametrize("package", ["gateway", "publisher"])
def test_each_module_imports_first_and_without_a_warning(package: str) -> None:
    names = [
        name
        for name in modules(ROOT)
        if name.split(".")[0] == package and name not in RUNS_ON_IMPORT
    ]
    assert names
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
