"""Header fields that are lists of parameters: ``a; b=1, c; d="x, y"`` (RFC 6455 §9.1, RFC 7239 §4)."""

from __future__ import annotations

import re
from typing import Final

Parameter = tuple[str, str | None]
"""A name and its value, ``None`` without one."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_QUOTED: Final = re.compile(r'"((?:\\.|[^"\\])*)"')
_ESCAPED: Final = re.compile(r"\\(.)")
# A quotation that does not end goes on to the end of the field.
_SEPARATOR: Final = {
    separator: re.compile(rf'"(?:\\.|[^"\\])*"?|({separator})') for separator in ",;"
}


def parse(value: str) -> list[list[Parameter] | None]:
    """The members of a list, each as its parameters; ``None`` for a member that is malformed.

    Empty members are left out, as RFC 9110 §5.6.1 has it.
    """
    return [_parameters(member) for member in _split(value, ",") if member.strip()]


def _split(value: str, separator: str) -> list[str]:
    """The parts between the separators that are not quoted."""
    parts = []
    start = 0
    for found in _SEPARATOR[separator].finditer(value):
        if found[1]:
            parts.append(value[start : found.start()])
            start = found.end()
    return [*parts, value[start:]]


def _parameters(member: str) -> list[Parameter] | None:
    parameters: list[Parameter] = []
    for part in _split(member, ";"):
        name, equals, raw = (each.strip() for each in part.partition("="))
        value = _unquoted(raw)
        if not _TOKEN.fullmatch(name) or (equals and value is None):
            return None
        parameters.append((name, value if equals else None))
    return parameters


def _unquoted(raw: str) -> str | None:
    """The value of a token or of a quoted string; ``None`` for anything else."""
    if _TOKEN.fullmatch(raw):
        return raw
    quoted = _QUOTED.fullmatch(raw)
    return None if quoted is None else _ESCAPED.sub(r"\1", quoted[1])
