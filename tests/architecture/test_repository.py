"""What is committed speaks of no machine of ours."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MACHINE_PATH = re.compile(rb"(?<![\w.}-])/(?:root|work|home)/")
# Where packages come from is the business of the machine that installs them.
INDEX = re.compile(
    rb"(?:index|extra-index)[-_]url\b|\btrusted[-_]host\b|\bfind[-_]links\b|://[^\s\"]+/simple\b"
    rb"|\"resolved\": \"https?://(?!registry\.npmjs\.org/)",
    re.IGNORECASE,
)


def committed() -> list[Path]:
    """The files that git knows; without git, those of the folders that are committed."""
    git = shutil.which("git")
    if git is not None and (ROOT / ".git").exists():
        listed = subprocess.run(
            [git, "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        if listed.returncode == 0 and listed.stdout:
            return [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    folders = ("deploy", "docs", "gateway", "publisher", "tests")
    found = [path for path in ROOT.iterdir() if path.is_file()]
    found += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [path for path in found if not {"node_modules", "__pycache__"} & set(path.parts)]


def texts() -> dict[str, bytes]:
    contents = {}
    for path in committed():
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            contents[path.relative_to(ROOT).as_posix()] = content
    return contents


def lines_with(pattern: re.Pattern[bytes]) -> list[str]:
    return [
        f"{name}:{number}"
        for name, content in texts().items()
        for number, line in enumerate(content.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    assert lines_with(MACHINE_PATH) == []


def test_no_file_names_a_package_index() -> None:
    assert lines_with(INDEX) == []


def test_the_files_that_matter_were_looked_at() -> None:
    assert {"pyproject.toml", "constraints.txt", "Makefile", "README.md"} <= set(texts())


@pytest.mark.parametrize("path", ["root", "work", "home"])
def test_a_machine_path_is_found_and_an_address_is_not(path: str) -> None:
    assert MACHINE_PATH.search(f'open("/{path}/main/x")'.encode())
    assert not MACHINE_PATH.search(f"https://example.com/{path}/page".encode())


@pytest.mark.parametrize(
    "line",
    [
        "--index" + "-url https://example.com/pypi",
        "PIP_EXTRA_INDEX" + "_URL=x",
        "--trusted" + "-host example.com",
        "https://example.com/root/" + "simple",
        '      "resolved": "http' + '://example.com/ws.tgz"',
    ],
)
def test_a_package_index_is_found(line: str) -> None:
    assert INDEX.search(line.encode())


def test_only_one_place_lets_a_test_be_skipped() -> None:
    """There REQUIRE_ALL_TESTS=1 turns the skip into a failure."""
    pattern = re.compile(rb"pytest\.skip\(|mark\.skip|importorskip|unittest\.skip")
    found = {line.partition(":")[0] for line in lines_with(pattern)}
    without_hiredis = "tests/publisher/test_resp.py"  # the matrix runs it so
    here = Path(__file__).relative_to(ROOT).as_posix()
    assert found - {here, without_hiredis} == {"tests/support/programs.py"}
