"""What users install: the publisher alone, the gateway as an extra, and everything they need inside the wheel."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.packaging import matrix
from tests.support.programs import cannot_run

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.xdist_group("packaging"), pytest.mark.timeout(900)]


def test_the_wheel_holds_every_file_of_the_packages(package: matrix.Built) -> None:
    with zipfile.ZipFile(package.wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(ROOT).as_posix()
        for name in ("gateway", "publisher")
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == files
    assert any(name.endswith(".lua") for name in inside)
    assert {"gateway/py.typed", "publisher/py.typed", "gateway/web/static/index.html"} <= inside


def test_the_publisher_needs_redis_and_orjson_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {each.partition(">")[0] for each in project["dependencies"]}
    assert names == {"orjson", "redis"}


def test_without_the_extra_the_publisher_works_and_the_gateway_says_what_to_install(
    package: matrix.Built, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    try:
        matrix._pip(programs / "python", "install", str(package.wheel))
    except matrix.CannotInstall as error:
        cannot_run(str(error))

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(programs / command[0]), *command[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("publisher", "--version").returncode == 0
    for command in (("gateway", "serve"), ("python", "-m", "gateway", "--help")):
        told = run(*command)
        assert told.returncode == 2
        assert "pip install '.[gateway]' in a checkout" in told.stderr
        assert "pip install 'FILE.whl[gateway]' with the wheel" in told.stderr
        assert told.stderr.count("\n") == 1
    told = run("python", "-c", "import gateway.client")
    assert "ImportError: gateway.client needs" in told.stderr
    assert "pip install 'FILE.whl[gateway]' with the wheel" in told.stderr


def test_an_error_inside_the_gateway_is_not_taken_for_a_missing_extra(tmp_path: Path) -> None:
    broken = tmp_path / "gateway"
    broken.mkdir()
    (broken / "__init__.py").touch()
    (broken / "__main__.py").write_text((ROOT / "gateway" / "__main__.py").read_text())
    (broken / "cli.py").write_text("import gateway.no_such_part")
    done = subprocess.run(
        [sys.executable, "-m", "gateway"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError: No module named 'gateway.no_such_part'" in done.stderr
