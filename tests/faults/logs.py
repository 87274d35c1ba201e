"""What processes write to their logs, and which of it the faults explain."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Final, Self

from tests.faults.trace import LogLine, Occurrence, Trace, moment_of
from tests.support.log_lines import read_logfmt

_BAD_LEVELS: Final = {"ERROR", "CRITICAL", ""}
_BAD_WORDS: Final = ("Traceback", "never retrieved", "never awaited", "Exception ignored")
_AFTERWARDS_SECONDS: Final = 5.0
"""So long after a fault what it has caused may still be logged."""

# By fault: what a line may say because of it. Whatever is at ERROR and not here is a defect of somebody's.
# Redis answers, but refuses: an operator has to act, so this is at ERROR, in a single line.
EXPLAINED: Final[dict[str, tuple[str, ...]]] = {
    "redis_is_out_of_memory": (r"redis_error reason=OOM ", r"subscriber_error reason=OOM "),
    "redis_becomes_a_replica": (r"redis_error reason=READONLY ",),
    "redis_lacks_replicas": (r"redis_error reason=NOREPLICAS ",),
    "redis_is_busy_with_a_script": (
        r"redis_error reason=BUSY ",
        r"subscriber_error reason=(b')?BUSY ",
    ),
    "redis_is_full_of_clients": (
        r"redis_error reason=.*max number of clients",
        r"subscriber_error reason=.*max number of clients",
    ),
    # It reads its file before it answers.
    "redis_killed": (r"redis_error reason=LOADING ",),
    "redis_fails_over": (r"redis_error reason=(READONLY|LOADING|MASTERDOWN) ",),
    "redis_fails_over_and_loses_writes": (r"redis_error reason=(READONLY|LOADING|MASTERDOWN) ",),
}


def unexplained(trace: Trace) -> Iterator[str]:
    """Each line that should not be there, and that no fault of that moment explains."""
    for line in trace.log_lines:
        if is_bad(line) and not _is_explained(line, trace.occurrences):
            yield f"log: {line.source}: {line.level} {line.text[:600]}"


def is_bad(line: LogLine) -> bool:
    """Whether somebody would have to look into it: an error, a traceback, or no log line at all."""
    return line.level in _BAD_LEVELS or any(word in line.text for word in _BAD_WORDS)


def _is_explained(line: LogLine, occurrences: list[Occurrence]) -> bool:
    return any(
        re.search(pattern, line.text)
        for each in occurrences
        if each.begun_at - 0.1 <= line.at <= each.ended_at + _AFTERWARDS_SECONDS
        for pattern in EXPLAINED.get(each.name, ())
        # A traceback is no answer of Redis's, even where it ends in one.
        if not any(word in line.text for word in _BAD_WORDS)
    )


def lines(source: str, output: str) -> list[LogLine]:
    """The lines of a process' output; what is none has an empty level and the time of the line before."""
    found: list[LogLine] = []
    at = 0.0
    for text in filter(str.strip, output.splitlines()):
        try:
            fields = read_logfmt(text)
            at = moment_of(datetime.fromisoformat(fields.pop("time")).timestamp())
            level, told = fields.pop("level").upper(), [fields.pop("logger"), fields.pop("event")]
        except (ValueError, KeyError):
            found.append(LogLine(at, source, "", text))
        else:
            told += [f"{key}={value}" for key, value in fields.items()]
            found.append(LogLine(at, source, level, " ".join(told).replace("\n", "\\n")))
    return found


class OwnLog(logging.Handler):
    """What the tests' own process logs while it is installed: asyncio's complaints, the publisher library's.

    It formats like the gateways do, so that both are judged alike.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[LogLine] = []
        self._format = logging.Formatter("%(name)s %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        text = self._format.format(record).replace("\n", "\\n")
        self.found.append(LogLine(time.monotonic(), "the tests", record.levelname, text))

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        logging.captureWarnings(capture=True)
        return self

    def __exit__(self, *_: object) -> None:
        logging.captureWarnings(capture=False)
        logging.getLogger().removeHandler(self)


def timeline(trace: Trace) -> str:
    """Faults and log lines in the order in which they came; times are the trace's."""
    told = [(line.at, f"{line.source}: {line.level} {line.text}") for line in trace.log_lines]
    for each in trace.occurrences:
        where = f" at nodes {each.nodes}" if each.nodes else ""
        told.append((each.begun_at, f"FAULT begins: {each.name}{where}"))
        told.append((each.ended_at, f"FAULT ends: {each.name}"))
        told.append((each.recovered_at, f"FAULT recovered from: {each.name}"))
    return "".join(f"{at:.3f} {text}\n" for at, text in sorted(told))
