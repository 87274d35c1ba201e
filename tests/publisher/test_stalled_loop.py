"""An event loop that stands still for longer than a call may take: the answer has come all the same."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import pytest
import uvloop

from publisher.contract.calls import Call
from publisher.transport.pipeline import Pipeline
from publisher.transport.topology import asyncio_topology

PING = Call(("PING",))
TIMEOUT = 0.5


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize("call", ["sent", "not sent yet"])
def test_a_call_made_before_the_loop_stood_still_is_answered_over_its_connection(
    redis_url: str, new_loop: Callable[[], asyncio.AbstractEventLoop], call: str
):
    ours, theirs = socket.socketpair()

    def stand_still() -> None:
        asyncio.get_running_loop().remove_reader(ours)
        time.sleep(2 * TIMEOUT)

    async def ask() -> None:
        pipeline = Pipeline(asyncio_topology(redis_url).for_loop(), None, TIMEOUT)
        await pipeline.call(PING)
        connection = pipeline._commands
        answer = pipeline.begin(PING)
        if call == "sent":
            # As the handler of some other connection's data: uvloop looks at its timers right afterwards.
            asyncio.get_running_loop().add_reader(ours, stand_still)
            theirs.send(b"x")
        else:
            stand_still()
        assert await answer == b"PONG"
        assert pipeline._commands is connection
        await pipeline.aclose()

    with ours, theirs, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(ask())
