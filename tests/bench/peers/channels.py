"""Django Channels on uvicorn, with its Redis pub/sub layer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import orjson

from tests.bench.peers.installing import virtual_environment
from tests.bench.peers.peer import Peer
from tests.bench.peers.processes import running
from tests.bench.servers import Message
from tests.bench.world import own_redis
from tests.support.redis_server import free_port

_APP: Final = str(Path(__file__).with_name("channels_app.py"))
_VERSION: Final = "4.3.2"
_PACKAGES: Final = (
    f"channels=={_VERSION}",
    "channels-redis==4.3.0",
    "uvicorn==0.38.0",
    "uvloop==0.22.1",
    "httptools==0.7.1",
    "websockets==15.0.1",
)
_SHARE: Final = 0.1
"""Of the messages the others get: it takes a hundred times as long for each."""


@contextlib.asynccontextmanager
async def channels() -> AsyncIterator[Peer]:
    """Channels as PyPI has it, in a virtual environment of its own."""
    python = str(virtual_environment("channels", *_PACKAGES))
    # -P: the folder of the script has a channels.py of its own.
    command = [python, "-P", _APP]
    port = free_port()
    with own_redis() as server:
        async with (
            running(*command, "serve", str(port), server.url, port=port) as process,
            running(*command, "emit", server.url) as emitter,
        ):

            async def publish(messages: Sequence[Message]) -> None:
                assert emitter.stdin is not None
                emitter.stdin.write(b"".join(orjson.dumps(each) + b"\n" for each in messages))
                await emitter.stdin.drain()

            yield Peer("Django Channels", _VERSION, port, 1, "/", process, publish, _SHARE)
