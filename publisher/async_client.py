"""The asyncio client: the same calls as the blocking one's, awaited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, overload

import redis.asyncio

from publisher.client_base import (
    DEFAULT_GIVE_UP_AFTER_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    Client,
    Tries,
)
from publisher.contract.channels import Retention
from publisher.contract.events import Start
from publisher.contract.grants import Grantee
from publisher.contract.keys import DEFAULT_PREFIX
from publisher.contract.sealing import KeyRing
from publisher.errors import PublisherError
from publisher.events import AsyncEvents
from publisher.operations import DEFAULT_GRANT_TTL_SECONDS
from publisher.publication import DEFAULT_MAX_MESSAGE_BYTES, Options, Publication
from publisher.records import (
    Connection,
    Entry,
    Node,
    Outgoing,
    Published,
    Receipt,
    Scheduled,
    check_timeout,
)
from publisher.redis_address import from_environment
from publisher.transport import loops
from publisher.transport.flows import Flow, T
from publisher.transport.topology import Topology, asyncio_topology


class AsyncPublisher(Client):
    """:class:`Publisher` for asyncio: the same methods, awaited.

    Calls that are made at the same time share a connection and its round trips, and publishes share their calls of
    a script; those that wait for replicas have connections of their own. Each event loop that uses the publisher has
    its own connections, which end with it.

    Args:
        client: an existing ``redis.asyncio.Redis`` or ``redis.asyncio.RedisCluster``. The publisher connects as its pool does, with connections
            of its own.
        timeout: seconds for each round trip, to which ``replica_timeout`` is added.
    """

    _made_of = redis.asyncio.Redis
    _cluster_made_of = redis.asyncio.RedisCluster

    def __init__(
        self,
        client: redis.asyncio.Redis | redis.asyncio.RedisCluster,
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
    ) -> None:
        check_timeout(timeout)
        ring = KeyRing.of(encryption_keys)
        options = Options(max_message_bytes, min_replicas, replica_timeout, default, ring, actor)
        tries = Tries(retries, give_up_after)
        self._set_up(self._topology(client), timeout, prefix, tries, options)

    def _set_up(
        self, topology: Topology, timeout: float, prefix: str, tries: Tries, options: Options
    ) -> None:
        super()._set_up(topology, timeout, prefix, tries, options)
        self._loops = loops.Loops(partial(topology.connections_for_loop, timeout, self._keys))

    @classmethod
    def from_url(
        cls,
        url: str,
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
    ) -> Self:
        """As :meth:`Publisher.from_url`."""
        made: Any = asyncio_topology(url)
        publisher = cls(
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
        publisher._of_url = True
        return publisher

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """As :meth:`Publisher.from_env`."""
        url, found = from_environment()
        return cls.from_url(url, **{**found, **options})

    @overload
    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        idempotency_key: str | None = None,
        retention: Retention | None = None,
        min_replicas: int | None = None,
        collapse_key: str | None = None,
        ttl: int | None = None,
        traceparent: str | None = None,
        at: None = None,
        wait_confirmed: float | None = None,
    ) -> Published: ...
    @overload
    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        idempotency_key: str | None = None,
        retention: Retention | None = None,
        min_replicas: int | None = None,
        collapse_key: str | None = None,
        ttl: int | None = None,
        traceparent: str | None = None,
        at: datetime | float,
    ) -> Scheduled: ...
    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        idempotency_key: str | None = None,
        retention: Retention | None = None,
        min_replicas: int | None = None,
        collapse_key: str | None = None,
        ttl: int | None = None,
        traceparent: str | None = None,
        at: datetime | float | None = None,
        wait_confirmed: float | None = None,
    ) -> Published | Scheduled:
        """As :meth:`Publisher.publish`."""
        options = idempotency_key, retention, min_replicas, collapse_key, ttl, traceparent
        if at is not None:
            later = Outgoing(channel, data, *options)
            return await self._run(self._operations.schedule(later, at, wait_confirmed))
        message: Outgoing | tuple[str, Any] = (channel, data)
        if options != (None,) * len(options):
            message = Outgoing(channel, data, *options)
        if wait_confirmed is None:
            return await self._publish(message)
        receipts = self._operations.receipts
        publication = self._operations.accept(message)
        await self._run(receipts.check(channel, wait_confirmed))
        await self._finished(self._operations.traced(publication, message))
        return await self._run(receipts.confirmed(publication.answer(), wait_confirmed))

    def _finished(self, publication: Publication) -> Awaitable[None]:
        """Returns once it has its outcome."""
        if publication.min_replicas:
            # Others would wait for its replicas, too.
            return self._run(self._operations.together([publication]))
        gathering = self._loops.running().gathering_of(publication.channel)
        return gathering.do(publication, self._operations.together)

    async def _publish(self, message: Outgoing | tuple[str, Any]) -> Published:
        publication = self._operations.accept(message)
        await self._finished(self._operations.traced(publication, message))
        return publication.answer()

    async def publish_many(
        self, messages: Iterable[Outgoing | tuple[str, Any]]
    ) -> list[Published | PublisherError]:
        """As :meth:`Publisher.publish_many`."""
        return await self._run(self._operations.publish_many(messages))

    async def broadcast(
        self,
        data: Any,
        *,
        channels: Iterable[str] | None = None,
        users: Iterable[str] | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> list[Published | PublisherError]:
        """As :meth:`Publisher.broadcast`."""
        return await self._run(
            self._operations.broadcast(data, channels, users, idempotency_key, traceparent)
        )

    async def notify(
        self,
        user: str,
        *,
        title: str,
        message: str,
        action: str | None = None,
        request_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """As :meth:`Publisher.notify`."""
        return await self._publish(
            self._operations.notification(
                user,
                title=title,
                message=message,
                action=action,
                request_id=request_id,
                idempotency_key=idempotency_key,
            )
        )

    async def run_result(
        self,
        session: str,
        *,
        stdout: str,
        stderr: str,
        exit_code: int,
        duration: int,
        user: Grantee | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """As :meth:`Publisher.run_result`."""
        message = await self._run(
            self._operations.run_result(
                session,
                stdout=stdout,
                stderr=stderr,
                exit_code=exit_code,
                duration=duration,
                user=user,
                idempotency_key=idempotency_key,
            )
        )
        return await self._publish(message)

    async def grant(
        self, channel: str, user: Grantee, ttl: int | None = DEFAULT_GRANT_TTL_SECONDS
    ) -> None:
        """As :meth:`Publisher.grant`."""
        await self._run(self._operations.grant(channel, user, ttl))

    async def revoke(self, channel: str, user: Grantee) -> bool:
        """As :meth:`Publisher.revoke`."""
        return await self._run(self._operations.revoke(channel, user))

    async def disconnect(
        self, user: str, *, reason: str = "", connection: str | None = None
    ) -> None:
        """As :meth:`Publisher.disconnect`."""
        await self._run(self._operations.revoking.disconnect(user, reason, connection))

    async def revoke_token(self, jti: str, until: datetime | float) -> None:
        """As :meth:`Publisher.revoke_token`."""
        await self._run(self._operations.revoking.revoke_token(jti, until))

    async def revoke_tokens_before(self, user: str, time: datetime | float) -> None:
        """As :meth:`Publisher.revoke_tokens_before`."""
        await self._run(self._operations.revoking.revoke_tokens_before(user, time))

    async def cancel(self, scheduled: Scheduled | str) -> bool:
        """As :meth:`Publisher.cancel`."""
        return await self._run(self._operations.scheduling.cancel(scheduled))

    async def scheduled(self, id: str) -> Scheduled | None:
        """As :meth:`Publisher.scheduled`."""
        return await self._run(self._operations.scheduling.scheduled(id))

    async def delete(self, channel: str, id: int) -> bool:
        """As :meth:`Publisher.delete`."""
        return await self._run(self._operations.removing.delete(channel, id))

    async def receipts(
        self, channel: str, id: int, *, after: str = "", limit: int | None = None
    ) -> list[Receipt]:
        """As :meth:`Publisher.receipts`."""
        return await self._run(self._operations.receipts.receipts(channel, id, after, limit))

    async def forget(self, user: str) -> None:
        """As :meth:`Publisher.forget`."""
        await self._run(self._operations.forgetting.forget(user))

    async def history(self, channel: str, since: int = 0, limit: int | None = None) -> list[Entry]:
        """As :meth:`Publisher.history`."""
        return await self._run(self._operations.history(channel, since, limit))

    async def connections(self, user: str) -> list[Connection]:
        """As :meth:`Publisher.connections`."""
        return await self._run(self._operations.connections(user))

    async def nodes(self) -> list[Node]:
        """As :meth:`Publisher.nodes`."""
        return await self._run(self._operations.nodes())

    async def drain(self, node: str) -> None:
        """As :meth:`Publisher.drain`."""
        await self._run(self._operations.drain(node))

    async def presence(self, channel: str) -> list[str]:
        """As :meth:`Publisher.presence`."""
        return await self._run(self._operations.presence.users(channel))

    def events(self, group: str, start: Start = "new") -> AsyncEvents:
        """As :meth:`Publisher.events`, for ``async for``."""
        return AsyncEvents(self._operations.events(group, start), self._run)

    async def ping(self) -> None:
        """As :meth:`Publisher.ping`."""
        await self._run(self._operations.ping())

    async def aclose(self) -> None:
        """Close the running loop's connections. A later call opens another."""
        await self._loops.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _run(self, flow: Flow[T]) -> Awaitable[T]:
        return loops.run(flow, self._loops.running())
