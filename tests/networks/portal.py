"""``python -m tests.networks.portal PORT…``: what a captive portal says to whatever is asked of it."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

_LOGIN: Final = b"<!doctype html><title>Log in to the network</title>"
_ANSWER: Final = (
    b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Type: text/html\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_LOGIN), _LOGIN)
)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_ANSWER)
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def _serve(ports: list[int]) -> None:
    servers = [await asyncio.start_server(_answer, "0.0.0.0", port) for port in ports]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.gather(*(each.serve_forever() for each in servers))


if __name__ == "__main__":
    asyncio.run(_serve([int(port) for port in sys.argv[1:]]))
