"""Getting the peers: below ``build`` with npm and pip, from Debian with apt as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.bench.programs import BUILD

_MINUTES: Final = 60
_SBIN: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class Missing(Exception):
    """A peer cannot be had here; the message says why."""


def npm_modules(*packages: str) -> Path:
    """A folder ``node_modules`` with ``packages`` (``name@version``).

    Raises:
        Missing: there is no npm, or it failed.
    """
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise Missing("node and npm are not installed")
    folder = BUILD / "node"
    wanted = " ".join(packages)
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text("utf-8") != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        # Without a package.json here npm would look for one above, and install beside it.
        (folder / "package.json").write_text('{"private": true}', "utf-8")
        _run(
            "npm",
            "install",
            "--no-save",
            "--no-package-lock",
            "--no-audit",
            "--no-fund",
            "--prefix",
            str(folder),
            *packages,
        )
        stamp.write_text(wanted, "utf-8")
    return folder / "node_modules"


def virtual_environment(name: str, *packages: str) -> Path:
    """The Python of a virtual environment with ``packages``.

    Raises:
        Missing: they could not be installed.
    """
    folder = BUILD / name
    wanted = " ".join(packages)
    stamp = folder / "installed"
    python = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text("utf-8") != wanted:
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", *packages)
        stamp.write_text(wanted, "utf-8")
    return python


def debian_program(package: str, program: str, needs: Path | None = None) -> str:
    """The path of a Debian package's program; ``needs`` is another file of the package's.

    Raises:
        Missing: it is not installed, and cannot be.
    """
    if not _is_there(program, needs):
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise Missing(f"the Debian package {package} is not installed")
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", package)
        if not _is_there(program, needs):
            raise Missing(f"the Debian package {package} brought no {needs or program}")
    path = shutil.which(program, path=_SBIN)
    assert path is not None
    return path


def debian_version(package: str) -> str:
    """The version of an installed Debian package, without Debian's own part."""
    command = ["dpkg-query", "--show", "--showformat=${Version}", package]
    try:
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return told.split(":")[-1].split("-")[0].split("+")[0]


def _is_there(program: str, needs: Path | None) -> bool:
    return shutil.which(program, path=_SBIN) is not None and (needs is None or needs.exists())


def _run(*command: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=10 * _MINUTES,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:]
        raise Missing(f"{command[0]} failed: {' '.join(last)}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{command[0]} failed: {type(error).__name__}") from None
