"""What the blocking and the asyncio client are put together from."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from redis.exceptions import RedisError

from publisher.contract.keys import DEFAULT_PREFIX, Keys
from publisher.discovery import PREFIX_VARIABLE, find_redis
from publisher.errors import InvalidURL
from publisher.flow import Retries
from publisher.operations import Operations
from publisher.records import Outgoing, check_min_replicas, check_replica_timeout

ClientT = TypeVar("ClientT")


def operations(
    prefix: str, max_message_bytes: int, retries: int, min_replicas: int, replica_timeout: float
) -> Operations:
    """The operations on this process's clocks and randomness.

    Raises:
        InvalidData: ``min_replicas`` or ``replica_timeout`` has an impossible value.
    """
    check_min_replicas(min_replicas)
    check_replica_timeout(replica_timeout)
    return Operations(
        Keys(prefix),
        clock=time.monotonic,
        wall_clock=lambda: time.time_ns() // 1000,
        retries=Retries(retries, random.random),
        max_message_bytes=max_message_bytes,
        min_replicas=min_replicas,
        replica_timeout=replica_timeout,
    )


def checked(connect: Callable[[], ClientT]) -> ClientT:
    """The client that ``connect`` makes of a URL.

    Raises:
        InvalidURL: the URL, or an option in it, cannot be used.
    """
    try:
        client: Any = connect()
        pool = client.connection_pool
        # Options are only read when the first connection is made; one that is never opened shows now.
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, AttributeError, RedisError):
        client = None
    # Raised out here because the error above may quote a part of the password.
    if client is None:
        raise InvalidURL
    checked_client: ClientT = client
    return checked_client


def from_environment() -> tuple[str, str]:
    """Redis's URL and the key prefix, as the environment or a development gateway gives them.

    Raises:
        InvalidInput: there is no URL.
    """
    address = find_redis(None, os.environ, Path.cwd())
    return address.url, os.environ.get(PREFIX_VARIABLE) or DEFAULT_PREFIX


def outgoing(message: Outgoing | tuple[str, Any]) -> Outgoing:
    """``(channel, data)`` is short for ``Outgoing(channel, data)``."""
    return message if isinstance(message, Outgoing) else Outgoing(*message)
