"""What nodes ask each other for an operator: how a user, a channel or all channels stand with them, and what happens there.

A question goes to all nodes over the control channel; what they answer goes to the node that has asked. Nodes before
version 0.3 do not know these commands, and skip them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

USER: Final = "user"
CHANNEL: Final = "channel"
CHANNELS: Final = "channels"
"""What a question may be about; ``CHANNELS``: those with most subscriptions, whose names begin with ``name``."""

_ABOUT: Final = frozenset({USER, CHANNEL, CHANNELS})
_WATCHED: Final = frozenset({USER, CHANNEL})


@dataclass(frozen=True, slots=True)
class Question:
    """``nodes`` tell ``asker`` how ``name`` stands with them; of channels only those in ``namespaces``, if any are named."""

    id: str
    asker: str
    nodes: tuple[str, ...]
    about: str
    name: str
    namespaces: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What ``node`` has to say to a question."""

    id: str
    node: str
    found: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Watch:
    """All nodes tell ``asker`` what happens to ``name`` for so many seconds from now on; none ends it. ``namespaces`` as above."""

    id: str
    asker: str
    about: str
    name: str
    seconds: float
    namespaces: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Happened:
    """What ``node`` has seen of what is watched, oldest first; ``left_out``: so much more."""

    id: str
    node: str
    events: Sequence[Mapping[str, Any]]
    left_out: int = 0


Inspection: TypeAlias = Question | Reply | Watch | Happened

_TYPES: Final[Mapping[type[Inspection], str]] = {
    Question: "question",
    Reply: "reply",
    Watch: "watch",
    Happened: "happened",
}


def message_of(command: Inspection) -> dict[str, Any]:
    """The command as a JSON object."""
    return {"type": _TYPES[type(command)], **asdict(command)}


def read(message: Mapping[str, Any]) -> Inspection | None:
    """The command that a JSON object is, if it is one of these and well-formed."""
    match message:
        case {
            "type": "question",
            "id": str(id),
            "asker": str(asker),
            "nodes": list(nodes),
            "about": str(about),
            "name": str(name),
        } if about in _ABOUT:
            return Question(id, asker, tuple(map(str, nodes)), about, name, _namespaces(message))
        case {"type": "reply", "id": str(id), "node": str(node), "found": dict(found)}:
            return Reply(id, node, found)
        case {
            "type": "watch",
            "id": str(id),
            "asker": str(asker),
            "about": str(about),
            "name": str(name),
            "seconds": int(seconds) | float(seconds),
        } if about in _WATCHED:
            return Watch(id, asker, about, name, seconds, _namespaces(message))
        case {
            "type": "happened",
            "id": str(id),
            "node": str(node),
            "events": list(events),
            "left_out": int(left_out),
        }:
            return Happened(id, node, [each for each in events if isinstance(each, dict)], left_out)
        case _:
            return None


def readable(channel: str, namespaces: Collection[str] | None) -> bool:
    """Whether who may read these namespaces, or all, may read a channel."""
    return namespaces is None or channel.partition("/")[0] in namespaces


def _namespaces(message: Mapping[str, Any]) -> tuple[str, ...] | None:
    given = message.get("namespaces")
    return tuple(map(str, given)) if isinstance(given, list) else None
