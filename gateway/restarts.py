"""What is done about a worker that has ended. Pure: no clock, no process."""

from __future__ import annotations

from typing import Final

from gateway.core.timing import Backoff

USAGE_ERROR: Final = 2
"""Exit status of a process that somebody has to configure differently; trying again is no use."""

LONGEST_PAUSE_SECONDS: Final = 10.0
_TRIES: Final = 5
_SOUND_SECONDS: Final = 30.0
"""A worker that has served for this long is not one that crashes again and again."""


class Restarts:
    """One worker's history, for as long as its supervisor lives.

    A worker that has never served is at fault itself, or its configuration is: soon that is the end, and
    somebody sees it. One that has served before has settings that work, so it is started again for ever:
    the clients of its siblings are not to pay for what it lacks.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._has_served = False
        self._failed_starts = 0

    def pause_after(self, code: int, served_seconds: float | None) -> float | None:
        """Seconds until the worker is started again; ``None`` means never.

        Args:
            code: its exit status, as ``subprocess`` has it.
            served_seconds: how long it had listened; ``None`` when it had not come to that.
        """
        if served_seconds is not None:
            self._has_served = True
            if served_seconds >= _SOUND_SECONDS:
                self._backoff.reset()
        elif not self._has_served:
            self._failed_starts += 1
            if code == USAGE_ERROR or self._failed_starts == _TRIES:
                return None
        return self._backoff.next()


def exit_status(code: int) -> int:
    """The status as a shell would tell it: 128 and the signal's number for one that was killed."""
    return code if code >= 0 else 128 - code
