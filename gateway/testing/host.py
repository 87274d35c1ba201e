"""The process in which the gateways of a run of tests live, as seen from the tests.

It is another process, so that it goes on whatever a test does to its own: blocks the event loop, stops the clock, or turns
warnings into errors. ``serving.py`` is what runs there. When this process ends, in whatever way, the other notices that its standard
input is closed, and ends too.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, Self

_ANSWER_SECONDS: Final = 60.0
_END_SECONDS: Final = 15.0
_NEEDED: Final = ("aiohttp", "jwt", "pydantic_settings")

_INSTALL: Final = "install the extra embedded: pip install '.[embedded]' in a checkout, or pip install 'FILE.whl[embedded]' with the wheel"


class CannotServe(Exception):
    """There is no gateway; the message says why."""


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that takes connections on a port of 127.0.0.1."""

    port: int
    redis_url: str
    prefix: str
    jwt_secret: str | None


class Host:
    """Starts the process with the first gateway. One gateway at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""
        self._lock = threading.Lock()

    def serve(self, settings: Mapping[str, Any]) -> Served | CannotServe:
        """Start a gateway that has a prefix of its own in Redis; or why there is none: something is not installed, the
        settings are wrong, or the process has died.
        """
        try:
            return Served(**self._ask("serve", settings=dict(settings)))
        except CannotServe as error:
            return error

    def token(self, user: str, channels: list[str], lifetime: int) -> str:
        """A token that the gateway accepts.

        Raises:
            CannotServe: it has no secret to sign with.
        """
        return str(self._ask("token", user=user, channels=channels, lifetime=lifetime)["token"])

    def end(self) -> None:
        """End the gateway. Its clients are told as in a deployment (1001)."""
        if self._process is not None and self._process.poll() is None:
            self._ask("end")

    def _ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            line = json.dumps({"command": command, **arguments}, default=str)
            try:
                process.stdin.write(line.encode() + b"\n")
                answered, _, _ = select.select([process.stdout], [], [], _ANSWER_SECONDS)
                answer = process.stdout.readline() if answered else b""
            except BrokenPipeError:
                answer = b""
        if not answer:
            raise CannotServe(
                "the gateway's process does not answer; what it has said is in the captured stderr"
            )
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            raise CannotServe(found["error"])
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        missing = [name for name in _NEEDED if find_spec(name) is None]
        if missing:
            raise CannotServe(f"{missing[0]} is not installed; {_INSTALL}")
        # Short: a socket's path has at most 100 bytes.
        self._folder = tempfile.mkdtemp(prefix="rt-tests-")
        # What is set for a gateway of the user's own is not meant.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith("GATEWAY_")
        }
        path = [each for each in sys.path if each]
        self._process = subprocess.Popen(  # noqa: S603 - this Python, and a module of ours
            [sys.executable, "-m", "gateway.testing.serving", self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**kept, "PYTHONPATH": os.pathsep.join(path)},
        )
        return self._process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
