"""What ``make dist`` builds: the same bytes each time, with all that a user needs."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.packaging import dist, matrix
from tests.support.programs import cannot_run

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.xdist_group("packaging"), pytest.mark.timeout(300)]


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])


@pytest.mark.long
def test_two_builds_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (ROOT / ".git").exists():
        cannot_run("this is no checkout")
    try:
        first = dist.build(tmp_path / "first")
    except matrix.CannotInstall as error:
        cannot_run(f"setuptools is not to be had here: {error}")
    # Another person, on another day, with other habits.
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    before = os.umask(0o077)
    try:
        second = dist.build(tmp_path / "second")
    finally:
        os.umask(before)
    assert [path.name for path in first] == [
        f"realtime_gateway-{version()}-py3-none-any.whl",
        f"realtime_gateway-{version()}.tar.gz",
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    wheel, sdist = first
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    assert {"gateway/cli.py", "publisher/contract/scripts/publish.lua"} <= inside
    with tarfile.open(sdist) as source:
        members = source.getmembers()
    top = f"realtime_gateway-{version()}"
    assert {f"{top}/pyproject.toml", f"{top}/gateway/cli.py", f"{top}/LICENSE"} <= {
        member.name for member in members
    }
    assert {(member.uid, member.uname) for member in members} == {(0, "")}


def test_the_version_stands_in_one_place() -> None:
    files = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "gateway", "publisher", "deploy"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if not files:
        cannot_run("this is no checkout")
    found = [
        name
        for name in files
        # Helm must find it in the chart, from which the manifests are made: tests/deploy/test_kubernetes.py compares.
        if not name.startswith(("deploy/helm/Chart.yaml", "deploy/kubernetes/"))
        and re.search(
            rf"(?<![\w.]){re.escape(version())}(?![\w.])",
            (ROOT / name).read_text("utf-8", errors="replace"),
        )
    ]
    assert found == []
