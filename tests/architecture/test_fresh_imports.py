"""Modules import in whatever order, and no import warns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.arrows import modules

ROOT = Path(__file__).parents[2]
RUNS_ON_IMPORT = {"gateway.__main__", "publisher.__main__"}
NAMES = sorted(modules(ROOT).keys() - RUNS_ON_IMPORT)

PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        raise SystemExit(f"{name}: {error!r}")
"""


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1]], ids=["forwards", "backwards"])
def test_modules_import_in_whatever_order_and_without_a_warning(names: list[str]) -> None:
    """Two that import each other are found in the text (``arrows.py``)."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
