"""Checks with clients that take nothing for a while. Nine megabytes are published for each, more than buffers on the way take."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from gateway.conformance.line import Line
from gateway.conformance.stage import Stage, check
from gateway.conformance.verdicts import Failed, Skipped, expect

_BATCHES: Final = 45
_AT_ONCE: Final = 10
_TEXT: Final = "x" * 20_000
_STALL_SECONDS: Final = 45.0
"""A node gives a client up that has taken nothing for 30 s, and looks every 3 s."""
_ABSORBED: Final = (
    "what was published went into the buffers on the way, so nothing waited in the server"
)


async def _publish_unread(stage: Stage, line: Line, channel: str) -> list[int]:
    """Publish much to a client that takes nothing meanwhile; returns the ids in their order."""
    line.stop_reading()
    ids: list[int] = []
    for _ in range(_BATCHES):
        ids += await asyncio.gather(*(stage.publish(_TEXT, channel) for _ in range(_AT_ONCE)))
    return sorted(ids)


@check("S-509", "a loss on an open subscription is told with messages_lost", slow=True)
async def loss(stage: Stage) -> None:
    """A client takes nothing until the log has let go of what it has not been sent."""
    await stage.grant(stage.granted)
    line = await stage.listen(stage.granted)
    ids = await _publish_unread(stage, line, stage.granted)
    line.read_on()
    missing, told = set(ids), None
    while ids[-1] in missing:
        message = await line.next("run-results", "error")
        if message["type"] == "error":
            told = message
        missing.discard(message.get("id", 0))
    if not missing:
        raise Skipped(f"{_ABSORBED}, or the log keeps more than {len(ids)} messages here")
    expect(
        told is not None, f"{len(missing)} of {len(ids)} messages are missing, and nothing says so"
    )
    assert told is not None
    expect(
        (told.get("code"), told.get("channel")) == ("messages_lost", stage.granted),
        f"{len(missing)} of {len(ids)} messages are missing, and the error says {told}",
    )


@check(
    "S-703",
    "a client that takes nothing for 30 s is closed with 1013, one that takes it is caught up",
    slow=True,
)
async def slow_consumer(stage: Stage) -> None:
    """Caught up once, and then given up; what it missed follows when it comes back."""
    line = await stage.listen()
    ids = await _publish_unread(stage, line, stage.own)
    line.read_on()
    for id_ in ids:
        await stage.data(line, id_)
    later = await _publish_unread(stage, line, stage.own)
    # It is the time itself that is looked at, and how the connection has ended shows behind all that was not read.
    await asyncio.sleep(_STALL_SECONDS)
    line.read_on()
    last = ids[-1]
    end = time.monotonic() + line.patience
    while not line.ended.done() and last != later[-1] and time.monotonic() < end:
        try:
            last = (await line.next("notifications"))["id"]
        except Failed:
            break
    if last == later[-1]:
        raise Skipped(_ABSORBED)
    ended = await line.end()
    # Where the end of the TCP connection overtakes the close frame a client sees 1006. A ping that came just before it took
    # nothing any more is unanswered for 30 s a little earlier (S-603).
    ends = {(1013, "slow_consumer"), (3008, "pong_timeout")}
    expect(ended.code == 1006 or (ended.code, ended.reason) in ends, f"it ends with {ended}")
    line = await stage.connect()
    await stage.subscribe(line, stage.own, since=last)
    for id_ in later[later.index(last) + 1 if last in later else 0 :]:
        await stage.data(line, id_)
