"""Commands that reach every node at once, over the control channel, and answers that reach the node that has asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import orjson

from publisher.contract.grants import Grantee, grantee_of, member_of


@dataclass(frozen=True, slots=True)
class GrantRevoked:
    """The grant of ``user`` (or everybody) in ``channel`` was taken back, or ends sooner than before.

    Nodes ask about it again, and end the subscriptions that nothing else allows. In a cluster it also goes where the
    channel's messages go, behind those that came before it: the server on which a node hears the control channel may
    hang while the channel's own goes on.
    """

    channel: str
    user: Grantee


@dataclass(frozen=True, slots=True)
class CheckPlaces:
    """``user`` is at the limit: ``nodes`` look which of the places that they hold are still somebody's.

    Each releases those that are no connection's, and closes those of ``members`` (``<node>/<connection>``) whose
    clients are silent. Then it answers ``asker`` with :class:`PlacesChecked`. Nodes of version 0.1 know no
    ``members`` and no ``asker``: they do the first, and do not answer.
    """

    user: str
    nodes: tuple[str, ...]
    members: tuple[str, ...] = ()
    asker: str = ""


@dataclass(frozen=True, slots=True)
class PlacesChecked:
    """``node`` holds no places of ``user`` any more but those of living clients."""

    user: str
    node: str


Command: TypeAlias = GrantRevoked | CheckPlaces | PlacesChecked


def encode(command: Command) -> bytes:
    """The command as it travels."""
    match command:
        case GrantRevoked(channel, user):
            return orjson.dumps(
                {"type": "grant_revoked", "channel": channel, "user": member_of(user)}
            )
        case CheckPlaces(user, nodes, members, asker):
            return orjson.dumps(
                {
                    "type": "reconcile_places",
                    "user": user,
                    "nodes": nodes,
                    "members": members,
                    "asker": asker,
                }
            )
        case PlacesChecked(user, node):
            return orjson.dumps({"type": "places_checked", "user": user, "node": node})


def decode(payload: bytes) -> Command | None:
    """Read a command; ``None`` for one this version does not know, so that versions can be mixed.

    Raises:
        ValueError: the payload is not a command at all.
    """
    match orjson.loads(payload):
        case {"type": "grant_revoked", "channel": str(channel), "user": str(member)}:
            return GrantRevoked(channel, grantee_of(member))
        case {
            "type": "reconcile_places",
            "user": str(user),
            "nodes": list(nodes),
            "members": list(members),
            "asker": str(asker),
        }:
            return CheckPlaces(user, tuple(nodes), tuple(members), asker)
        case {"type": "reconcile_places", "user": str(user), "nodes": list(nodes)}:
            return CheckPlaces(user, tuple(nodes))
        case {"type": "places_checked", "user": str(user), "node": str(node)}:
            return PlacesChecked(user, node)
        case {"type": str()}:
            return None
        case _:
            raise ValueError("not a control command")
