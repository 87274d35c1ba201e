# ruff: noqa: T201 - a program that prints what it has measured
"""What the audit log costs a node for each connection, in CPU time: ``python -m tests.bench.audit``."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from gateway.audit_log import audit_log
from gateway.node import audit
from tests.unit.fakes import make_connection

CONNECTIONS: Final = 2_000
ROUNDS: Final = 15


def tell(count: int) -> float:
    """The two lines of each connection; returns what one costs the thread that serves clients, in microseconds."""
    connection, _ = make_connection(user="user-123456")
    connection.address = "192.0.2.17"
    began = time.thread_time()
    for _ in range(count):
        audit.admitted(connection, "https://app.example.org")
        audit.ended(connection, 1000, "")
    return (time.thread_time() - began) * 1e6 / count


def measured(count: int) -> tuple[float, float, float, float]:
    """A connection's cost where the log is off, of the event loop and of both threads where it is on; bytes in the file."""
    off = tell(count)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "audit.log"
        began = time.process_time()
        with audit_log(str(file), "node-1", None, lambda: None):
            of_loop = tell(count)
        of_both = (time.process_time() - began) * 1e6 / count
        return off, of_loop, of_both, file.stat().st_size / count


def main() -> None:
    rounds = [measured(CONNECTIONS) for _ in range(ROUNDS)]
    off, of_loop, of_both, size = map(statistics.median, zip(*rounds, strict=True))
    print(f"off: {off:.2f} µs a connection")
    print(
        f"on: {of_loop:.1f} µs of the event loop, {of_both - of_loop:.1f} µs of the thread that writes"
    )
    print(f"{size:.0f} bytes")


if __name__ == "__main__":
    main()
