"""Publishers that record. They are the real ones, but for the way to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import redis
import redis.asyncio

from publisher.async_client import AsyncPublisher
from publisher.client import Publisher
from publisher.client_base import DEFAULT_GIVE_UP_AFTER_SECONDS, DEFAULT_TIMEOUT_SECONDS
from publisher.contract.events import Start
from publisher.contract.keys import DEFAULT_PREFIX
from publisher.events import AsyncEvents, Events
from publisher.publication import DEFAULT_MAX_MESSAGE_BYTES, Publication
from publisher.testing.recorder import NothingLeft
from publisher.testing.recording import Recording, namespaces_of
from publisher.transport.flows import Flow, T
from publisher.transport.topology import asyncio_topology, blocking_topology

_NOWHERE = "redis://nowhere.invalid"


class RecordingPublisher(Recording, Publisher):
    """A :class:`publisher.Publisher` for tests: it checks, numbers and answers as that does, and keeps what it published.

    ``namespaces`` are those of ``GATEWAY_NAMESPACES``, besides the default ones. The other arguments are the publisher's; a
    ``client``, or a URL of :meth:`from_url`, is checked and never used.
    """

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        retries: int = 3,
        give_up_after: float = DEFAULT_GIVE_UP_AFTER_SECONDS,
        min_replicas: int = 0,
        replica_timeout: float = 1.0,
        default: Callable[[Any], Any] | None = None,
        encryption_keys: str | None = None,
        actor: str | None = None,
        namespaces: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._namespaces = namespaces_of(namespaces)
        made: Any = client
        if client is None:
            made = blocking_topology(_NOWHERE, DEFAULT_TIMEOUT_SECONDS)
        super().__init__(
            made,
            prefix=prefix,
            max_message_bytes=max_message_bytes,
            retries=retries,
            give_up_after=give_up_after,
            min_replicas=min_replicas,
            replica_timeout=replica_timeout,
            default=default,
            encryption_keys=encryption_keys,
            actor=actor,
        )

    def events(self, group: str, start: Start = "new") -> Events:
        """As :meth:`publisher.Publisher.events`: those of :meth:`add_event`. It ends where all are taken."""
        return Events(self._operations.events(group, start), self._next_event)

    def _next_event(self, flow: Flow[T]) -> T:
        try:
            return self._recorder.run_event(flow)
        except NothingLeft:
            raise StopIteration from None

    def close(self) -> None:
        """Nothing is open. As with the real one, a later call goes on."""

    def _run(self, flow: Flow[T]) -> T:
        return self._recorder.run(flow)


class AsyncRecordingPublisher(Recording, AsyncPublisher):
    """:class:`RecordingPublisher` for asyncio: the calls of :class:`publisher.AsyncPublisher` are awaited, those for the test are not."""

    def __init__(
        self,
        client: redis.asyncio.Redis | redis.asyncio.RedisCluster | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        retries: int = 3,
        give_up_after: float = DEFAULT_GIVE_UP_AFTER_SECONDS,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        min_replicas: int = 0,
        replica_timeout: float = 1.0,
        default: Callable[[Any], Any] | None = None,
        encryption_keys: str | None = None,
        actor: str | None = None,
        namespaces: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._namespaces = namespaces_of(namespaces)
        made: Any = asyncio_topology(_NOWHERE) if client is None else client
        super().__init__(
            made,
            prefix=prefix,
            max_message_bytes=max_message_bytes,
            retries=retries,
            give_up_after=give_up_after,
            timeout=timeout,
            min_replicas=min_replicas,
            replica_timeout=replica_timeout,
            default=default,
            encryption_keys=encryption_keys,
            actor=actor,
        )

    def events(self, group: str, start: Start = "new") -> AsyncEvents:
        """As :meth:`RecordingPublisher.events`, for ``async for``."""
        return AsyncEvents(self._operations.events(group, start), self._next_event)

    async def _next_event(self, flow: Flow[T]) -> T:
        await asyncio.sleep(0)
        try:
            return self._recorder.run_event(flow)
        except NothingLeft:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Nothing is open. As with the real one, a later call goes on."""

    async def _run(self, flow: Flow[T]) -> T:
        await asyncio.sleep(0)
        return self._recorder.run(flow)

    async def _finished(self, publication: Publication) -> None:
        await self._run(self._operations.together([publication]))
