"""Node ``ws`` and Socket.IO, both behind Redis pub/sub."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import orjson
import redis.asyncio

from tests.bench.peers.installing import npm_modules
from tests.bench.peers.peer import Peer
from tests.bench.peers.processes import running
from tests.bench.servers import Message
from tests.bench.world import own_redis
from tests.support.redis_server import free_port

_HERE: Final = Path(__file__).parent
_CHANNEL: Final = "bench"
_REDIS: Final = "redis@5.8.2"
_WS: Final = "8.18.3"
_SOCKET_IO: Final = "4.8.1"
_PACKAGES: Final = (
    _REDIS,
    f"ws@{_WS}",
    f"socket.io@{_SOCKET_IO}",
    "@socket.io/redis-adapter@8.3.0",
    "@socket.io/redis-emitter@5.1.0",
)


@contextlib.asynccontextmanager
async def ws() -> AsyncIterator[Peer]:
    """A minimal server on ``ws``, subscribed to a Redis channel."""
    environment = _environment()
    port = free_port()
    with own_redis() as server:
        command = _node("ws_server.js", str(port), server.url, _CHANNEL)
        async with (
            running(*command, environment=environment) as process,
            redis.asyncio.Redis.from_url(server.url) as client,
        ):

            async def publish(messages: Sequence[Message]) -> None:
                pipeline = client.pipeline(transaction=False)
                for each in messages:
                    pipeline.publish(_CHANNEL, orjson.dumps(each))
                await pipeline.execute()

            yield Peer("Node ws", _WS, port, 0, "/", process, publish)


@contextlib.asynccontextmanager
async def socket_io() -> AsyncIterator[Peer]:
    """Socket.IO with its Redis adapter; messages come from its Redis emitter."""
    environment = _environment()
    port = free_port()
    # Its client answers the server's greeting with a connect packet, and gets one back.
    target = "/socket.io/?EIO=4&transport=websocket\t~\t40"
    with own_redis() as server:
        async with (
            running(
                *_node("socketio_server.js", str(port), server.url), environment=environment
            ) as process,
            running(*_node("socketio_emitter.js", server.url), environment=environment) as emitter,
        ):

            async def publish(messages: Sequence[Message]) -> None:
                assert emitter.stdin is not None
                emitter.stdin.write(b"".join(orjson.dumps(each) + b"\n" for each in messages))
                await emitter.stdin.drain()

            yield Peer("Socket.IO", _SOCKET_IO, port, 2, target, process, publish)


def _environment() -> dict[str, str]:
    return {"NODE_PATH": str(npm_modules(*_PACKAGES)), "NODE_ENV": "production"}


def _node(script: str, *arguments: str) -> list[str]:
    node = shutil.which("node")
    assert node is not None
    return [node, str(_HERE / script), *arguments]
