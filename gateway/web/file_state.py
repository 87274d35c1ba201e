"""Whether a file has changed since it was read."""

from __future__ import annotations

from pathlib import Path


def state_of(path: Path) -> tuple[int, ...] | None:
    """What tells one state of a file from another; ``None`` where it cannot be looked at. It blocks."""
    try:
        # Of the file behind links: Kubernetes changes where a link leads.
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
