"""What goes into the calls and what comes out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from publisher.channels import Retention


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message for ``publish_many``.

    ``retention`` replaces the namespace's for this publish, ``min_replicas`` the publisher's.
    """

    channel: str
    data: Any
    idempotency_key: str | None = None
    retention: Retention | None = None
    min_replicas: int | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a publish.

    ``id`` is the message's id, in microseconds of the Redis clock; 0 when the namespace keeps no log.
    ``duplicate``: an earlier call has published under this idempotency key, and ``id`` is its message's.
    """

    id: int
    channel: str
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of a channel's history; ``timestamp`` in milliseconds since 1970."""

    id: int
    channel: str
    data: Any
    timestamp: int


@dataclass(frozen=True, slots=True)
class Connection:
    """A live connection of a user: which node holds it, and until when its lease runs (ms since 1970)."""

    node: str
    id: str
    lease_expires_at: int
