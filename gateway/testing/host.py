"""The process in which the gateways of a run of tests live, as seen from the tests.

It is another process, so that it goes on whatever a test does to its own: blocks the event loop, stops the clock, or turns
warnings into errors. ``serving.py`` is what runs there. When this process ends, in whatever way, the other notices that its standard
input is closed, and ends too.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from time import monotonic
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
        self._numbers = count(1)

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
            number = next(self._numbers)
            asked = {"number": number, "command": command, **arguments}
            try:
                answer = _exchange(process, json.dumps(asked, default=str), number)
            except (BrokenPipeError, EOFError, TimeoutError):
                self._give_up()  # the next test has another one
                raise CannotServe(
                    "the gateway's process does not answer; what it has said is in the captured stderr"
                ) from None
        if "error" in answer:
            raise CannotServe(answer["error"])
        return answer

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
        self._give_up()

    def _give_up(self) -> None:
        """End the process, if there is one, and what it has left."""
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
            _end_redis(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)


def _end_redis(folder: str) -> None:
    """End the Redis that a process which has died has left; another one has taken this file along."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(int((Path(folder) / "redis.pid").read_text()), signal.SIGTERM)


def _exchange(process: subprocess.Popen[bytes], line: str, number: int) -> dict[str, Any]:
    """The answer to a command.

    Raises:
        BrokenPipeError, EOFError, TimeoutError: there is none.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line.encode() + b"\n")
    until = monotonic() + _ANSWER_SECONDS
    # A test that was interrupted, by a signal or its time limit, may have left an answer unread.
    while select.select([process.stdout], [], [], max(0.0, until - monotonic()))[0]:
        if not (answered := process.stdout.readline()):
            raise EOFError
        found: dict[str, Any] = json.loads(answered)
        if found.pop("number") == number:
            return found
    raise TimeoutError
