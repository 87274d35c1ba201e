"""What the scripts of ``publisher.contract.scripts`` do to what is in memory.

Each takes the keys and the arguments of the Lua file of its name, and replies as that does. What no call of the publisher can tell
apart is left out: tombstones, and entries that are trimmed later. That they agree is tested: ``tests/publisher/test_recording.py`` runs against both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from typing import Final, TypeAlias

from publisher.contract.calls import Reply
from publisher.testing.memory import Memory, Scored, shown

Script: TypeAlias = Callable[[Memory, Sequence[str], Sequence[bytes]], Reply]

_MINUTE: Final = 60


def publish(memory: Memory, keys: Sequence[str], arguments: Sequence[bytes]) -> Reply:
    """One line for each message: its id, with ``:1`` where it is an earlier one's."""
    names, given = iter(keys[1:]), iter(arguments)
    lines = []
    for count in given:
        how, limits = next(given).decode(), next(given).decode()
        lines += [_publish_one(memory, names, how, limits, given) for _ in range(int(count))]
    return b"\n".join(lines)


def _publish_one(
    memory: Memory, names: Iterator[str], how: str, limits: str, given: Iterator[bytes]
) -> bytes:
    log, last = next(names), next(names)
    result = next(names) if "k" in how else None
    retention = next(names) if "o" in how else None
    collapse, _ = (next(names), next(names)) if "c" in how else (None, None)
    if "u" in how:
        next(names)
    live, nonce, body = next(given).decode(), next(given), next(given)
    messages, age, kept, positions, results = map(int, limits.split())
    name = nonce.partition(b"+")[0].partition(b"/")[0]

    if result is not None and (before := memory.get(result)) is not None:
        first, _, by = before.partition(b":")
        return first if by == name else first + b":1"
    prev = int(memory.get(last) or 0)
    identifier = max(memory.now(), prev + 1)
    entry = b"%d:%d:%b:%b" % (identifier, prev, nonce, body)
    if collapse is not None:
        older = int(memory.get(collapse) or 0)
        memory.remove(log, [each for each, _ in memory.scored(log, older, older)])
        memory.set(collapse, b"%d" % identifier, kept + _MINUTE)
    memory.set(last, b"%d" % identifier, positions + _MINUTE)
    memory.add(log, entry, identifier)
    _trim(memory, log, messages, identifier - age * 1_000_000)
    memory.end(log, memory.now() + (kept + _MINUTE) * 1_000_000)
    if result is not None:
        memory.set(result, b"%d:%b" % (identifier, name), results)
    if retention is not None:
        memory.set(retention, b"%d %d %d" % (identifier, messages, age), positions)
    memory.publish(live, entry)
    return b"%d" % identifier


def _trim(memory: Memory, log: str, messages: int, oldest: float) -> None:
    found = memory.scored(log)
    beyond = found[: max(0, len(found) - messages)]
    memory.remove(log, [each for each, score in found if score < oldest])
    memory.remove(log, [each for each, _ in beyond])


def read(memory: Memory, keys: Sequence[str], arguments: Sequence[bytes]) -> Reply:
    """A page of a log after a position."""
    log, last, _, retention, _ = keys
    _, position, count, _, messages, age = arguments
    found = memory.scored(log)
    newest = memory.get(last) or (shown(found[-1][1]) if found else b"0")
    after = float(position)
    if messages:
        limits = (memory.get(retention) or b"").split()
        if limits and limits[0] == newest:
            _, messages, age = limits
        hidden = found[-1 - int(messages)][1] if len(found) > int(messages) else 0
        after = max(after, hidden, memory.now() - int(age) * 1_000_000 - 1)
    entries = [each for each, score in found if score > after]
    return [position, newest, *entries[: int(count)]]


def delete(memory: Memory, keys: Sequence[str], arguments: Sequence[bytes]) -> Reply:
    """Take a message out of its log."""
    identifier = int(arguments[0])
    found = memory.scored(keys[0], identifier, identifier)
    return memory.remove(keys[0], [each for each, _ in found])


def grant(memory: Memory, keys: Sequence[str], arguments: Sequence[bytes]) -> Reply:
    """Let somebody hear a channel."""
    (grants,) = keys
    who, lifetime, control, ask_again, told, *_ = arguments
    now = memory.now_ms
    memory.remove(grants, [each for each, _ in memory.scored(grants, highest=now)])
    until = now + int(lifetime) if lifetime else inf
    before = memory.score(grants, who)
    if before is not None and before > until:
        memory.publish(control.decode(), ask_again)
    memory.add(grants, who, until)
    memory.publish(told.decode(), who)
    return b"OK"


def schedule(memory: Memory, keys: Sequence[str], arguments: Sequence[bytes]) -> Reply:
    """Keep a message until its moment; the moment of the first call."""
    message, waiting, _ = keys
    identifier, moment, planned = arguments
    first = memory.score(waiting, identifier)
    if first is not None:
        return shown(first)
    if memory.get(message) != planned:
        memory.set(message, planned)
        memory.add(waiting, identifier, int(moment))
    return moment


def cancel(memory: Memory, keys: Sequence[str], arguments: Sequence[bytes]) -> Reply:
    """Take back a message that waits."""
    message, waiting = keys
    identifier, known_seconds = arguments
    removed = memory.remove(waiting, [identifier])
    if removed:
        memory.end(message, memory.now() + int(known_seconds) * 1_000_000)
    return removed


def disconnect(memory: Memory, keys: Sequence[str], arguments: Sequence[bytes]) -> Reply:
    """End a user's connections."""
    entry, control, *_ = arguments
    at = memory.now()
    memory.add(keys[0], entry, at)
    memory.publish(control.decode(), b'%b,"at":%d}' % (entry.partition(b":")[2], at))
    return at


def revoke_token(memory: Memory, keys: Sequence[str], arguments: Sequence[bytes]) -> Reply:
    """Revoke a token, until it has ended by itself."""
    until, control, command = arguments
    before = memory.ends_at(keys[0]) or 0
    memory.set(keys[0], b"1")
    memory.end(keys[0], max(before, int(until) * 1000))
    memory.publish(control.decode(), command)
    return b"OK"


def revoke_tokens(memory: Memory, keys: Sequence[str], arguments: Sequence[bytes]) -> Reply:
    """Revoke a user's tokens that were issued before a time, which only moves forward."""
    time, _, control, command = arguments
    before = memory.get(keys[0])
    if before is None or float(before) < float(time):
        memory.set(keys[0], time)
    memory.publish(control.decode(), command)
    return b"OK"


def page(memory: Memory, keys: Sequence[str], arguments: Sequence[bytes]) -> Reply:
    """A part of a sorted set, behind a member of the lowest score."""
    lowest, after, count = int(arguments[0]), arguments[1], int(arguments[2])
    found = [each for each in memory.scored(keys[0], lowest) if each[1] > lowest or each[0] > after]
    return with_scores(found[:count])


def connections(memory: Memory, keys: Sequence[str], _: Sequence[bytes]) -> Reply:
    """A user's places whose lease has not run out."""
    return with_scores(memory.scored(keys[0], memory.now_ms + 1))


def live_nodes(memory: Memory, keys: Sequence[str], _: Sequence[bytes]) -> Reply:
    """The nodes whose lease has not run out."""
    return [each for each, _ in memory.scored(keys[0], memory.now_ms + 1)]


def present(memory: Memory, keys: Sequence[str], _: Sequence[bytes]) -> Reply:
    """Who is in a channel: all in one part."""
    return [b"0", *(each for each, _ in memory.scored(keys[0], memory.now_ms + 1))]


def with_scores(found: Scored) -> list[bytes]:
    """Members and scores in turn, as Redis replies them."""
    return [part for member, score in found for part in (member, shown(score))]


SCRIPTS: Final[Mapping[str, Script]] = {
    each.__name__: each
    for each in (
        *(publish, read, delete, grant, schedule, cancel, disconnect, revoke_token, revoke_tokens),
        *(page, connections, live_nodes, present),
    )
}
