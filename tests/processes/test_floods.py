"""A client that floods a node as operators run it, on the event loop that it has there."""

from __future__ import annotations

import asyncio

from gateway.web.outgoing import CLOSE_TIMEOUT_SECONDS
from tests.support.processes import gateway_process
from tests.support.raw import CLOSE, TEXT, client_frame, raw_client
from tests.support.tokens import make_token


async def test_a_client_that_floods_learns_of_the_close_at_once(
    redis_url: str, prefix: str
) -> None:
    async with (
        gateway_process(redis_url, prefix, client_message_burst=50) as node,
        raw_client(node.url, make_token("u")) as client,
    ):
        client.writer.write(client_frame(TEXT, b'{"type":"heartbeat"}') * 20_000)
        assert (await client.next(CLOSE)).payload == b"\x03\xf0flood"
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS / 2):
            assert await client.reader.read() == b""
        assert "Traceback" not in node.output
