"""The programs of tests/js, with the packages that they need."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
from pathlib import Path

from tests.support.programs import cannot_run, require_program

JS = Path(__file__).parent.parent / "js"
_INSTALL_SECONDS = 50


def installed() -> Path:
    """The folder, its packages installed."""
    npm = require_program("npm")
    lockfile = JS / "package-lock.json"
    # One worker installs, the others wait for it.
    with lockfile.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = hashlib.sha256(lock.read()).hexdigest()
        stamp = JS / "node_modules" / ".installed"
        if not stamp.exists() or stamp.read_text() != wanted:
            _install(npm)
            stamp.write_text(wanted)
    return JS


def _install(npm: str) -> None:
    try:
        subprocess.run(
            [npm, "ci"], cwd=JS, check=True, capture_output=True, timeout=_INSTALL_SECONDS
        )
    except subprocess.SubprocessError as error:
        cannot_run(f"npm ci failed: {error} {(error.stderr or b'').decode()}")
