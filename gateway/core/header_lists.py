"""Header fields that are lists of parameters: ``a; b=1, c; d="x, y"`` (RFC 6455 §9.1, RFC 7239 §4), and cookies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from gateway.core.http import OPTIONAL_SPACE

Parameter = tuple[str, str | None]
"""A name and its value, ``None`` without one."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_QUOTED: Final = re.compile(r'"((?:\\.|[^"\\])*)"')
_ESCAPED: Final = re.compile(r"\\(.)")
_MOST_PARAMETERS: Final = 16
"""A member with more is malformed. No extension or proxy has so many, and each takes time."""
# A quotation that does not end goes on to the end of the field.
_SEPARATOR: Final = {
    separator: re.compile(rf'"(?:\\.|[^"\\])*"?|({separator})') for separator in ",;"
}


def members(value: str) -> list[str]:
    """The members of a list, not looked into: there may be thousands, and each takes time.

    Empty members are left out, as RFC 9110 §5.6.1 has it.
    """
    return [member for member in _split(value, ",") if member.strip(OPTIONAL_SPACE)]


def parameters(member: str) -> list[Parameter] | None:
    """The parameters that a member consists of; ``None`` when it is malformed."""
    if member.count(";") > _MOST_PARAMETERS:
        return None
    found: list[Parameter] = []
    for part in _split(member, ";"):
        name, equals, raw = (each.strip(OPTIONAL_SPACE) for each in part.partition("="))
        value = _unquoted(raw)
        if not _TOKEN.fullmatch(name) or (equals and value is None):
            return None
        found.append((name, value if equals else None))
    return found


def is_cookie_name(text: str) -> bool:
    """Whether a cookie may have this name (RFC 6265 §4.1.1)."""
    return _TOKEN.fullmatch(text) is not None


def cookies(lines: Iterable[str], name: str) -> list[str]:
    """The values of all cookies of this name, as they stand there (RFC 6265 §5.4).

    Args:
        lines: the values of the lines ``Cookie``.
        name: as it was set; cookies differ by small and large letters.
    """
    wanted = re.compile(rf"(?:^|;)[ \t]*+{re.escape(name)}=([^;]*+)")
    return [value.rstrip(OPTIONAL_SPACE) for line in lines for value in wanted.findall(line)]


def _split(value: str, separator: str) -> list[str]:
    """The parts between the separators that are not quoted."""
    parts = []
    start = 0
    for found in _SEPARATOR[separator].finditer(value):
        if found[1]:
            parts.append(value[start : found.start()])
            start = found.end()
    return [*parts, value[start:]]


def _unquoted(raw: str) -> str | None:
    """The value of a token or of a quoted string; ``None`` for anything else."""
    if _TOKEN.fullmatch(raw):
        return raw
    quoted = _QUOTED.fullmatch(raw)
    return None if quoted is None else _ESCAPED.sub(r"\1", quoted[1])
