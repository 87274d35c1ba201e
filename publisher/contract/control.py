"""Commands that reach every node at once, over the control channel."""

from __future__ import annotations

from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class GrantRevoked:
    """The grant of ``user`` (``*``: everybody) in ``channel`` was taken back, or ends sooner than before.

    Nodes ask about it again, and end the subscriptions that nothing else allows.
    """

    channel: str
    user: str


def encode(command: GrantRevoked) -> bytes:
    """The command as it travels."""
    return orjson.dumps({"type": "grant_revoked", "channel": command.channel, "user": command.user})


def decode(payload: bytes) -> GrantRevoked | None:
    """Read a command; ``None`` for one this version does not know, so that versions can be mixed.

    Raises:
        ValueError: the payload is not a command at all.
    """
    match orjson.loads(payload):
        case {"type": "grant_revoked", "channel": str(channel), "user": str(user)}:
            return GrantRevoked(channel, user)
        case {"type": str()}:
            return None
        case _:
            raise ValueError("not a control command")
