"""A real Redis on a TCP port of its own, in memory only, for as long as a test session lasts."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.embedded import server_binary

_START_SECONDS = 20.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago.

    Below those that the system hands out, one of which an outgoing connection could take meanwhile.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def redis_server(folder: Path, *options: str, port: int | None = None) -> Iterator[str]:
    """Run a server in ``folder`` and yield its URL; ``options`` are the server's own."""
    log = folder / "redis.log"
    # Somebody may take the port between choosing and using it.
    for _ in range(5):
        chosen = port or free_port()
        process = _launch(folder, chosen, options)
        if _is_ready(process, chosen):
            break
        process.wait()
    else:
        raise RuntimeError(f"The Redis for the tests does not start:\n{log.read_text()}")
    try:
        yield f"redis://127.0.0.1:{chosen}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _launch(folder: Path, port: int, options: tuple[str, ...]) -> subprocess.Popen[bytes]:
    with (folder / "redis.log").open("ab") as log:
        return subprocess.Popen(
            [
                *(str(server_binary()), "--bind", "127.0.0.1", "--port", str(port)),
                *("--dir", str(folder), "--save", ""),
                *options,
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C at the terminal is for pytest, which then stops the server in order.
            start_new_session=True,
        )


def _is_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
        while process.poll() is None:
            with contextlib.suppress(redis.ConnectionError):
                # Somebody else's server on this port would answer as well.
                if client.info("server")["process_id"] == process.pid:
                    return True
            if time.monotonic() > deadline:
                process.kill()
                break
            time.sleep(0.01)
    return False
