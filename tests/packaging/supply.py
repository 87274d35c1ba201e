# ruff: noqa: T201 - a program that says how it goes
"""What the gateway is made of beside its own code: ``requirements.lock``, the packages with their hashes,
``requirements-build.lock``, what builds it, and ``sbom.cdx.json``, the former with licences and who needs what (CycloneDX).

``python -m tests.packaging.supply make`` writes all anew (``make lock``); ``audit`` asks for advisories (``make check``).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "requirements.lock"
BUILD_LOCK: Final = ROOT / "requirements-build.lock"
SBOM: Final = ROOT / "sbom.cdx.json"
CONSTRAINTS: Final = ROOT / "constraints.txt"

_HEAD: Final = "# Made by `make lock`, for pip install --require-hashes.\n"
_LICENCES: Final = {"protobuf": "BSD-3-Clause"}
"""Of packages whose metadata says it in words of their own."""
_UNREACHABLE: Final = re.compile(r"ConnectionError|ServiceError|Timeout|Could not connect")
"""What pip-audit ends with where the service of advisories does not answer."""


@dataclass(frozen=True)
class Pin:
    """A package of the lock. ``marker``: where it is needed, empty for everywhere; ``hashes``: of its files."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


def name_of(requirement: str) -> str:
    """The package that is asked for, written as all indexes write it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def pins(text: str) -> list[Pin]:
    """The packages of a lock, or of constraints."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = map(str.strip, line.partition("#")[0].split("--hash="))
        if requirement:
            pinned, _, marker = requirement.partition(";")
            version = pinned.partition("==")[2].strip()
            found.append(Pin(name_of(pinned), version, marker.strip(), tuple(hashes)))
    return found


def make() -> None:
    """Write the files anew."""
    compile_ = ("uv", "pip", "compile", "--universal", "--constraint", str(CONSTRAINTS))
    form = ("--generate-hashes", "--no-header", "--no-annotate")
    LOCK.write_text(
        _HEAD
        + _said(*compile_, *form, "--extra", "gateway", "--extra", "tracing", "pyproject.toml"),
        "utf-8",
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        builds = Path(folder) / "requirements.in"
        builds.write_text("\n".join(project["build-system"]["requires"]), "utf-8")
        BUILD_LOCK.write_text(_HEAD + _said(*compile_, *form, str(builds)), "utf-8")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder)  # without pip, which would be a part of it otherwise
        python = f"{folder}/bin/python"
        install = ("pip", "--python", python, "install", "--quiet", "--require-hashes")
        _said(*install, "--requirement", str(LOCK))
        described = ("--pyproject", "pyproject.toml", "--output-reproducible", "--of", "JSON")
        found = json.loads(_said("cyclonedx-py", "environment", *described, python))
    for each in found["components"]:
        if "licenses" not in each and (licence := _LICENCES.get(each["name"])):
            each["licenses"] = [{"license": {"acknowledgement": "concluded", "id": licence}}]
    SBOM.write_text(json.dumps(_without_addresses(found), indent=2) + "\n", "utf-8")


def _without_addresses(value: Any) -> Any:
    """Where somebody publishes a package is their business, and changes."""
    if isinstance(value, dict):
        return {
            key: _without_addresses(each)
            for key, each in value.items()
            if key != "externalReferences"
        }
    return [_without_addresses(each) for each in value] if isinstance(value, list) else value


def audit() -> int:
    """Print what is known against the packages of the lock, and return the exit code."""
    asked = ("--requirement", str(LOCK), "--require-hashes", "--disable-pip", "--timeout", "10")
    form = ("--format", "json", "--progress-spinner", "off")
    done = _run("pip-audit", *asked, *form)
    told, code = verdict(done.stdout, done.stderr)
    print(f"pip-audit: {told}")
    return code


def verdict(output: str, errors: str) -> tuple[str, int]:
    """What pip-audit has found, and the exit code.

    Args:
        output: its JSON, or nothing.
        errors: its standard error.
    """
    try:
        packages = json.loads(output)["dependencies"]
    except ValueError:
        last = (errors.strip().splitlines() or ["it said nothing"])[-1]
        if _UNREACHABLE.search(errors):
            return (
                f"nothing was audited, since the service of advisories does not answer: {last}",
                0,
            )
        return f"it has failed: {last}", 1
    left_out = [each["skip_reason"] for each in packages if "skip_reason" in each]
    if len(left_out) == len(packages):
        told = "nothing was audited, since the service of advisories knows no package here"
        return f"{told}: {left_out[0]}", 0
    known = [
        f"{each['name']} {each['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version'}"
        for each in packages
        for flaw in each.get("vulns", ())
    ]
    if known or left_out:
        return "\n  ".join(["there is something to look at", *known, *left_out]), 1
    return f"nothing is known against {len(packages)} packages", 0


def _said(program: str, *arguments: str) -> str:
    """What a program of this environment prints."""
    done = _run(program, *arguments)
    if done.returncode:
        sys.exit(f"{program} has failed:\n{done.stderr}")
    return done.stdout


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = Path(sys.executable).parent / program
    return subprocess.run(
        [str(path), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("make", "audit"))
    if parser.parse_args(arguments).what == "audit":
        return audit()
    make()
    return 0


if __name__ == "__main__":
    sys.exit(main())
