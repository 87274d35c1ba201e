# ruff: noqa: T201 - a program that prints what it has measured
"""What encryption at rest costs a publisher and a node, in CPU time of this process: ``python -m tests.bench.encryption``.

With and without are measured in turn, and the medians are told, since others use the machine meanwhile.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.node.opener import Opener
from publisher import groups
from publisher.contract.channels import Namespace
from publisher.contract.keys import Keys
from publisher.contract.sealing import KeyRing
from publisher.publication import Options, Publication, unique_names
from publisher.transport.resp import pack
from tests.unit.fakes import NEWS, Node, make_connection, turn

MESSAGES: Final = 1_000
ROUNDS: Final = 41
RING: Final = KeyRing({"k1": bytes(range(32))})


def microseconds(work: Callable[[], object]) -> float:
    """What a message costs of a round."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e6 / MESSAGES


def publishing(text: str, *, encrypted: bool) -> None:
    """All that a publisher does for messages, but the waiting."""
    namespace = Namespace("news", encrypted=encrypted)
    keys, options, names = Keys(), Options(ring=RING), unique_names()
    publications = [
        Publication((NEWS.name, {"text": text}), next(names), options) for _ in range(MESSAGES)
    ]
    for each in publications:
        each.follow(namespace, RING)
    for group in groups.grouped(publications):
        pack(groups.call(group, keys, lambda: 0, waits=False).cached())


def entries(text: str, *, encrypted: bool, channels: int = 1) -> list[tuple[str, bytes]]:
    """What Redis hands to a node."""
    body = b'{"text":"%b"}' % text.encode()
    made = []
    for number in range(MESSAGES):
        turn_of, before = divmod(number, channels)
        name = NEWS.name if channels == 1 else f"news/{before}"
        what = RING.seal(name, body) if encrypted else body
        extension = b"+" + RING.extension.encode() if encrypted else b""
        made.append((name, b"%d:%d:n%b:%b" % (turn_of + 1, turn_of, extension, what)))
    return made


async def receiving(found: list[tuple[str, bytes]]) -> float:
    """What a node does for live messages, each to one client."""
    node = Node()
    node.hub._opener = Opener(RING, node.stats, {}, time.time)
    for name in {name for name, _ in found}:
        node.listen(make_connection(id=name)[0], name)

    def work() -> None:
        for name, entry in found:
            node.hub.receive(name, entry)

    spent = microseconds(work)
    began = time.process_time()
    await turn()
    assert node.stats.messages_delivered == MESSAGES
    return spent + (time.process_time() - began) * 1e6 / MESSAGES


def told(what: str, plain: list[float], sealed: list[float]) -> None:
    before, after = statistics.median(plain), statistics.median(sealed)
    more = statistics.median(b - a for a, b in zip(plain, sealed, strict=True))
    print(f"{what:58} {before:6.2f} -> {after:6.2f} µs: {more:+.2f}")


async def main() -> None:
    for size in (200, 1_000, 16_000):
        plainly = partial(publishing, "x" * size, encrypted=False)
        encrypting = partial(publishing, "x" * size, encrypted=True)
        both = [[microseconds(plainly), microseconds(encrypting)] for _ in range(ROUNDS)]
        told(f"a publish of {size} bytes", *map(list, zip(*both, strict=True)))
    for size, channels in ((200, 1), (1_000, 1), (16_000, 1), (200, MESSAGES)):
        text = "x" * size
        plain, sealed = (entries(text, encrypted=e, channels=channels) for e in (False, True))
        pairs = []
        for _ in range(ROUNDS):
            RING._of_channel.clear()
            pairs.append([await receiving(plain), await receiving(sealed)])
        what = "each of another channel" if channels > 1 else "of one channel"
        told(f"a live message of {size} bytes, {what}", *map(list, zip(*pairs, strict=True)))


if __name__ == "__main__":
    asyncio.run(main())
