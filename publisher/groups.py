"""Messages that share a call of ``publish.lua``: what is sent for them, and what its reply says of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final, TypeAlias

from redis.exceptions import ResponseError

from publisher.contract import scripts
from publisher.contract.calls import Argument, Call, Reply
from publisher.contract.keys import Keys
from publisher.publication import Publication
from publisher.transport.cluster import slot_of
from publisher.transport.failures import code, meaning

MESSAGES: Final = 32
"""Messages in one call. Further ones would make none cheaper: with so many, a call itself is a hundredth of their
cost. And while Redis runs a script, everybody else waits."""

BYTES: Final = 64 * 1024
"""A call takes no further message once it has so many bytes."""

Group: TypeAlias = list[Publication]


def grouped(messages: Iterable[Publication]) -> list[Group]:
    """``messages`` in their order, those together that share a call."""
    groups: list[Group] = []
    group: Group = []
    room = 0
    for each in messages:
        if room <= 0 or not each.shares or len(group) == MESSAGES:
            group = []
            groups.append(group)
            room = BYTES
        group.append(each)
        room = room - each.size if each.shares else 0
    return groups


def grouped_by_slot(messages: Iterable[Publication], keys: Keys) -> list[Group]:
    """The same for a cluster, where all keys of a call must be of one slot, as those of a channel are."""
    slots: dict[int, Group] = {}
    for each in messages:
        slots.setdefault(slot_of(keys.of_channel(each.channel)[0]), []).append(each)
    return [group for of_slot in slots.values() for group in grouped(of_slot)]


def call(group: Group, keys: Keys, clock: Callable[[], int], *, waits: bool) -> Call:
    """What to send for ``group``; ``clock`` in microseconds since 1970. ``waits``: a ``WAIT`` follows."""
    first = group[0]
    if not first.logged:
        return first.unlogged_call(keys, clock)
    # A retry asks by this name, and nobody asks for a message with a key.
    name = next((each for each in group if not each.keyed), first)
    result = keys.result(name.channel, name.nonce)
    names = [result]
    arguments: list[Argument] = []
    for (how, limits), run in groupby(group, _RUN):
        messages = list(run)
        arguments += (str(len(messages)), how + "w" if waits else how, limits)
        further = not _FURTHER.isdisjoint(how)
        for each in messages:
            each.result_key = result
            log, last, live = keys.of_channel(each.channel)
            names += (log, last)
            if further:
                names += each.further_keys(keys)
            arguments += (live, each.nonce + each.context + each.extension, each.body)
    # Text alone: numbers would be turned into text for each message, by ``pack``.
    script = scripts.PUBLISH_SHARDED if keys.sharded else scripts.PUBLISH
    return Call((str(len(names)), *names, *arguments), script)


_RUN: Final = attrgetter("run")
_FURTHER: Final = frozenset("kocu")
"""The letters of ``how`` that keys belong to (``calls.further_keys``)."""


def answered(group: Group, reply: Reply) -> None:
    """Note what Redis replied to :func:`call`."""
    if isinstance(reply, ResponseError):
        _refused(group, reply)
    elif not group[0].logged:
        group[0].published(0)
    else:
        for each, line in zip(group, reply.split(b"\n"), strict=True):
            if line.startswith(b"-"):
                each.failed(meaning(ResponseError(line[1:].decode("utf-8", "replace"))))
            else:
                identifier, _, duplicate = line.partition(b":")
                each.published(int(identifier), duplicate=duplicate == b"1")


def _refused(group: Sequence[Publication], error: ResponseError) -> None:
    if len(group) > 1 and code(error) == "NOPERM":
        # It may be about the keys of one of them: each is sent by itself.
        for each in group:
            each.shares, each.outcome = False, None
    else:
        problem = meaning(error)
        for each in group:
            each.failed(problem)
