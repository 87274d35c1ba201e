"""The programs of tests/js, with the packages that they need."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
from pathlib import Path
from typing import Final

from tests.support.programs import cannot_build, cannot_run, require_program

JS = Path(__file__).parent.parent / "js"
_INSTALL_SECONDS = 50

RUNTIMES: Final = {
    "node22": ("node22/bin/node",),
    "node24": ("node24/bin/node",),
    "deno": (".bin/deno", "run", "--allow-all"),
    "bun": (".bin/bun",),
}
"""What else runs programs than the machine's Node: where npm puts it, and its options."""


def installed(folder: Path = JS) -> Path:
    """The folder, its packages installed."""
    npm = require_program("npm")
    lockfile = folder / "package-lock.json"
    # One worker installs, the others wait for it.
    with lockfile.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = hashlib.sha256(lock.read()).hexdigest()
        stamp = folder / "node_modules" / ".installed"
        if not stamp.exists() or stamp.read_text() != wanted:
            _install(npm, folder)
            stamp.write_text(wanted)
    return folder


def runtime(name: str) -> tuple[str, ...]:
    """The command that runs a program in one of ``RUNTIMES``; where there is none for this machine the test is skipped."""
    path, *options = RUNTIMES[name]
    program = installed(JS / "runtimes") / "node_modules" / path
    if not program.exists():
        cannot_build(f"npm has no {name} for this machine")
    return (str(program), *options)


def _install(npm: str, folder: Path) -> None:
    try:
        subprocess.run(
            [npm, "ci"], cwd=folder, check=True, capture_output=True, timeout=_INSTALL_SECONDS
        )
    except subprocess.SubprocessError as error:
        cannot_run(f"npm ci failed: {error} {(error.stderr or b'').decode()}")
