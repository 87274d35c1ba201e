"""What nodes tell backends of: the events, how they stand in the stream ``rt1:events``, and the calls of both sides.

All of it is in one stream, so events are in the order in which they were written. What a node has told of its connections is
kept beside the stream, in the same slot, and changes in the same script. So ``first`` and ``last`` are true of the events before,
whatever happens to nodes and to Redis: a failover that loses events loses what was noted of them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import orjson

from publisher.contract import scripts
from publisher.contract.calls import Argument, Call, Reply
from publisher.contract.keys import MAX_NODE_LEASE_SECONDS, Keys

CONNECTED: Final = "connected"
DISCONNECTED: Final = "disconnected"
SUBSCRIBED: Final = "subscribed"
UNSUBSCRIBED: Final = "unsubscribed"
CONFIRMED: Final = "confirmed"
UNCONFIRMED: Final = "unconfirmed"
LOST: Final = "lost"
KINDS: Final = (
    CONNECTED,
    DISCONNECTED,
    SUBSCRIBED,
    UNSUBSCRIBED,
    CONFIRMED,
    UNCONFIRMED,
    LOST,
)

Change: TypeAlias = Literal["+", "-", ""]
"""Whether a connection begins, ends, or neither."""

Start: TypeAlias = Literal["new", "oldest"]
"""Where a group that is not there yet begins."""

_START: Final = {"new": "$", "oldest": "0"}
_AWAY: Final = 0.5
"""As of the nodes' list: when no node has renewed its lease for this part of one, it was Redis that was away."""
_GRACE_MS: Final = 3_000
_KEPT_MS: Final = 86_400_000
_ENDED_AT_ONCE: Final = 500
_IDLE_MS: Final = 60_000
_FORGOTTEN_MS: Final = 3_600_000
_ASIDE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to a user.

    ``kind`` is one of ``connected``, ``disconnected``, ``subscribed``, ``unsubscribed``, ``confirmed``, ``unconfirmed``, ``lost``. ``node`` has told it,
    or is the dead one that could not. ``timestamp`` is when it happened, in milliseconds since 1970; ``id`` is the event's own, and the same
    however often the event is given. ``connection`` is ``<node>/<id>``. ``first``: the user had no other connection;
    ``last``: the user has none left. ``message``: everything in ``channel`` up to this id is confirmed, or this one is unconfirmed.
    """

    kind: str
    user: str
    node: str
    timestamp: int
    id: str
    channel: str | None = None
    connection: str | None = None
    message: int | None = None
    first: bool = False
    last: bool = False

    def plain(self) -> dict[str, Any]:
        """Its fields as JSON has them, without those that say nothing."""
        named = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value for name, value in named if value is not None and value is not False}


@dataclass(slots=True)
class Told:
    """An event on its way to the stream: what it ``changes``, whether anybody is told, and its fields."""

    change: Change
    tell: bool
    fields: tuple[Argument, ...]


def told(
    kind: str,
    user: str,
    node: str,
    timestamp: int,
    *,
    change: Change = "",
    tell: bool = True,
    **further: Argument,
) -> Told:
    """An event on its way, with the ``further`` fields that it has; what changes a connection names it first."""
    fields: list[Argument] = ["kind", kind, "user", user]
    for name, value in further.items():
        fields += (name, value)
    return Told(change, tell, (*fields, "node", node, "timestamp", timestamp))


LEASE_OVER: Final = -1
"""The reply to :func:`write` where nothing was written, since others may have told of the end of the node's connections."""


def write(
    keys: Keys, node: str, number: int, most: int, batch: Iterable[Told], lease: float | None = None
) -> Call:
    """Write a batch, of which ``number`` is the node's own; twice does no more than once. ``most`` events are kept.

    ``lease``: seconds for which the node's lease is renewed, if it has not run out (:data:`LEASE_OVER`); ``None`` for a node that tells of no connections.
    """
    arguments: list[Argument] = []
    for each in batch:
        arguments += (each.change, "1" if each.tell else "", len(each.fields), *each.fields)
    stream = [keys.events, keys.connected, keys.connected_at(node), keys.reporting]
    milliseconds = "" if lease is None else round(lease * 1000)
    return Call.run(
        scripts.WRITE_EVENTS, stream, number, most, _KEPT_MS, node, milliseconds, *arguments
    )


def renew(keys: Keys, node: str, lease: float) -> Call:
    """Renew the lease (seconds) of a node that tells of events."""
    milliseconds = round(lease * 1000)
    return Call.run(
        scripts.RENEW_REPORTER,
        [keys.reporting, keys.connected, keys.connected_at(node)],
        node,
        milliseconds,
        round(milliseconds * _AWAY),
        _GRACE_MS,
        MAX_NODE_LEASE_SECONDS * 1000,
        _KEPT_MS,
    )


def parse_renewal(reply: Reply) -> tuple[bool, list[str]]:
    """The reply to :func:`renew`: whether the lease was held until now, and the nodes that are dead."""
    held, *dead = reply
    return bool(held), [each.decode() for each in dead]


def end(keys: Keys, dead: str, most: int, *, tell: bool) -> Call:
    """Tell of the end of some of a dead node's connections; the reply is how many are left."""
    stream = [keys.events, keys.connected, keys.connected_at(dead), keys.reporting]
    return Call.run(scripts.END_REPORTER, stream, dead, most, "1" if tell else "", _ENDED_AT_ONCE)


def leave(keys: Keys, node: str) -> Call:
    """Let a node's lease end now: others tell of the connections that it has not told the end of."""
    return Call(("ZADD", keys.reporting, "XX", 1, node))


@dataclass(frozen=True, slots=True)
class Consumer:
    """One who reads the events of a group."""

    group: str
    name: str


def take(
    keys: Keys,
    consumer: Consumer,
    start: Start,
    handled: Sequence[str] = (),
    *,
    most: int = 100,
    own: bool = True,
    others: bool = False,
) -> Call:
    """Take the next events, at most so many, after those that are ``handled``; twice does no more than once where ``own`` is set.

    ``own``: those first that the consumer was given before. ``others``: before new ones those that another consumer was given a minute
    ago and has not handled.
    """
    return Call.run(
        scripts.TAKE_EVENTS,
        [keys.events],
        consumer.group,
        consumer.name,
        _START[start],
        most,
        "1" if own else "",
        _IDLE_MS if others else "",
        _FORGOTTEN_MS,
        *handled,
    )


def release(keys: Keys, consumer: Consumer, unhandled: Sequence[str]) -> Call:
    """Let other consumers take over events at once, rather than a minute later."""
    names = (keys.events, consumer.group, consumer.name)
    return Call(("XCLAIM", *names, 0, *unhandled, "IDLE", _FORGOTTEN_MS, "JUSTID"))


def acknowledge(keys: Keys, group: str, handled: Sequence[str]) -> Call:
    """Note that events are handled."""
    return Call(("XACK", keys.events, group, *handled))


def set_aside(keys: Keys, group: str, event: Event, reason: str) -> Call:
    """Put an event aside that the group cannot handle, and acknowledge it."""
    body = orjson.dumps(event.plain())
    fields = ("group", group, "reason", reason, "event", body)
    arguments = (group, event.id, _ASIDE, *fields)
    return Call.run(scripts.SET_EVENT_ASIDE, [keys.events, keys.aside], *arguments)


def parse(reply: Reply) -> tuple[int, list[Event]]:
    """The reply to :func:`take`: how many events the group has missed, and those that are given."""
    missed, *given = reply
    return missed, [_event(id_.decode(), fields) for id_, fields in given]


def _event(id_: str, fields: Sequence[bytes]) -> Event:
    texts = [each.decode() for each in fields]
    found = dict(zip(texts[::2], texts[1::2], strict=True))
    return Event(
        kind=found["kind"],
        user=found["user"],
        node=found["node"],
        timestamp=int(found["timestamp"]),
        id=id_,
        channel=found.get("channel"),
        connection=found.get("connection"),
        message=int(found["message"]) if "message" in found else None,
        first="first" in found,
        last="last" in found,
    )
