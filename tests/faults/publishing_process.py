"""A backend that can be killed and frozen, and what is known of its publishes afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Final

from tests.faults.logs import lines
from tests.faults.trace import Attempt, LogLine, Outcome, Publication
from tests.support.waiting import until

ROOT: Final = Path(__file__).parents[2]
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 30.0


class PublishingProcess:
    """Runs ``publishing_program`` for a channel; started again it goes on with the next number."""

    def __init__(self, folder: Path, url: str, prefix: str, channel: str, rate: float) -> None:
        self.channel = channel
        self._notes = folder / "notes"
        self._log = folder / "publisher.log"
        self._arguments = (url, prefix, channel, str(rate))
        self._process: asyncio.subprocess.Process | None = None
        folder.mkdir(parents=True, exist_ok=True)

    async def start(self) -> None:
        """Start it, and return once it has published or tried to."""
        asked = len(self.attempts())
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.publishing_program"),
                *(*self._arguments, str(asked + 1), str(self._notes)),
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await until(lambda: len(self.attempts()) > asked, _START_SECONDS)

    async def kill(self) -> None:
        """End it without warning."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def stop(self) -> None:
        """Let it finish what it has begun; what it was publishing is known then."""
        if self._process is None or self._process.returncode is not None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        finally:
            if self._process.returncode is None:
                await self.kill()

    def log_lines(self) -> list[LogLine]:
        """What it has written to its log."""
        if not self._log.exists():
            return []
        return lines("a publisher", self._log.read_text("utf-8", errors="replace"))

    def attempts(self) -> list[Attempt]:
        """Each publish. The outcome of one that was killed meanwhile nobody knows."""
        return [attempt for attempt, _ in self._read()]

    def publications(self) -> list[Publication]:
        """Those that were sent."""
        return [
            Publication(self.channel, each.number, each.id, each.asked_at, sent_at)
            for each, sent_at in self._read()
            if each.outcome is Outcome.SENT
        ]

    def _read(self) -> list[tuple[Attempt, float]]:
        if not self._notes.exists():
            return []
        found: dict[int, tuple[Attempt, float]] = {}
        for line in self._notes.read_text("ascii").splitlines():
            try:
                note = json.loads(line)
            except ValueError:
                continue  # the last one, cut off
            if "asked" in note:
                number = note["asked"]
                unknown = Attempt(self.channel, number, note["at"], Outcome.MAYBE_SENT)
                found[number] = unknown, note["at"]
            else:
                asked, _ = found[note["number"]]
                outcome = Outcome(note["outcome"])
                found[asked.number] = (
                    asked._replace(outcome=outcome, id=note.get("id", 0)),
                    note["at"],
                )
        return list(found.values())
