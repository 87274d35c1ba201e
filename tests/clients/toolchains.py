"""Client programs that must be built first: once in a session, while other workers wait.

What was built stays in a folder, so that the next session builds what has changed and no more.
"""

from __future__ import annotations

import fcntl
import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.programs import cannot_build, require_toolchain

HERE = Path(__file__).parent
# Ignored by git, and gone with `make clean`.
_BUILT = HERE.parents[1] / ".pytest_cache" / "clients"
_DOWNLOAD_SECONDS = 60
_BUILD_SECONDS = 240
SECONDS = _DOWNLOAD_SECONDS + _BUILD_SECONDS + 60
"""What a test may take that has to download and build first, on a busy machine."""


@functools.cache
def go_programs() -> Path:
    """The folder of the programs in Go."""
    go = require_toolchain(
        "go", "/usr/local/go/bin", "Go 1.23 or newer is needed, go.dev/dl has it"
    )

    def build(target: Path) -> None:
        _download(go, "mod", "download", folder="go")
        _run(go, "build", "-o", f"{target}/", "./...", folder="go")

    return _built("go", build)


@functools.cache
def rust_programs() -> Path:
    """The folder of the programs in Rust."""
    where = str(Path.home() / ".cargo/bin")
    cargo = require_toolchain("cargo", where, "Rust 1.85 or newer is needed, rustup.rs has it")

    def build(target: Path) -> None:
        _download(cargo, "fetch", "--locked", folder="rust")
        options = ("--quiet", "--locked", "--offline", "--target-dir", str(target))
        _run(cargo, "build", *options, folder="rust")

    return _built("rust", build) / "debug"


@functools.cache
def java_classes() -> tuple[str, Path]:
    """The JVM, and the folder of the classes."""
    advice = "a JDK of version 11 or newer is needed, such as Debian's default-jdk-headless"
    java, javac = (require_toolchain(name, "", advice) for name in ("java", "javac"))

    def build(target: Path) -> None:
        _run(javac, "-d", str(target), "Client.java", folder="java")

    return java, _built("java", build)


def _built(language: str, build: Callable[[Path], None]) -> Path:
    """The folder of what is built. The first worker of a session builds, before anybody uses it."""
    target = _BUILT / language
    target.mkdir(parents=True, exist_ok=True)
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    with (_BUILT / f"{language}.session").open("a+") as stamp:
        fcntl.flock(stamp, fcntl.LOCK_EX)
        stamp.seek(0)
        if stamp.read() != session:
            build(target)
            stamp.truncate(0)
            stamp.write(session)
    return target


def _download(*command: str, folder: str) -> None:
    """Get the packages. A machine that cannot, or whose toolchain is too old, skips the test."""
    try:
        _run(*command, folder=folder, seconds=_DOWNLOAD_SECONDS)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        reason = " ".join(str(error).split())
        cannot_build(f"the packages of tests/clients/{folder} are not to be had: {reason}")


def _run(*command: str, folder: str, seconds: float = _BUILD_SECONDS) -> None:
    done = subprocess.run(
        command,
        cwd=HERE / folder,
        # No other toolchain than the one that is there.
        env=os.environ | {"GOTOOLCHAIN": "local"},
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
