"""Attackers that try what is nearly right, over real connections: the inputs are those of ``tests/fuzz``."""

from __future__ import annotations

import asyncio
import contextlib
import random

from tests.attacks.target import ELSEWHERE, Ended, Target
from tests.fuzz.frames import Frames
from tests.fuzz.heads import Heads
from tests.fuzz.messages import Messages
from tests.fuzz.mutating import Mutator
from tests.support.client_frames import TEXT, client_frame

_START = 23
_ANSWER_SECONDS = 0.2
"""So long an answer is waited for: what is not whole gets none for ten seconds."""
_INPUTS = 20


async def heads_that_are_nearly_right(target: Target) -> None:
    inputs = Mutator(Heads.corpus, Heads.words, random.Random(_START))

    async def once(_number: int) -> None:
        async with target.line(inputs.next(), source=ELSEWHERE) as line:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await line.until_ended()

    await target.for_some_time(once, target.size.strangers)


async def frames_that_are_nearly_right(target: Target) -> None:
    """Frames, and whole messages in frames: the first one that breaks the protocol ends the connection."""
    dice = random.Random(_START)
    frames = Mutator(Frames.corpus, Frames.words, dice)
    messages = Mutator(Messages.corpus, Messages.words, dice)

    async def once(number: int) -> None:
        async with target.client(
            f"attacker-{number}", ["run-results/*"], extensions="permessage-deflate"
        ) as line:
            reading = asyncio.create_task(line.until_ended())
            try:
                for _ in range(_INPUTS):
                    await line.send(client_frame(TEXT, messages.next()[:16_000]))
                    await line.send(frames.next())
                    await asyncio.sleep(0)
                await asyncio.wait({reading}, timeout=_ANSWER_SECONDS)
            finally:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError, Ended):
                    await reading

    await target.for_some_time(once, target.size.clients)
