"""The client of the `websockets` package for threads."""

from __future__ import annotations

import sys
import threading

from lines import say
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect


def main(compression: str, address: str) -> None:
    with connect(
        address,
        compression="deflate" if compression == "on" else None,
        ping_interval=0.5,
        ping_timeout=20,
    ) as socket:
        say("open")
        reading = threading.Thread(target=read, args=(socket,))
        reading.start()
        for line in sys.stdin:
            socket.send(line.removesuffix("\n"))
        socket.close()
        reading.join()


def read(socket: ClientConnection) -> None:
    try:
        for text in socket:
            say("message", text)
    except ConnectionClosedError:
        pass  # any code but 1000 and 1001
    say("close", socket.close_code, socket.close_reason)


main(*sys.argv[1:])
