"""How many connections a process has room for: each is a file."""

from __future__ import annotations

from typing import Final, NamedTuple

_RESERVED_FILES: Final = 128
"""Left to everything else: Redis, the internal port, the ports themselves, and connections that are to be refused."""
_MOST_UNAUTHENTICATED: Final = 10_000


class Capacity(NamedTuple):
    """What a node may hold, by the files that its process may open.

    Attributes:
        files: how many these are.
        connections: of clients that were let in.
        unauthenticated: connections that have shown no valid token, while there are files for them.
        crowded_file: from this file number on one of these has to go for each that comes.
        last_file: from this file number on no connection is accepted.
    """

    files: int
    connections: int
    unauthenticated: int
    crowded_file: int
    last_file: int


def capacity(files: int, connections: int, unauthenticated: int | None) -> Capacity:
    """What a node may hold of what it is asked to.

    Args:
        files: how many the process may open.
        connections: of clients that were let in, as asked for.
        unauthenticated: of others; ``None`` for half of the files, and at most 10,000.
    """
    room = max(
        files - _RESERVED_FILES, 2
    )  # the process has some files of its own, below those of clients
    # Whoever comes must be heard, also to be told that the node is full.
    most = room - max(room // 32, 1)
    asked = _MOST_UNAUTHENTICATED if unauthenticated is None else unauthenticated
    return Capacity(
        files,
        min(connections, most),
        max(1, min(asked, room // 2)),
        max(files - _RESERVED_FILES // 2, room),
        max(files - _RESERVED_FILES // 4, room),
    )
