"""Django Channels at its best for a fan-out: the pub/sub layer. Runs in a virtual environment of its own.

``python channels_app.py serve PORT REDIS_URL`` serves with uvicorn, ``… emit REDIS_URL`` sends each
line of its input to all.
"""

import asyncio
import sys

import django
from django.conf import settings

_GROUP = "bench"


def configure(redis_url: str) -> None:
    """What a settings module would say."""
    layer = {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [redis_url]},
    }
    settings.configure(CHANNEL_LAYERS={"default": layer}, INSTALLED_APPS=["channels"])
    django.setup()


def serve(port: int) -> None:
    """One uvicorn process on uvloop, without compression and without a log of requests."""
    import uvicorn
    from channels.generic.websocket import AsyncWebsocketConsumer

    class Consumer(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.channel_layer.group_add(_GROUP, self.channel_name)
            await self.accept()
            await self.send("joined")

        async def disconnect(self, code: int) -> None:
            await self.channel_layer.group_discard(_GROUP, self.channel_name)

        async def tell(self, event: dict) -> None:
            await self.send(event["text"])

    uvicorn.run(
        Consumer.as_asgi(),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="websockets",
        ws_per_message_deflate=False,
        lifespan="off",
        log_level="warning",
        backlog=4096,
    )


async def emit() -> None:
    """Send lines of standard input to the group."""
    from channels.layers import get_channel_layer

    layer = get_channel_layer()
    loop = asyncio.get_running_loop()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await layer.group_send(_GROUP, {"type": "tell", "text": line.rstrip("\n")})


if __name__ == "__main__":
    configure(sys.argv[-1])
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        asyncio.run(emit())
