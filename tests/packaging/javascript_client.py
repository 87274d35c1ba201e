"""Builds the JavaScript client: ``python -m tests.packaging.javascript_client`` writes the files that every gateway serves,
with ``check`` it looks at their size and types.

They are committed. A test builds them anew and compares, so that what is served is what can be read in ``src``.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from gateway.web.client_files import FOLDER, built_files, integrity
from tests.support.javascript import installed
from tests.support.programs import require_program

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "javascript-client.md"

MODULES: Final = {
    "realtime": "client.js",
    "storage": "client/storage.js",
    "fallback": "client/fallback.js",
    "mock": "client/mock.js",
    "share": "client/share.js",
}
"""Each entry in ``src``, and what it is built into."""

LARGEST_CORE_BYTES: Final = 5_120
"""Of ``client.js``, gzipped."""

TYPE_CHECK: Final = (
    "node_modules/typescript/bin/tsc",
    "client-types.ts",
    "--strict",
    "--noEmit",
    *("--target", "es2022"),
    *("--module", "esnext"),
    *("--moduleResolution", "bundler"),
    *("--lib", "es2022,dom"),
)
"""What checks the declarations, in the folder of the JavaScript programs."""

_INTEGRITY: Final = re.compile(r'/(client(?:/\w+)?\.js)": "sha384-[A-Za-z0-9+/]{64}"')


def build(folder: Path) -> None:
    """Write the built files into a folder, as they lie in the package."""
    program = str(installed() / "build-client.mjs")
    names = [
        name
        for entry, file in MODULES.items()
        for name in (str(FOLDER / "src" / f"{entry}.js"), str(folder / file))
    ]
    subprocess.run([require_program("node"), program, *names], check=True)


def size(path: Path) -> int:
    """Bytes, gzipped."""
    return len(gzip.compress(path.read_bytes(), 9, mtime=0))


def with_integrity(page: str) -> str:
    """The page, with the hashes of the files as they are."""

    def line(found: re.Match[str]) -> str:
        return f'/{found[1]}": "{integrity((FOLDER / found[1]).read_bytes())}"'

    return _INTEGRITY.sub(line, page)


def check_size() -> None:
    """End the program if the core is too large."""
    core = size(FOLDER / "client.js")
    if core > LARGEST_CORE_BYTES:
        raise SystemExit(f"client.js has {core} bytes gzipped, and may have {LARGEST_CORE_BYTES}")


def check_types() -> None:
    """End the program if the declarations do not fit."""
    done = subprocess.run([require_program("node"), *TYPE_CHECK], cwd=installed(), check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def _make() -> None:
    build(FOLDER)
    PAGE.write_text(with_integrity(PAGE.read_text("utf-8")), "utf-8")
    for path in built_files().values():
        sys.stdout.write(f"{path.relative_to(FOLDER)}: {size(path)} bytes gzipped\n")
    check_size()


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        check_size()
        if shutil.which("npm") is None:
            sys.stdout.write("no npm: the types of the JavaScript client are not checked\n")
        else:
            check_types()
    else:
        _make()
