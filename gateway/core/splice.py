"""Joining what the log holds with what arrives live.

Every message names the id before it in its channel (``prev``), so that a reader at a position can tell
a repeated message (``id <= position``) from a gap (``prev > position``).
"""

from __future__ import annotations

from collections.abc import Iterable

from publisher.message import Message


def splice(position: int, *sources: Iterable[Message]) -> list[Message]:
    """All messages after ``position`` that any source has, in order, each once.

    Messages that are not logged have no place in the order of ids; they keep theirs, at the end.
    """
    logged: dict[int, Message] = {}
    unlogged: list[Message] = []
    for source in sources:
        for message in source:
            if not message.logged:
                unlogged.append(message)
            elif message.id > position:
                logged[message.id] = message
    return [logged[id_] for id_ in sorted(logged)] + unlogged


def lost(position: int, newest: int, following: list[Message]) -> bool:
    """Whether messages after ``position`` were taken away before a reader could have them.

    ``following`` are those that the log still has after it, ``newest`` is the id of the last one ever
    logged (0 for none that is known of). A position that Redis does not know counts as a loss too:
    what was lost with it nobody can say.
    """
    return position != (following[0].prev if following else newest)


def unbroken(position: int, page: list[Message], live: Iterable[Message]) -> bool:
    """Whether what came ``live`` goes on where a page of the log, read from ``position``, ends.

    If not, something in between has not come and is in the log by now, or Redis has lost what the page
    ends with.
    """
    end = max(position, page[-1].id) if page else position
    for message in splice(end, live):
        if message.logged:
            if message.prev != end:
                return False
            end = message.id
    return True
