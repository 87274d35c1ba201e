"""Item 7: what compression costs for everybody at once, and what ``?batch=true`` saves the clients."""

from __future__ import annotations

import random
from typing import Any

from tests.bench.fanout import Result, audience, median, message
from tests.bench.scale import Scale
from tests.bench.servers import Message, gateway_server

_WORDS = [
    "result",
    "value",
    "error",
    "student",
    "lesson",
    "function",
    "print",
    "line",
    "test",
    "passed",
    "failed",
    "ok",
]


def output(size: int, chance: random.Random) -> Message:
    """A message with text like a program's output, which compresses to about a third."""
    made = message(size)
    text = ""
    while len(text) < len(made["text"]):
        word = chance.choice(_WORDS) if chance.random() < 0.7 else str(chance.randrange(10**6))
        text += f"{word} "
    return {**made, "text": text[: len(made["text"])]}


async def compression(scale: Scale) -> Result:
    """The paced fan-out of large messages to sockets that compress, and to sockets that do not."""
    chance = random.Random(7)
    found: dict[str, list[Result]] = {"plain": [], "compressed": []}
    async with (
        gateway_server() as plain,
        gateway_server() as compressed,
        audience(plain, scale.sockets) as plain_audience,
        audience(compressed, scale.sockets, deflate=True) as compressed_audience,
    ):
        pairs = [("plain", plain_audience), ("compressed", compressed_audience)]
        for number in range(-1, scale.rounds):
            for name, each in pairs:
                result = await each.paced(
                    scale, scale.large_messages, lambda: output(scale.large_bytes, chance)
                )
                if number >= 0:  # the first is there to warm up
                    found[name].append(result)
    results: dict[str, Any] = {name: median(rounds) for name, rounds in found.items()}
    for each in results.values():
        each["bytes_per_delivery"] = each["bytes"] / each["messages"]
    return results


async def batching(scale: Scale) -> Result:
    """A burst to sockets that asked for batches: how many events their clients see."""
    async with (
        gateway_server("&batch=true") as server,
        audience(server, scale.sockets) as batched,
    ):
        rounds = [
            await batched.burst(scale, scale.burst_messages, lambda: message(scale.message_bytes))
            for _ in range(scale.rounds)
        ]
    return {**median(rounds), "sockets": scale.sockets}
