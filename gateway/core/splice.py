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
    logged (0 for none that is known of). A reader ahead of it cannot know what Redis has lost with
    it: that counts as a loss too. So does a chain that begins anew after the reader's position.
    """
    if following:
        first = following[0].prev
        return first > position or (first == 0 and position > 0)
    return position != newest
