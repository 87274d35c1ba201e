"""Joining what the log holds with what arrives live.

Every message names the id before it in its channel (``prev``), so that a reader at a position can tell
a repeated message (``id <= position``) from a gap (``prev > position``).
"""

from __future__ import annotations

from collections.abc import Iterable

from publisher.contract.message import LogPage, Message


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


def goes_on_at(position: int, page: LogPage) -> int:
    """Where the log goes on for a reader at ``position``: elsewhere if something was lost to it.

    Before it, where Redis has lost its data: what was lost with a position that Redis does not know
    nobody can say, and from there the same loss would be found again and again. The page may be from an
    earlier position. One that ends before the reader's own, with more to come, says nothing yet.
    """
    following = splice(position, page.messages)
    if following:
        return following[0].prev
    return page.newest if page.complete else position


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
