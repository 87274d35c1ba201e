"""Structured logs: one line each, and never a token in them."""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import Final

# A JWT begins with the base64 of `{"`, and nothing else that is logged looks like it. Its dots may be percent-encoded.
_TOKEN: Final = re.compile(r"eyJ[\w.%-]{5,}")


class LineFormatter(logging.Formatter):
    """``<time> <LEVEL> <logger> <event> key=value …``; a traceback stays on the line.

    Args:
        worker: its number, where several write to the same log.
    """

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, worker: int | None = None) -> None:
        which = "" if worker is None else f" worker={worker}"
        super().__init__(f"%(asctime)s %(levelname)s %(name)s %(message)s{which}")

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever was put into it."""
        line = super().format(record).replace("\n", "\\n").replace("\r", "\\r")
        return _TOKEN.sub("[token]", line)


def configure(level: str, worker: int | None = None) -> None:
    """Send all logs to standard error, those of a worker with its number."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
