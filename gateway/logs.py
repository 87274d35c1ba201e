"""Structured logs: one line each, as logfmt or as JSON, and never a token in them.

A log call is ``log.info("event_name key=%s other=%d", value, number)``. In another program's log, where the
publisher library writes, such a record reads well as it stands. Here each key becomes a field, whatever its value holds.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

from gateway.core.log_limit import LogLimit

Value = str | int | float | None
"""What a field holds. A field that holds ``None`` is left out."""

# A JWT begins with the base64 of `{"`, and nothing else that is logged looks like it. Its dots may be percent-encoded.
_TOKEN: Final = re.compile(r"eyJ[\w.%-]{5,}")

TEMPLATE: Final = re.compile(r"\w+(?: \w+=\S+)*")
"""What a log call of ours says."""

_TEMPLATES_REMEMBERED: Final = 256
"""Those of ours are fewer; what libraries write may never come again."""

_FIELD: Final = re.compile(r"(\w+)=(\S+)")
_CONVERSION: Final = re.compile(r"%[\d.]*[a-zA-Z]")
_DECIMAL: Final = re.compile(r"%\.\d+f")
_BARE: Final = re.compile(r"[^\s\"'=\\]+")
"""A value that logfmt needs no quotes for."""


ABOUT_CLIENTS: Final = frozenset(
    {
        "connection_revoked",
        "connection_silent",
        "left_live",
        "log_unreadable",
        "messages_lost",
        "place_lost",
        "place_unknown",
        "places_dropped",
        "places_refused",
        "places_unchecked",
        "places_unreconciled",
        "pong_timeout",
        "slow_consumer",
        "token_expired",
    }
)
"""Events of single connections and users. A client with a token can cause most of them as often as it likes, and trouble
with Redis the others for thousands at once. Those that have causes or kinds (``flood``, ``refresh_rejected``,
``connection_refused``) are limited where they are logged."""


def as_logfmt(fields: Mapping[str, Value]) -> str:
    """``key=value key="a value with spaces"``; what cannot be printed is escaped as in JSON."""
    return " ".join(f"{key}={_word(value)}" for key, value in fields.items())


def _word(value: Value) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if text.isprintable() and _BARE.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


# In ASCII: standard error may be in an encoding that would put escapes of its own into the line.
FORMATS: Final[Mapping[str, Callable[[Mapping[str, Value]], str]]] = {
    "logfmt": as_logfmt,
    "json": json.dumps,
}


class LineFormatter(logging.Formatter):
    """A record's time, level, logger, event and fields, in one line; a traceback is the field ``exception``.

    Args:
        write: makes a line of fields.
        worker: its number, where several write to the same log.
    """

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(
        self, write: Callable[[Mapping[str, Value]], str], worker: int | None = None
    ) -> None:
        super().__init__()
        self._write = write
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever was put into it."""
        fields: dict[str, Value] = {**self.head(record), **_told(record)}
        if hasattr(record, "left_out"):
            fields["left_out"] = record.left_out
        if self._worker is not None:
            fields["worker"] = self._worker
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        line = self._write({key: value for key, value in fields.items() if value is not None})
        return _TOKEN.sub("[token]", line)

    def head(self, record: logging.LogRecord) -> dict[str, Value]:
        """What each line begins with."""
        return {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
        }


class FewOfClients(logging.Filter):
    """Lets a few lines of each event pass of which there may be as many as there are clients, and more.

    The next one that passes says how many were left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._limit = LogLimit(time.monotonic())

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        event = str(record.msg).partition(" ")[0]
        if event not in ABOUT_CLIENTS:
            return True
        left_out = self._limit.admit(event, time.monotonic())
        if left_out:
            record.left_out = left_out
        return left_out is not None


def _told(record: logging.LogRecord) -> dict[str, Value]:
    """The event and its fields; what a library has written is the field ``message``."""
    template = _read(record.msg) if isinstance(record.msg, str) else None
    if template is None:
        return {"event": "message", "message": record.getMessage()}
    # A single argument that is a mapping comes without its tuple (logging.LogRecord).
    arguments = iter(record.args if isinstance(record.args, tuple) else (record.args,))
    fields: dict[str, Value] = {"event": template.event}
    for key, form, count in template.fields:
        fields[key] = _value(form, tuple(islice(arguments, count)))
    return fields


class _Template(NamedTuple):
    """What a log call of ours says; of each field its name, how it is formatted, and how many arguments that takes."""

    event: str
    fields: tuple[tuple[str, str, int], ...]


@lru_cache(_TEMPLATES_REMEMBERED)
def _read(message: str) -> _Template | None:
    """The template that a message is; ``None`` for what a library has written."""
    if not TEMPLATE.fullmatch(message):
        return None
    event, _, rest = message.partition(" ")
    fields = ((key, form, len(_CONVERSION.findall(form))) for key, form in _FIELD.findall(rest))
    return _Template(event, tuple(fields))


def _value(form: str, given: tuple[object, ...]) -> Value:
    if _DECIMAL.fullmatch(form):
        return _plain(float(form % given), str)
    if form in {"%s", "%d", "%r"}:
        return _plain(given[0], repr if form == "%r" else str)
    return form % given


def _plain(value: object, as_text: Callable[[object], str]) -> Value:
    """A number, a truth value or nothing as it is, for JSON; anything else as text."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return as_text(value)


def configure(level: str, form: str = "logfmt", worker: int | None = None) -> None:
    """Send all logs, and Python's warnings, to standard error, those of a worker with its number.

    Args:
        level: the lowest that is written.
        form: one of ``FORMATS``.
        worker: the worker's number, if the process is one.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(FORMATS[form], worker))
    handler.addFilter(FewOfClients())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
