"""``make dist``: the wheel and the sdist, the same bytes from the same commit wherever and whenever they are built.

Setuptools takes the times in a wheel from ``SOURCE_DATE_EPOCH`` (reproducible-builds.org); in an sdist it does not, so
that is packed once more. What git knows is built, and nothing else that lies in the folder.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.packaging import matrix

ROOT = Path(__file__).parents[2]

_BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, f"build_{sys.argv[1]}")(sys.argv[2]))
"""


def build(target: Path, commit: str = "HEAD") -> list[Path]:
    """Build a commit into ``target``; the wheel and the sdist.

    Raises:
        matrix.CannotInstall: the pinned setuptools is not to be had.
        subprocess.CalledProcessError: git or setuptools has failed.
    """
    epoch = int(_git("log", "-1", "--format=%ct", commit))
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dist-") as folder:
        source, tools = Path(folder) / "source", Path(folder) / "tools"
        pinned = "--require-hashes", "--requirement", str(ROOT / "requirements-build.lock")
        matrix._pip(Path(sys.executable), "install", "--target", str(tools), *pinned)
        with tarfile.open(fileobj=io.BytesIO(_git("archive", commit))) as archive:
            archive.extractall(source, filter="data")
        built = []
        # Each from the sources as they were: the first build leaves files behind.
        for kind in ("wheel", "sdist"):
            copy, out = Path(folder) / kind, Path(folder) / f"{kind}-out"
            shutil.copytree(source, copy)
            out.mkdir()
            subprocess.run(
                [sys.executable, "-c", _BUILD, kind, str(out)],
                cwd=copy,
                env={
                    **os.environ,
                    "PYTHONPATH": str(tools),
                    "SOURCE_DATE_EPOCH": str(epoch),
                    "TZ": "UTC",
                },
                umask=0o022,  # the wheel has the modes of its files
                check=True,
                capture_output=True,
            )
            (made,) = out.iterdir()
            if kind == "sdist":
                _repack(made, epoch)
            built.append(Path(shutil.copy(made, target / made.name)))
    return built


def _git(*arguments: str) -> bytes:
    command = ["git", "-c", f"safe.directory={ROOT}", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout


def _repack(sdist: Path, epoch: int) -> None:
    """Write the archive anew: in order, with one time, and nobody's name."""
    with tarfile.open(sdist) as archive:
        entries = [
            (member, file.read() if (file := archive.extractfile(member)) else b"")
            for member in archive.getmembers()
        ]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, content in sorted(entries, key=lambda entry: entry[0].name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, len(content), epoch
            plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            archive.addfile(plain, io.BytesIO(content))
    with sdist.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=epoch) as stream:
        stream.write(packed.getvalue())


def main() -> None:
    """Build into ``dist``, and print what sha256sum prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default="HEAD")
    options = parser.parse_args()
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for path in build(ROOT / "dist", options.commit):
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  dist/{path.name}")  # noqa: T201


if __name__ == "__main__":
    main()
