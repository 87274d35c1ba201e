"""Whether a message counts as confirmed, as it is seen from outside: by what is sent again."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from gateway.conformance.stage import Stage
from gateway.conformance.verdicts import expect

_PAUSE_SECONDS: Final = 0.1


async def awaits_confirmation(stage: Stage, id_: int, channel: str = "") -> None:
    """Wait until a message counts as confirmed: what is published behind it is then the first that is sent again.

    A client looks that confirms nothing. It is not told when a confirmation is written, so it looks until that shows.

    Raises:
        Failed: it is sent again for as long as an answer may take.
    """
    name = channel or stage.own
    behind = await stage.publish("behind", name)
    end = time.monotonic() + stage.deployment.patience
    while True:
        # A connection is not sent again what it has been sent: each look takes another one.
        line = await stage.connect(deaf=True)
        await stage.subscribe(line, name)
        first = await line.next("notifications", "run-results")
        await line.drop()
        if first.get("id") == behind:
            return
        expect(
            time.monotonic() < end,
            f"message {id_} was confirmed, and {first.get('id')} is still sent again",
        )
        await asyncio.sleep(_PAUSE_SECONDS)
