"""The least rights in Redis that a publisher and a gateway need, as an ACL tells them.

A right is tried by a command that changes nothing, so that whatever is missing is known before the first
write: a script that may write but not publish would write, fail, and be taken for done by its retry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from publisher.contract.calls import Command
from publisher.contract.keys import Keys

_NOWHERE: Final = "-"
"""No channel is named like that, so no key of a channel is touched and nobody listens."""

_SKIPPED: Final = '{"type":"nothing"}'
"""A command to all nodes that none of any version knows, so that all skip it."""

_SCRIPT: Final = "return 0"
_SCRIPT_SHA: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


def to_publish(keys: Keys) -> list[Command]:
    """Uses that change nothing of all that a publish needs."""
    log, last, result = keys.log(_NOWHERE), keys.last(_NOWHERE), keys.result(_NOWHERE, _NOWHERE)
    return [
        ("EVAL", _SCRIPT, 0),
        ("EVALSHA", _SCRIPT_SHA, *_two_slots(keys, log)),
        ("HGETALL", keys.namespaces),
        ("TIME",),
        ("GET", last),
        ("ZREVRANGE", log, 0, 0),
        ("ZRANGEBYSCORE", log, 0, 0),
        # XX: only what is there is changed, and nothing is.
        ("ZADD", log, "XX", 1, ""),
        ("ZREM", log, ""),
        ("ZREMRANGEBYRANK", log, 0, 0),
        ("ZREMRANGEBYSCORE", log, 0, 0),
        ("EXPIRE", log, 1),
        ("SET", last, "", "XX"),
        ("SET", result, "", "XX"),
        (keys.publish, keys.live(_NOWHERE), ""),
    ]


def _two_slots(keys: Keys, of_channel: str) -> tuple[int | str, ...]:
    """Keys of a script, and their number. A server of a cluster that was taken for a single one refuses two slots."""
    return (0,) if keys.sharded else (2, keys.namespaces, of_channel)


def to_grant(keys: Keys) -> list[Command]:
    """Uses that change nothing of all that a grant needs."""
    grant = keys.grant(_NOWHERE)
    return [
        ("EVAL", _SCRIPT, 0),
        ("EVALSHA", _SCRIPT_SHA, *_two_slots(keys, grant)),
        ("HGETALL", keys.namespaces),
        ("TIME",),
        ("ZREMRANGEBYSCORE", grant, 0, 0),
        ("ZADD", grant, "XX", 1, ""),
        ("ZREVRANGE", grant, 0, 0),
        ("PERSIST", grant),
        ("PEXPIREAT", grant, 1),
        ("ZSCORE", grant, ""),
        ("PUBLISH", keys.control, _SKIPPED),
        (keys.publish, keys.granted(_NOWHERE), ""),
    ]


def to_revoke(keys: Keys) -> list[Command]:
    """Uses that change nothing of all that taking a grant back needs."""
    return [
        ("HGETALL", keys.namespaces),
        ("TIME",),
        ("ZREM", keys.grant(_NOWHERE), ""),
        ("PUBLISH", keys.control, _SKIPPED),
        *([(keys.publish, keys.live(_NOWHERE), "")] if keys.sharded else []),
    ]


def to_end(keys: Keys) -> list[Command]:
    """Uses that change nothing of all that ending connections and tokens needs."""
    ended, before = keys.disconnected(_NOWHERE), keys.before(_NOWHERE)
    return [
        ("EVAL", _SCRIPT, 0),
        ("EVALSHA", _SCRIPT_SHA, *_two_slots(keys, ended)),
        ("HGETALL", keys.lifetimes),
        ("TIME",),
        ("ZSCORE", ended, ""),
        ("ZADD", ended, "XX", 1, ""),
        ("ZREMRANGEBYSCORE", ended, 0, 0),
        ("ZREMRANGEBYRANK", ended, 0, 0),
        ("EXPIRE", ended, 1),
        ("GET", before),
        ("SET", keys.revoked(_NOWHERE), "", "XX"),
        ("PERSIST", keys.revoked(_NOWHERE)),
        ("PEXPIREAT", keys.revoked(_NOWHERE), 1),
        ("PUBLISH", keys.control, _SKIPPED),
    ]


def to_delete(keys: Keys) -> list[Command]:
    """Uses that change nothing of all that taking a message out needs."""
    log = keys.log(_NOWHERE)
    return [
        ("EVAL", _SCRIPT, 0),
        ("EVALSHA", _SCRIPT_SHA, *_two_slots(keys, log)),
        ("ZRANGEBYSCORE", log, 0, 0),
        ("ZREM", log, ""),
        ("ZADD", log, "XX", 1, ""),
        ("ZCARD", log),
        ("ZREMRANGEBYRANK", log, 0, 0),
        ("PTTL", log),
        ("PEXPIRE", log, 1),
    ]


def to_schedule(keys: Keys) -> list[Command]:
    """Uses that change nothing of all that publishing later, and cancelling it, needs."""
    waiting, message = keys.scheduled, keys.scheduled_message(_NOWHERE)
    return [
        ("EVAL", _SCRIPT, 0),
        ("EVALSHA", _SCRIPT_SHA, *_two_slots(keys, waiting)),
        ("ZSCORE", waiting, ""),
        ("ZADD", waiting, "XX", 1, ""),
        ("ZREM", waiting, ""),
        ("GET", message),
        ("SET", message, "", "XX"),
        ("EXPIRE", message, 1),
    ]


def to_forget(keys: Keys) -> list[Command]:
    """Uses that change nothing of all that erasing what is kept of a user needs, besides ending their connections."""
    return [
        ("HGETALL", keys.namespaces),
        ("TIME",),
        ("SCAN", 0, "MATCH", keys.log(_NOWHERE), "COUNT", 1),
        ("ZREM", keys.grant(_NOWHERE), ""),
        ("EXPIRE", keys.log(_NOWHERE), 0),
        ("ZSCAN", keys.scheduled, 0),
        ("GETRANGE", keys.scheduled_message(_NOWHERE), 0, 0),
        ("PUBLISH", keys.control, _SKIPPED),
        *([(keys.publish, keys.live(_NOWHERE), "")] if keys.sharded else []),
    ]


def to_await(keys: Keys) -> list[Command]:
    """Uses that change nothing of all that asking who has confirmed a message needs, until somebody has."""
    confirmed = keys.confirmed(_NOWHERE)
    return [("ZSCORE", confirmed, ""), ("ZRANGEBYSCORE", confirmed, 0, 0)]


def to_serve_backends(keys: Keys) -> list[Command]:
    """Uses that change nothing of all that the library's calls need, but for reading events; a node with the HTTP API makes
    them for its backends.
    """
    uses = (
        to_publish,
        to_grant,
        to_revoke,
        to_end,
        to_delete,
        to_schedule,
        to_forget,
        to_await,
    )
    return [command for use in uses for command in use(keys)]


def to_consume(keys: Keys) -> list[Command]:
    """Uses that change nothing of all that reading events needs, but for :data:`_ONLY_TO_CONSUME`."""
    return [
        ("EVAL", _SCRIPT, 0),
        ("EVALSHA", _SCRIPT_SHA, 0),
        ("EXISTS", keys.reporting),
        ("XACK", keys.events, _NOWHERE, "0-1"),
        ("XADD", keys.aside, "NOMKSTREAM", "*", "group", ""),
    ]


_ONLY_TO_CONSUME: Final = ("xautoclaim", "xclaim", "xgroup", "xinfo", "xreadgroup")
"""What that needs besides: these need a group that is there."""

_TO_READ: Final = (
    *("evalsha", "eval", "get", "time"),
    *("zcount", "zrange", "zrangebyscore", "zrevrange", "zscore"),
)
_OF_THE_VERSION_BEFORE: Final = ("mget",)
"""What a publisher of the version before needs besides: both work during a rolling upgrade."""


_OF_CLIENTS: Final = ("ping",)
"""What a client of the user's own asks with its ``health_check_interval``, before a call."""


_IN_A_CLUSTER: Final = ("cluster|info", "cluster|slots", "asking")


def of_a_publisher(keys: Keys) -> list[str]:
    """An ACL's rules for a backend that uses every method of the library, ``min_replicas`` too."""
    used = [*to_serve_backends(keys), *to_consume(keys)]
    further = [*_ONLY_TO_CONSUME, *_TO_READ, *_OF_THE_VERSION_BEFORE, *_OF_CLIENTS, "wait"]
    if keys.sharded:
        further += _IN_A_CLUSTER
    return _rules(keys, [*(str(each[0]) for each in used), *further])


def to_serve(keys: Keys) -> list[Command]:
    """Uses that change nothing of all that a node needs for calls, but for :data:`_ONLY_IN_EARNEST`."""
    log, marker = keys.log(_NOWHERE), keys.result(_NOWHERE, _NOWHERE)
    return [
        ("EVAL", _SCRIPT, 0),
        ("EVALSHA", _SCRIPT_SHA, 0),
        ("TIME",),
        ("GET", marker),
        ("SET", marker, "", "XX"),
        ("EXISTS", marker),
        ("DEL", marker),
        ("EXPIRE", marker, 1),
        ("PEXPIRE", marker, 1),
        ("PTTL", marker),
        ("STRLEN", marker),
        ("HGETALL", keys.namespaces),
        ("HDEL", keys.namespaces, _NOWHERE),
        ("ZADD", log, "XX", 1, ""),
        ("ZCARD", log),
        ("ZCOUNT", log, 0, 0),
        ("ZMSCORE", log, ""),
        ("ZRANGE", log, 0, 0),
        ("ZRANGEBYSCORE", log, 0, 0),
        ("ZREM", log, ""),
        ("ZREMRANGEBYRANK", log, 0, 0),
        ("ZREMRANGEBYSCORE", log, 0, 0),
        ("ZREVRANGE", log, 0, 0),
        ("ZSCAN", log, 0),
        ("ZSCORE", log, ""),
        (keys.publish, keys.live(_NOWHERE), ""),
        *(_to_serve_in_a_cluster(keys) if keys.sharded else ()),
    ]


def to_tell(keys: Keys) -> list[Command]:
    """Uses that change nothing of all that a node needs besides where it tells backends of events."""
    return [
        ("HGET", keys.connected, _NOWHERE),
        ("HLEN", keys.connected),
        ("HRANDFIELD", keys.connected),
        ("XADD", keys.events, "NOMKSTREAM", "*", "kind", ""),
    ]


def _to_serve_in_a_cluster(keys: Keys) -> list[Command]:
    return [
        # ASKING is about the command behind it.
        ("ASKING",),
        ("TIME",),
        ("CLUSTER", "INFO"),
        ("CLUSTER", "SLOTS"),
        # What all nodes are to hear goes by the pub/sub that knows no slots.
        ("PUBLISH", keys.control, _SKIPPED),
    ]


def to_listen(keys: Keys) -> list[Command]:
    """What a node needs on a connection of pub/sub. Each is answered once, and nothing is left of them together."""
    control, live = keys.control, keys.live(_NOWHERE)
    plain: list[Command] = [("SUBSCRIBE", control), ("UNSUBSCRIBE", control)]
    sharded: list[Command] = [("SSUBSCRIBE", live), ("SUNSUBSCRIBE", live)]
    return [*plain, *sharded] if keys.sharded else plain


_ONLY_IN_EARNEST: Final = ("hset",)
"""What a node needs and every use of which changes something."""

_TO_CHECK: Final = ("info",)
"""What ``gateway check`` reads besides. ``CONFIG GET`` is not among it: it shows passwords of the server's own."""


def of_a_gateway(keys: Keys, *, api: bool = False) -> list[str]:
    """An ACL's rules for a node, with the HTTP API or without, and for ``gateway check``."""
    uses = (*to_serve(keys), *to_tell(keys), *to_listen(keys))
    used = [_name(each) for each in (*uses, *(to_serve_backends(keys) if api else ()))]
    return _rules(keys, [*used, *_ONLY_IN_EARNEST, *_TO_CHECK])


def _rules(keys: Keys, commands: Iterable[str]) -> list[str]:
    to_begin = ("select",) if keys.database else ()
    allowed = sorted({f"+{command.lower()}" for command in (*commands, *to_begin)})
    return ["resetkeys", keys_rule(keys), "resetchannels", channels_rule(keys), "-@all", *allowed]


def keys_rule(keys: Keys) -> str:
    """The rule of an ACL that allows all keys of ours."""
    return f"~{keys.prefix}:*"


def channels_rule(keys: Keys) -> str:
    """The rule of an ACL that allows all pub/sub channels of ours."""
    return f"&{keys.control.removesuffix('control')}*"


def missing(keys: Keys, refused: Iterable[tuple[Command, str]]) -> list[str]:
    """The rules that an ACL lacks, from commands and what Redis said when it had no permission for them."""
    return sorted({_lacking(keys, command, said) for command, said in refused})


def _lacking(keys: Keys, command: Command, said: str) -> str:
    # "User u has no permissions to run the 'zadd' command", "No permissions to access a channel", "… a key";
    # Redis 6.2 speaks of "one of the channels" and "one of the keys".
    if "' command" in said:
        return f"+{_name(command)}"
    return channels_rule(keys) if " channel" in said else keys_rule(keys)


def _name(command: Command) -> str:
    """What an ACL calls it: with the subcommand, where there is one."""
    words = command[:2] if command[0] == "CLUSTER" else command[:1]
    return "|".join(str(each).lower() for each in words)
