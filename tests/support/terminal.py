"""Programs in a terminal of their own, as people see them and type into them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import termios
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Self

from tests.support.waiting import until

_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[=>()][AB0]?|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x07\x0f]"
)
"""What moves the cursor and colours (ECMA-48), not what is shown."""

INTERRUPT = "\x03"
TAB = "\t"


class Terminal:
    """A pseudo-terminal, the program in it, and all that has been written there."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self.raw = ""
        """All of it, with the control sequences."""
        self._from = 0

    @property
    def text(self) -> str:
        """What was shown since ``forget``, one screen below the other."""
        return _CONTROL.sub("", self.raw[self._from :])

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """The program is told by SIGWINCH."""
        termios.tcsetwinsize(self._master, (lines, columns))

    def forget(self) -> None:
        """Look only at what comes from now on."""
        self._from = len(self.raw)

    async def shows(self, *texts: str, seconds: float = 20) -> str:
        """Wait until all these were shown; returns what was shown."""
        await self.until(lambda: all(each in self.text for each in texts), seconds)
        return self.text

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        try:
            await until(condition, seconds)
        except BaseException as error:
            error.add_note(f"The terminal has shown:\n{self.text}")
            raise

    async def ended(self) -> int:
        """Wait until the program has ended by itself; its exit code."""
        await self.until(lambda: self.process.poll() is not None)
        return self.process.returncode

    def is_as_before(self) -> bool:
        """Whether keys are shown and lines are edited, as at the beginning."""
        local = termios.tcgetattr(self._master)[3]
        return bool(local & termios.ECHO and local & termios.ICANON)

    def _read(self) -> None:
        # The other end is closed with the last program in the terminal (EIO).
        with contextlib.suppress(OSError):
            self.raw += os.read(self._master, 65536).decode("utf-8", "replace")
            return
        asyncio.get_running_loop().remove_reader(self._master)

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)


@contextlib.asynccontextmanager
async def terminal(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    columns: int = 100,
    lines: int = 30,
) -> AsyncIterator[Terminal]:
    """Run a command in a terminal of this size until the block ends.

    Args:
        environment: all variables that it has.
    """
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (lines, columns))
    process = subprocess.Popen(  # noqa: ASYNC220 - it is there in a moment
        command,
        env=dict(environment),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        # Ctrl-C reaches whoever has it as the controlling terminal.
        preexec_fn=lambda: os.login_tty(0),  # noqa: PLW1509 - subprocess cannot do that by itself
    )
    os.close(slave)
    async with Terminal(master, process) as shown:
        yield shown
