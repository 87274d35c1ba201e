"""The clients that people connect with: how each is started, and what of its messages it compresses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from tests.clients import toolchains
from tests.support import javascript
from tests.support.programs import require_program

Command = Callable[[], tuple[str, ...]]
"""What starts a client, before the address to connect to. What it needs is installed and built, or the test skipped."""


@dataclass(frozen=True)
class RealClient:
    """A library, as it is used with certain settings.

    ``receives_compressed`` says that the server's large messages are compressed, ``sends_compressed`` that
    the client's are.
    """

    name: str
    command: Command
    receives_compressed: bool = False
    sends_compressed: bool = False


def _python(program: str, *options: str) -> Command:
    return lambda: (sys.executable, str(toolchains.HERE / "python" / program), *options)


def _node(program: str, *options: str) -> Command:
    def command() -> tuple[str, ...]:
        path = str(javascript.installed() / program)
        return (require_program("node"), "--experimental-websocket", path, *options)

    return command


def _go(program: str, *options: str) -> Command:
    return lambda: (str(toolchains.go_programs() / program), *options)


def _rust(program: str) -> Command:
    return lambda: (str(toolchains.rust_programs() / program),)


def _java(name: str) -> Command:
    def command() -> tuple[str, ...]:
        java, classes = toolchains.java_classes()
        # Starting takes longer than running: compile quickly.
        return (java, "-XX:TieredStopAtLevel=1", "-cp", str(classes), name)

    return command


def _both(name: str, make: Callable[..., Command], program: str) -> tuple[RealClient, RealClient]:
    """With compression and without."""
    return (
        RealClient(f"{name}, compressed", make(program, "on"), True, True),
        RealClient(name, make(program, "off")),
    )


CLIENTS = (
    *_both("websockets with asyncio", _python, "websockets_asyncio.py"),
    *_both("websockets with threads", _python, "websockets_threads.py"),
    *_both("aiohttp", _python, "aiohttp_session.py"),
    RealClient("websocket-client", _python("websocket_app.py")),
    *_both("Node ws", _node, "ws-lines.mjs"),
    RealClient("Node", _node("own-lines.mjs"), receives_compressed=True),
    *_both("gorilla/websocket", _go, "gorilla"),
    *_both("coder/websocket", _go, "coder"),
    RealClient("tungstenite", _rust("tungstenite-client")),
    RealClient("Java HttpClient", _java("Client")),
)
