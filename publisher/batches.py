"""Which messages of ``publish_many`` share a round trip, and what its replies tell of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from publisher.delivery import Delivery
from publisher.errors import NotReplicated
from publisher.records import Published

BATCH: Final = 500
"""Messages in one round trip: enough to make its cost small, few enough to finish within a timeout."""


def next_batch(waiting: Sequence[Delivery]) -> Sequence[Delivery]:
    """Those of ``waiting``, at most a batch, that can go together.

    Where a try may have arrived, no more of a channel's messages than its log retains: they would
    displace each other there, and nobody could tell any more which of them had been published.
    """
    if not any(each.maybe_sent for each in waiting):
        return waiting
    chosen: list[Delivery] = []
    used: Counter[str] = Counter()
    full: set[str] = set()
    for each in waiting:
        name = each.channel
        if each.max_messages is not None and used[name] >= each.max_messages:
            full.add(name)
        if name not in full:
            used[name] += 1
            chosen.append(each)
    return chosen


def narrow(batch: Sequence[Delivery], waiting: Sequence[Delivery]) -> None:
    """Note what the outcomes of ``batch`` say of those that are still waiting.

    Commands of a connection are carried out in their order, so a message that comes after another of
    its channel has a higher id, if it has been published.
    """
    if not waiting:
        return
    last = {
        each.channel: each.outcome.id
        for each in batch
        if isinstance(each.outcome, Published | NotReplicated)
    }
    tried = {id(each) for each in batch}
    for each in waiting:
        before = last.get(each.channel)
        if before is not None and each.maybe_sent and id(each) not in tried:
            each.doubtful_since = max(each.doubtful_since, before + 1)
