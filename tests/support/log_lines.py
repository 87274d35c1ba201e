"""Reads lines of the gateway's log as an operator's tools do."""

from __future__ import annotations

import json
import re
from typing import Final

_PAIR: Final = re.compile(r'([^\s="]+)=("(?:[^"\\]|\\.)*"|[^\s="\\]+)(?: |$)')


def read_logfmt(line: str) -> dict[str, str]:
    """The fields of a line.

    Raises:
        ValueError: it is no logfmt, or names a field twice.
    """
    fields: dict[str, str] = {}
    at = 0
    while at < len(line):
        pair = _PAIR.match(line, at)
        if pair is None or pair[1] in fields:
            raise ValueError(f"no logfmt from here on: {line[at:]!r}, in {line!r}")
        fields[pair[1]] = json.loads(pair[2]) if pair[2].startswith('"') else pair[2]
        at = pair.end()
    return fields
