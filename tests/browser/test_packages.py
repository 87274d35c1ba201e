"""What npm is told."""

from __future__ import annotations

from pathlib import Path

JS = Path(__file__).parent.parent / "js"


def test_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (JS / "package-lock.json").read_text("utf-8")
