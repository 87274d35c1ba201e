"""A worker: an ordinary node in a process of its own, as ``gateway.supervisor`` starts it.

``python -m gateway.worker <number>``. Standard input is a pipe that brings the settings, pickled, and
stays open while the worker shall serve: when it is closed, by a supervisor that wants it to leave or
that has died, the worker drains. On standard output it says how far it has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import sys
from typing import Final

from gateway import logs, serve
from gateway.settings import Settings, UsageError

LISTENING: Final = b"listening\n"
READY: Final = b"ready\n"

_STDIN: Final = 0
_STDOUT: Final = 1
_ANYTHING: Final = 1024


def main() -> None:
    """Serve; exits with 2 for a mistake in the configuration."""
    number = int(sys.argv[1])
    try:
        settings: Settings = pickle.load(sys.stdin.buffer)  # noqa: S301 - our parent's own
    except EOFError:
        sys.exit("gateway.worker is started by `gateway serve --workers`")
    logs.configure(settings.log_level, number)
    try:
        sys.exit(serve.run(_serve(settings)))
    except UsageError as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


async def _serve(settings: Settings) -> int:
    # A closed pipe is not counted as a signal. Service managers send theirs to the supervisor and the
    # workers alike; a worker that had been told both ways by signals would take the second for haste.
    told = asyncio.Event()
    serve.on_signals(told)
    loop = asyncio.get_running_loop()

    def released() -> None:
        if not os.read(_STDIN, _ANYTHING):
            loop.remove_reader(_STDIN)
            told.set()

    loop.add_reader(_STDIN, released)
    await serve.run_node(
        settings, told, lambda _addresses: _report(LISTENING), lambda _addresses: _report(READY)
    )
    return 0


def _report(progress: bytes) -> None:
    # A supervisor that has died hears nothing; the other pipe tells of that.
    with contextlib.suppress(BrokenPipeError):
        os.write(_STDOUT, progress)


if __name__ == "__main__":
    main()
