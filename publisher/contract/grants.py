"""To whom a channel may be granted, and the name under which that is stored.

Everybody is stored as ``*``, as ever. A user may have this id too, and is stored under the empty name, which no id can
be. So nobody becomes everybody by the choice of an id.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias


class Everybody(Enum):
    """The type of :data:`EVERYBODY`: every authenticated user, in the place of one user's id."""

    EVERYBODY = "everybody"

    def __repr__(self) -> str:
        return self.name


EVERYBODY: Final = Everybody.EVERYBODY

Grantee: TypeAlias = str | Everybody
"""A user's id, or everybody."""

ASTERISK: Final = "*"
_USER_CALLED_ASTERISK: Final = ""


def member_of(grantee: Grantee) -> str:
    """The name under which a grant to ``grantee`` is stored and told."""
    if grantee is EVERYBODY:
        return ASTERISK
    return _USER_CALLED_ASTERISK if grantee == ASTERISK else grantee


def grantee_of(member: str) -> Grantee:
    """Whose grant is stored under ``member``."""
    if member == ASTERISK:
        return EVERYBODY
    return ASTERISK if member == _USER_CALLED_ASTERISK else member
