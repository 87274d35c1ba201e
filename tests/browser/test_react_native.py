"""The JavaScript client as React Native has it: bundled by Metro, and run by Hermes, which alone has no network."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.javascript import JS, installed
from tests.support.programs import cannot_build, require_program

HERMES = Path("hermes-engine-cli/linux64-bin/hermes")


@pytest.mark.long
@pytest.mark.timeout(180)
def test_it_hears_everything_also_over_a_connection_that_was_lost(tmp_path: Path) -> None:
    node, app = require_program("node"), installed(JS / "react-native")
    hermes = app / "node_modules" / HERMES
    bundle = tmp_path / "bundle.js"
    metro = ("node_modules/metro/src/cli.js", "build", "app.js", "--out", str(bundle))
    options = ("--config", "metro.config.js", "--platform", "android", "--dev", "false")
    built = subprocess.run(
        [node, *metro, *options], cwd=app, capture_output=True, text=True, check=False, timeout=120
    )
    assert built.returncode == 0, built.stdout + built.stderr
    try:
        said = subprocess.run(
            [hermes, "-w", "-Xes6-promise", "-Xmicrotask-queue", bundle],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except OSError:
        cannot_build("Hermes is there for 64-bit Linux on Intel's and AMD's processors")
    assert said.stdout.splitlines() == [
        *("connecting", "open", "data 1"),
        *("waiting", "connecting", "open", "data 2", "data 3"),
        *("loop a", "loop b", "closed"),
    ], said.stdout + said.stderr
