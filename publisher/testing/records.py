"""What a recording publisher has recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from publisher.contract.channels import Retention
from publisher.contract.grants import Grantee


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedMessage:
    """A message that was published.

    ``data`` is what clients are sent: what JSON makes of the data that was given, so a tuple is a list and a ``Decimal`` a
    string. ``id`` rises within a channel, and is 0 where the namespace keeps no log; ``timestamp`` is in milliseconds since
    1970. The others are as the publisher was given them. Of :attr:`Recording.waiting` the ``id`` is 0, and ``timestamp`` the moment
    at which it is to be published.
    """

    id: int
    channel: str
    data: Any
    timestamp: int
    idempotency_key: str | None = None
    retention: Retention | None = None
    min_replicas: int | None = None
    collapse_key: str | None = None
    ttl: int | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant that holds: ``until`` is in seconds since 1970, ``None`` for ever."""

    channel: str
    user: Grantee
    until: float | None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A call of ``disconnect``: of all the user's connections, or of one (``<node>/<id>``)."""

    user: str
    reason: str
    connection: str | None
