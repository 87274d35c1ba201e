"""Item 11: many channels with logs in Redis: the memory of each, and whether any operation notices how many there are."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from publisher import Publisher
from publisher.contract import calls, scripts
from publisher.contract.calls import Call
from publisher.contract.channels import POSITIONS_SECONDS
from publisher.contract.keys import MAX_PLACE_LEASE_SECONDS, Keys
from tests.bench.fanout import message
from tests.bench.measuring import cpu_seconds
from tests.bench.scale import Scale
from tests.bench.world import PREFIX, Redis, own_redis

Result = dict[str, Any]
Operation = Callable[["_Server", Sequence[str]], None]

_BATCH = 500
_FEW = 1_000
_KEYS = Keys(PREFIX)
_LEASE_MS = str(180_000)


@dataclass(slots=True)
class _Server:
    """A Redis with so many channels that are kept."""

    redis: Redis
    client: redis.Redis
    publisher: Publisher
    channels: int
    keyed: int = 0


def channel(number: int) -> str:
    """A channel's name; it needs a grant."""
    return f"run-results/{number}"


async def many_logs(scale: Scale) -> Result:
    """Memory and operations with ``scale.many_logs`` channels, beside a Redis with a thousand.

    Operations are measured on the thousand (``few``), on as many of the others (``same``), which the processor's caches
    hold as well, and on any of the others (``many``).
    """
    chance = random.Random(11)
    with _server(min(_FEW, scale.many_logs)) as few, _server(scale.many_logs) as many:
        _publish_to_all(few, scale, scale.many_log_messages)
        memory = _fill(many, scale)
        sides = [
            ("few", few, few.channels),
            ("same", many, few.channels),
            ("many", many, many.channels),
        ]
        found: dict[str, dict[str, list[Result]]] = {
            name: {which: [] for which, _, _ in sides} for name in _ALL
        }
        for name, operation in _ALL.items():
            for number in range(-1, scale.rounds):
                for which, server, among in sides:
                    channels = [
                        channel(chance.randrange(among)) for _ in range(scale.single_publishes)
                    ]
                    result = _measure(server, operation, channels)
                    if number >= 0:  # the first is there to warm up
                        found[name][which].append(result)
    return {
        "channels": scale.many_logs,
        "messages": scale.many_log_messages,
        **memory,
        "operations": {
            name: {which: _median(rounds) for which, rounds in each.items()}
            for name, each in found.items()
        },
    }


@contextlib.contextmanager
def _server(channels: int) -> Iterator[_Server]:
    with (
        own_redis() as server,
        redis.Redis.from_url(server.url) as client,
        Publisher.from_url(server.url, prefix=PREFIX) as publisher,
    ):
        yield _Server(server, client, publisher, channels)


def _fill(server: _Server, scale: Scale) -> Result:
    """The memory of a channel with one message, and of each further message in its log."""
    # The server learns its scripts, and makes its buffers.
    server.publisher.publish(channel(0), message(scale.message_bytes))
    start = _memory(server)
    _publish_to_all(server, scale, 1)
    first = _memory(server)
    further = scale.many_log_messages - 1
    _publish_to_all(server, scale, further)
    filled = _memory(server)
    return {
        "bytes_per_channel": (first - start) / server.channels,
        "bytes_per_message": (filled - first) / server.channels / further,
        "used_bytes": filled,
    }


def _memory(server: _Server) -> int:
    used: int = server.client.info("memory")["used_memory"]
    return used


def _publish_to_all(server: _Server, scale: Scale, times: int) -> None:
    made = message(scale.message_bytes)
    for _ in range(times):
        for first in range(0, server.channels, _BATCH):
            numbers = range(first, min(first + _BATCH, server.channels))
            _check(server.publisher.publish_many((channel(each), made) for each in numbers))


def _check(outcomes: Sequence[Any]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


def _measure(server: _Server, operation: Operation, channels: Sequence[str]) -> Result:
    before, began = cpu_seconds(server.redis.pids), time.monotonic()
    operation(server, channels)
    seconds = time.monotonic() - began
    return {
        "redis_us": (cpu_seconds(server.redis.pids) - before) / len(channels) * 1e6,
        "wall_us": seconds / len(channels) * 1e6,
    }


def _median(rounds: Sequence[Result]) -> Result:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


# -- operations, each for all of the channels -------------------------------------------------


def _publish(server: _Server, channels: Sequence[str]) -> None:
    made = message(200)
    for first in range(0, len(channels), _BATCH):
        batch = channels[first : first + _BATCH]
        _check(server.publisher.publish_many((each, made) for each in batch))


def _publish_keyed(server: _Server, channels: Sequence[str]) -> None:
    made = message(200)
    for each in channels:
        server.keyed += 1
        server.publisher.publish(each, made, idempotency_key=f"key-{server.keyed}")


def _history(server: _Server, channels: Sequence[str]) -> None:
    for each in channels:
        server.publisher.history(each)


def _grant(server: _Server, channels: Sequence[str]) -> None:
    for each in channels:
        server.publisher.grant(each, "user")


def _revoke(server: _Server, channels: Sequence[str]) -> None:
    for each in channels:
        server.publisher.revoke(each, "user")


def _send(server: _Server, all_calls: Sequence[Call]) -> None:
    """What a node asks of Redis, as it asks: many calls in a write."""
    for first in range(0, len(all_calls), _BATCH):
        pipeline = server.client.pipeline(transaction=False)
        for each in all_calls[first : first + _BATCH]:
            pipeline.execute_command(*each.cached())
        pipeline.execute()


def _read(server: _Server, channels: Sequence[str]) -> None:
    server.client.script_load(scripts.READ.text)
    _send(server, [calls.read_log(_KEYS, each, "user", None, 100) for each in channels])


def _confirm(server: _Server, channels: Sequence[str]) -> None:
    server.client.script_load(scripts.CONFIRM.text)
    users = [("user", 1)]
    _send(server, [calls.confirm(_KEYS, each, POSITIONS_SECONDS, users) for each in channels])


def _acquire(server: _Server, channels: Sequence[str]) -> None:
    server.client.script_load(scripts.ACQUIRE.text)
    longest = str(MAX_PLACE_LEASE_SECONDS * 1000)
    _send(
        server,
        [
            Call.run(
                scripts.ACQUIRE,
                [_KEYS.connections(each), _KEYS.before(each)],
                *("node/1", "5", _LEASE_MS, longest, ""),
            )
            for each in channels
        ],
    )


_ALL: dict[str, Operation] = {
    "history": _history,
    "read a page": _read,
    "confirm": _confirm,
    "acquire": _acquire,
    "grant": _grant,
    "revoke": _revoke,
    "publish_many": _publish,
    "publish with a key": _publish_keyed,
}
"""Those that make logs longer come last: the few channels are given more of it than the many."""
