"""A backend as a process of its own: it publishes numbered messages, and notes what the library said of each.

``python -m tests.faults.publishing_program URL PREFIX CHANNEL RATE FIRST NOTES`` runs until SIGTERM. What it
notes is one JSON object a line: ``{"asked": number, "at": seconds}`` before a publish, ``{"number", "outcome",
"id"}`` after it. No publish is repeated, and the library may try again by itself for every second one only.
A SIGKILL loses at most the line that was to be written next.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from itertools import count
from typing import Any, Final

from gateway import logs
from publisher import Publisher, Retention, Unavailable
from tests.faults.trace import Outcome

RETENTION: Final = Retention(max_messages=20_000, max_age_seconds=86_400)


def main(url: str, prefix: str, channel: str, rate: str, first: str, notes: str) -> None:
    """Publish about ``rate`` messages a second."""
    logs.configure("warning")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    # Unbuffered: each note is with the kernel before anything else is done.
    file = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(**what: Any) -> None:
        os.write(file, json.dumps(what).encode() + b"\n")

    with (
        Publisher.from_url(url, prefix=prefix, timeout=1.0) as persistent,
        Publisher.from_url(url, prefix=prefix, timeout=1.0, retries=0) as once,
    ):
        for number in count(int(first)):
            if stopping.wait(1 / float(rate)):
                return
            note(asked=number, at=time.monotonic())
            publisher = once if number % 2 else persistent
            try:
                published = publisher.publish(channel, {"number": number}, retention=RETENTION)
            except Unavailable as error:
                outcome = Outcome.MAYBE_SENT if error.maybe_sent else Outcome.NOT_SENT
                note(number=number, outcome=outcome, at=time.monotonic())
            else:
                note(number=number, outcome=Outcome.SENT, id=published.id, at=time.monotonic())


if __name__ == "__main__":
    main(*sys.argv[1:])
