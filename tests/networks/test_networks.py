"""One bad network, to keep the program that measures them alive; the others are played by ``make networks``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.networks.lab import possible
from tests.support.programs import leave_out


@pytest.mark.long
@pytest.mark.timeout(200)
def test_every_client_comes_back_from_a_network_that_was_away() -> None:
    if not possible():
        leave_out("network namespaces and TUN devices need root on Linux")
    command = [sys.executable, "-m", "tests.networks", "--only", "unplugged", "--users", "2"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split("; ")[1].split(":")[0] for line in lines] == ["plain", "js", "receiver"]
    assert all("more than" not in line for line in lines), lines
