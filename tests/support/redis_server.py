"""A real Redis on a TCP port of its own, in memory only unless its options say otherwise."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.development.redis_server import server_binary

_PORTS = range(15_000, 32_000)
_RANGES = 8
_given: set[int] = set()
_START_SECONDS = 20.0
_STOP_SECONDS = 20.0
_TRIES = 5


def free_port(count: int = 1) -> int:
    """The first of ``count`` TCP ports of 127.0.0.1 that are free, and that no other test is given.

    Below those that the system hands out, one of which an outgoing connection could take meanwhile. Each
    worker has a range of its own and gives no port twice: what is free now may be another test's server
    that is just being started again.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _RANGES
    size = (_PORTS.stop - _PORTS.start) // _RANGES
    while True:
        first = _PORTS.start + worker * size + random.randrange(size - count + 1)
        ports = range(first, first + count)
        if _given.isdisjoint(ports) and all(map(_is_free, ports)):
            _given.update(ports)
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


class RedisServer:
    """A server in ``folder`` that can be killed, frozen and started again on the same port.

    Args:
        options: the server's own; ``--appendonly yes`` lets its data outlive a kill.
    """

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self._folder = folder
        self._options = options
        self._given_port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process that runs, or has run last."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        return self._folder / "redis.log"

    def log_has(self, text: str) -> bool:
        """Whether it has written ``text``."""
        return text in self.log.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start it and wait until it answers, with its data loaded; blocks."""
        # Somebody may take the port between choosing and using it.
        for _ in range(_TRIES):
            self._process = self._launch()
            if _is_ready(self._process, self.port):
                return
            self._process.wait()
            self.port = self._given_port or free_port()
        raise RuntimeError(f"The Redis for the tests does not start:\n{self.log.read_text()}")

    def restart(self) -> None:
        """Start it again where everybody knows it; blocks."""
        self._given_port = self.port
        self.start()

    def kill(self) -> None:
        """End it without warning. What it had written to its file stays."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang: its connections stay open, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def forget(self) -> None:
        """Take the data of a server that was killed away."""
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(timeout=_STOP_SECONDS)

    def _launch(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [
                    *(server_program(), "--bind", "127.0.0.1", "--port", str(self.port)),
                    *("--dir", str(self._folder), "--save", ""),
                    *self._options,
                ],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal is for pytest, which then stops the server in order.
                start_new_session=True,
            )


@contextlib.contextmanager
def redis_server(folder: Path, *options: str, port: int | None = None) -> Iterator[str]:
    """Run a server in ``folder`` and yield its URL; ``options`` are the server's own."""
    server = RedisServer(folder, *options, port=port)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def server_program() -> str:
    """The server's program: the one that TEST_REDIS_SERVER names, else that of the development mode."""
    return os.environ.get("TEST_REDIS_SERVER") or str(server_binary())


def _is_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
        while process.poll() is None:
            # While it loads its data it answers with an error.
            with contextlib.suppress(redis.ConnectionError):
                # Somebody else's server on this port would answer as well.
                if client.info("server")["process_id"] == process.pid:
                    client.ping()
                    return True
            if time.monotonic() > deadline:
                process.kill()
                break
            time.sleep(0.01)
    return False
