"""Single keys, from a terminal that hands them over as they are pressed."""

from __future__ import annotations

import os
import termios
import tty
from typing import Final

_MANY: Final = 1024


class Keyboard:
    """Standard input, if it is a terminal. Ctrl-C and Ctrl-Z are signals as ever."""

    def __init__(self, file: int) -> None:
        self.file = file
        self._before = termios.tcgetattr(file) if os.isatty(file) else None

    @property
    def is_there(self) -> bool:
        """Whether there is anything to read keys from."""
        return self._before is not None

    def start(self) -> None:
        """Hand over each key at once, and do not show it."""
        if self._before is not None:
            tty.setcbreak(self.file)

    def stop(self) -> None:
        """Leave the terminal as it was found."""
        if self._before is not None:
            termios.tcsetattr(self.file, termios.TCSADRAIN, self._before)

    def pressed(self) -> str:
        """What has been pressed since; empty at the end of the input."""
        return os.read(self.file, _MANY).decode("utf-8", "replace")
