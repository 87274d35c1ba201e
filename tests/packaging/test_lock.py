"""The lock, the SBOM and the constraints speak of the same packages, and the lock can be installed."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.packaging.supply import BUILD_LOCK, CONSTRAINTS, LOCK, ROOT, SBOM, name_of, pins, verdict
from tests.support.programs import cannot_run

LOCKED = pins(LOCK.read_text("utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MAKE = "run make lock"


def test_each_package_of_the_lock_has_the_version_that_was_tested_and_the_hashes_of_its_files() -> (
    None
):
    constrained = {each.name: each.version for each in pins(CONSTRAINTS.read_text("utf-8"))}
    builds = pins(BUILD_LOCK.read_text("utf-8"))
    assert len(LOCKED) > 20
    assert [each.name for each in builds] == ["setuptools"]
    for each in [*LOCKED, *builds]:
        assert each.version == constrained[each.name], MAKE
        assert each.hashes
        assert all(value.startswith("sha256:") for value in each.hashes)


def test_the_constraints_name_each_package_once() -> None:
    names = [each.name for each in pins(CONSTRAINTS.read_text("utf-8"))]
    assert sorted(set(names)) == sorted(names)


def test_all_that_the_gateway_asks_for_is_in_the_lock() -> None:
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *extras["gateway"], *extras["tracing"]]
    assert {name_of(each) for each in asked} <= {each.name for each in LOCKED}, MAKE


def test_the_sbom_names_what_is_in_the_lock_with_a_licence() -> None:
    found = json.loads(SBOM.read_text("utf-8"))
    root = found["metadata"]["component"]
    assert (root["name"], root["version"]) == (PROJECT["name"], PROJECT["version"]), MAKE
    components = {name_of(each["name"]): each for each in found["components"]}
    versions = {name: each["version"] for name, each in components.items()}
    # What only some systems need may be missing on the one where it was made.
    needed = {each.name: each.version for each in LOCKED if not each.marker}
    assert needed.items() <= versions.items() <= {e.name: e.version for e in LOCKED}.items(), MAKE
    assert all(each["licenses"] and each["purl"] for each in components.values())
    (direct,) = [each for each in found["dependencies"] if each["ref"] == root["bom-ref"]]
    assert len(direct["dependsOn"]) >= 9


@pytest.mark.long
@pytest.mark.xdist_group("packaging")
@pytest.mark.timeout(300)
def test_the_packages_that_are_offered_have_the_hashes_of_the_lock(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--require-hashes",
        "--requirement",
        str(LOCK),
    ]
    done = subprocess.run(
        [*command, "--no-deps", "--only-binary", ":all:", "--dest", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "DO NOT MATCH" not in done.stderr:
        cannot_run(f"no packages are to be had here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir())


# -- what pip-audit says --------------------------------------------------------------------------


def package(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "version": "1", **more}


FLAW = {"id": "PYSEC-1", "fix_versions": ["2"]}
SKIPPED = {"name": "b", "skip_reason": "b was not found"}


@pytest.mark.parametrize(
    ("packages", "code", "told"),
    [
        (
            [package("a", vulns=[]), package("b", vulns=[])],
            0,
            "nothing is known against 2 packages",
        ),
        ([package("a", vulns=[FLAW]), package("b", vulns=[])], 1, "a 1: PYSEC-1, mended in 2"),
        ([package("a", vulns=[]), SKIPPED], 1, "b was not found"),
        ([SKIPPED, SKIPPED], 0, "nothing was audited"),
    ],
)
def test_an_advisory_fails_the_check_and_so_does_a_package_that_was_left_out(
    packages: list[dict[str, object]], code: int, told: str
) -> None:
    said, result = verdict(json.dumps({"dependencies": packages}), "")
    assert result == code
    assert told in said


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ("Traceback …\nrequests.exceptions.ConnectionError: refused", 0),
        ("ERROR:pip_audit._cli:Could not connect to the vulnerability feed", 0),
        ("ERROR:pip_audit._cli:invalid requirements input", 1),
        ("", 1),
    ],
)
def test_that_nothing_could_be_audited_is_told_and_fails_only_where_the_service_has_answered(
    errors: str, code: int
) -> None:
    said, result = verdict("", errors)
    assert result == code
    assert "\n" not in said
