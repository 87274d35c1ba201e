"""The `websocket-client` package, which knows no compression."""

from __future__ import annotations

import sys
import threading

from lines import say
from websocket import ABNF, WebSocketApp


def main(address: str) -> None:
    app = WebSocketApp(
        address,
        on_open=lambda _app: say("open"),
        on_message=lambda _app, text: say("message", text),
        # It answers even the answer to its own close; if the server is gone by then, it knows no code.
        on_close=lambda _app, code, reason: say("close", code or 1000, reason or ""),
    )
    # Pings are answered while it runs.
    running = threading.Thread(target=app.run_forever)
    running.start()
    for line in sys.stdin:
        app.send(line.removesuffix("\n"))
    # `close()` would take the answer from the thread that waits for it, for ten seconds.
    if running.is_alive():
        app.send((1000).to_bytes(2), ABNF.OPCODE_CLOSE)
    running.join()


main(sys.argv[1])
