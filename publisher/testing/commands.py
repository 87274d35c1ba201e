"""The calls that a publisher makes, run on what is in memory."""

from __future__ import annotations

from collections.abc import Sequence

from publisher.contract.calls import Call, Reply
from publisher.testing.events import EventStream
from publisher.testing.memory import Memory, packed, shown
from publisher.testing.scripts import SCRIPTS, with_scores


def run(call: Call, memory: Memory, events: EventStream) -> Reply:
    """What Redis would reply.

    Raises:
        NotImplementedError: it is a call that no recording publisher makes, as far as is known.
    """
    if call.script is None:
        arguments = [packed(each) for each in call.arguments]
        if arguments[0] in {b"XACK", b"XCLAIM", b"EXISTS"}:
            return events.run(arguments)
        return _run_command(memory, arguments)
    count = int(call.arguments[0])
    keys = [str(each) for each in call.arguments[1 : count + 1]]
    arguments = [packed(each) for each in call.arguments[count + 1 :]]
    name = call.script.name
    if name in SCRIPTS:
        return SCRIPTS[name](memory, keys, arguments)
    return events.run_script(name, arguments)


def _run_command(memory: Memory, arguments: Sequence[bytes]) -> Reply:
    name = arguments[0]
    match arguments:
        case [b"TIME"]:
            return [b"%d" % part for part in divmod(memory.now(), 1_000_000)]
        case [b"PUBLISH", channel, payload]:
            memory.publish(channel.decode(), payload)
            return 0
        case [b"SCAN", _, b"MATCH", pattern, *_]:
            return [b"0", [key.encode() for key in memory.named(pattern)]]
        # How long tokens live: no gateway has announced it.
        case [b"HGETALL", _]:
            return []
    of_kind = _run_on_set if name.startswith(b"Z") else _run_on_string
    return of_kind(memory, name, arguments[1].decode(), arguments[2:])


def _run_on_string(memory: Memory, name: bytes, key: str, arguments: Sequence[bytes]) -> Reply:
    match name, *arguments:
        case (b"GET",):
            return memory.get(key)
        case b"GETRANGE", first, last:
            return (memory.get(key) or b"")[int(first) : int(last) + 1]
        case b"EXPIRE", seconds:
            memory.end(key, memory.now() + int(seconds) * 1_000_000)
            return 1
        case _:
            raise _unknown(name)


def _run_on_set(memory: Memory, name: bytes, key: str, arguments: Sequence[bytes]) -> Reply:
    match name, *arguments:
        case b"ZREM", *members:
            return memory.remove(key, members)
        case b"ZSCORE", member:
            score = memory.score(key, member)
            return None if score is None else shown(score)
        case b"ZRANGEBYSCORE", lowest, b"+inf", b"LIMIT", b"0", count:
            return [each for each, _ in memory.scored(key, float(lowest))][: int(count)]
        case b"ZSCAN", *_:
            return [b"0", with_scores(memory.scored(key))]
        case _:
            raise _unknown(name)


def _unknown(name: bytes) -> NotImplementedError:
    return NotImplementedError(f"a recording publisher cannot run {name.decode()}")
