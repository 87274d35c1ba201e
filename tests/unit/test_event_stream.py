"""How an event stream of several channels tells its client where it stands."""

from __future__ import annotations

import asyncio
import socket

from gateway.core import closing
from gateway.core.events import COMMENT, WITHOUT_IDS, event
from gateway.web.event_stream import EventSocket

MESSAGE = event(b'{"type":"news"}' + b" " * 77)
LONG = b"p" + b"x" * 939


class Ended:
    """Is told of the end."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    def congested(self) -> None:
        """More waits than the transport likes: never here."""
        raise AssertionError

    def lost(self) -> None:
        """The transport is gone."""
        self.over.set()


async def test_of_a_long_position_no_more_is_told_than_of_messages_and_the_last_at_the_end() -> (
    None
):
    here, there = socket.socketpair()
    there.setblocking(False)
    loop = asyncio.get_running_loop()
    asked = 0

    def where() -> bytes:
        nonlocal asked
        asked += 1
        return b"%b%d" % (LONG, asked)

    def told() -> bytes:
        return there.recv(2**20)

    stream = EventSocket(WITHOUT_IDS, 2**20, None, where)
    await loop.create_connection(lambda: stream, sock=here)
    ended = Ended()
    stream.serve(ended)
    for _ in range(105):
        stream.write(MESSAGE)
    assert asked <= 1 + 105 * len(MESSAGE) // len(LONG)
    assert told().startswith(MESSAGE + b"id: " + LONG + b"1\n\n" + MESSAGE)

    stream.write(MESSAGE)
    before = asked
    stream.write(COMMENT)
    assert told().endswith(b"id: %b%d\n\n" % (LONG, asked))
    stream.write(COMMENT)
    assert told() == COMMENT
    assert asked == before + 1

    stream.write(MESSAGE)
    stream.close(closing.NORMAL)
    assert told().startswith(MESSAGE + b"id: %b%d\n\nretry: " % (LONG, before + 2))
    there.close()
    await ended.over.wait()
