"""The JavaScript client as it is built, packed and typed."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path

import pytest

from gateway.web.client_files import FOLDER, built_files
from tests.packaging import javascript_client
from tests.support.javascript import JS, installed
from tests.support.programs import require_program

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.xdist_group("packaging")


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_served_is_built_from_what_can_be_read(tmp_path: Path) -> None:
    javascript_client.build(tmp_path)
    for path in built_files().values():
        built = tmp_path / path.relative_to(FOLDER)
        assert built.read_bytes() == path.read_bytes(), "make client builds it anew"


def test_the_core_is_small() -> None:
    javascript_client.check_size()


def test_its_pure_parts() -> None:
    run(
        require_program("node"),
        "--test",
        *sorted(each.name for each in JS.glob("*.test.mjs")),
        cwd=installed(),
    )


def test_its_version_is_the_gateways() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    package = json.loads((FOLDER / "package.json").read_text("utf-8"))
    assert package["version"] == project["version"].replace(".dev", "-dev.")


def test_it_can_be_packed_and_used_from_npm(tmp_path: Path) -> None:
    npm, node = require_program("npm"), require_program("node")
    (packed,) = json.loads(
        run(npm, "pack", "--json", "--pack-destination", str(tmp_path), cwd=FOLDER)
    )
    names = {each["path"] for each in packed["files"]}
    assert {"client.js", "client.d.ts", "client/share.js", "package.json", "README.md"} <= names
    (tmp_path / "package.json").write_text('{"type": "module"}')
    run(npm, "install", "--offline", "--no-audit", str(tmp_path / packed["filename"]), cwd=tmp_path)
    uses = (
        "import { Realtime } from 'realtime-gateway-client';"
        "import { share } from 'realtime-gateway-client/share';"
        "import { session } from 'realtime-gateway-client/storage';"
        "console.log(typeof Realtime, typeof share, typeof session)"
    )
    (tmp_path / "use.js").write_text(uses)
    assert run(node, "use.js", cwd=tmp_path) == "function function function\n"


@pytest.mark.long  # `make check` does it too
def test_its_declarations_fit_a_strict_program() -> None:
    installed()
    run(require_program("node"), *javascript_client.TYPE_CHECK, cwd=JS)


def test_the_page_names_the_hashes_of_what_is_served() -> None:
    page = javascript_client.PAGE.read_text("utf-8")
    assert page.count("sha384-") == len(built_files()) - 1  # no page of users loads the mock
    assert javascript_client.with_integrity(page) == page, "make client writes it"
