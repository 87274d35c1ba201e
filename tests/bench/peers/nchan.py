"""nginx with Nchan, one worker; messages are posted to it over HTTP, kept in its memory."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import orjson

from tests.bench.peers.installing import debian_program, debian_version
from tests.bench.peers.peer import Peer
from tests.bench.peers.processes import running
from tests.bench.servers import Message
from tests.support.redis_server import free_port

_PACKAGE: Final = "libnginx-mod-nchan"
_MODULE: Final = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

_CONFIGURATION: Final = """
load_module {module};
daemon off;
pid {folder}/pid;
error_log stderr crit;
worker_processes 1;
worker_rlimit_nofile 20000;
events {{ worker_connections 15000; }}
http {{
  access_log off;
  tcp_nodelay on;
  # The publisher waits for its turn longer than nginx waits for a client by default (75 s).
  keepalive_timeout 1h;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  nchan_message_buffer_length 1000;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /subscribe {{ nchan_subscriber websocket; nchan_channel_id bench; }}
    location = /publish {{ nchan_publisher; nchan_channel_id bench; }}
  }}
}}
"""


@contextlib.asynccontextmanager
async def nchan() -> AsyncIterator[Peer]:
    """Nchan as Debian has it."""
    nginx = debian_program(_PACKAGE, "nginx", _MODULE)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="nchan-") as folder:
        configuration = Path(folder) / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(module=_MODULE, folder=folder, port=port), "utf-8"
        )
        # The worker runs as another user when nginx is started as root.
        configuration.parent.chmod(0o755)
        command = [nginx, "-p", folder, "-c", str(configuration)]
        async with running(*command, port=port) as process, _publisher(port) as publish:
            yield Peer("Nchan", debian_version(_PACKAGE), port, 0, "/subscribe", process, publish)


@contextlib.asynccontextmanager
async def _publisher(port: int) -> AsyncIterator[object]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def publish(messages: Sequence[Message]) -> None:
        for each in messages:
            body = orjson.dumps(each)
            head = f"POST /publish HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
        await writer.drain()

    async def pass_over() -> None:
        while await reader.read(65536):
            pass

    answers = asyncio.create_task(pass_over())
    try:
        yield publish
    finally:
        writer.close()
        answers.cancel()
