"""Commands that reach every node at once, over the control channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import orjson

from publisher.contract.grants import Grantee, grantee_of, member_of


@dataclass(frozen=True, slots=True)
class GrantRevoked:
    """The grant of ``user`` (or everybody) in ``channel`` was taken back, or ends sooner than before.

    Nodes ask about it again, and end the subscriptions that nothing else allows.
    """

    channel: str
    user: Grantee


@dataclass(frozen=True, slots=True)
class ReconcilePlaces:
    """``nodes`` release the places of ``user`` that are theirs and no connection's: the user is at the limit."""

    user: str
    nodes: tuple[str, ...]


Command: TypeAlias = GrantRevoked | ReconcilePlaces


def encode(command: Command) -> bytes:
    """The command as it travels."""
    match command:
        case GrantRevoked(channel, user):
            return orjson.dumps(
                {"type": "grant_revoked", "channel": channel, "user": member_of(user)}
            )
        case ReconcilePlaces(user, nodes):
            return orjson.dumps({"type": "reconcile_places", "user": user, "nodes": nodes})


def decode(payload: bytes) -> Command | None:
    """Read a command; ``None`` for one this version does not know, so that versions can be mixed.

    Raises:
        ValueError: the payload is not a command at all.
    """
    match orjson.loads(payload):
        case {"type": "grant_revoked", "channel": str(channel), "user": str(member)}:
            return GrantRevoked(channel, grantee_of(member))
        case {"type": "reconcile_places", "user": str(user), "nodes": list(nodes)}:
            return ReconcilePlaces(user, tuple(nodes))
        case {"type": str()}:
            return None
        case _:
            raise ValueError("not a control command")
