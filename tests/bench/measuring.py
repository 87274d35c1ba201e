"""What the operating system says of processes and of the machine. Linux only: proc(5), clock_getres(2)."""

from __future__ import annotations

import os
import platform
import re
import resource
import time
from collections.abc import Iterable
from pathlib import Path

_PROCESS_CLOCK = 2
"""``CPUCLOCK_SCHED``: the scheduler's own account, in ns, of all threads that are and were."""


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time, user and system, that processes have used so far.

    The clock of another process (``clock_getcpuclockid(3)``) is the figure of ``/proc/<pid>/stat``
    without the rounding to 10 ms.
    """
    return sum(time.clock_gettime(~pid << 3 | _PROCESS_CLOCK) for pid in pids)


def memory_bytes(pids: Iterable[int]) -> int:
    """The processes' proportional set size: their own pages, and their share of shared ones."""
    return sum(_pss(pid) for pid in pids)


def _pss(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii", errors="replace")
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    assert found is not None, rollup
    return int(found[1]) * 1024


def with_children(pid: int) -> list[int]:
    """The process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [pid, *(each for child in children for each in with_children(int(child)))]


def machine() -> str:
    """The machine in one line, for the table: cores, processor, kernel, Python."""
    info = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    processor = re.sub(r"\((R|TM)\)", "", model[1]) if model else platform.machine()
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {processor}, Linux {kernel}, Python {platform.python_version()}"


def raise_file_limit(needed: int) -> None:
    """Let this process and its children open so many files.

    Raises:
        SystemExit: the system does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise SystemExit(
                f"{needed} open files are needed and {hard} allowed: "
                f"raise the limit (ulimit -Hn), or make the load smaller (--scale)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
