"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self, overload

import redis

from publisher.client_base import (
    DEFAULT_GIVE_UP_AFTER_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    Client,
    Tries,
)
from publisher.client_calls import Calls
from publisher.contract.channels import Retention
from publisher.contract.grants import Grantee
from publisher.contract.keys import DEFAULT_PREFIX
from publisher.contract.sealing import KeyRing
from publisher.errors import PublisherError
from publisher.publication import DEFAULT_MAX_MESSAGE_BYTES, Options
from publisher.records import Outgoing, Published, Scheduled, check_timeout
from publisher.redis_address import from_environment
from publisher.transport.flows import Flow, T
from publisher.transport.topology import Topology, blocking_topology


class Publisher(Calls, Client):
    """Publishes messages to users, through Redis. Safe to share between threads, and with forked processes.

    Each thread that is inside a call has a connection, which others use afterwards. A publisher of
    :meth:`from_url` or :meth:`from_env` can be pickled; the copy connects anew.

    Args:
        client: an existing ``redis.Redis``, also of ``Sentinel.master_for``, or a ``redis.RedisCluster``. The publisher connects as its pool does,
            and as often at most, with connections of its own.
        prefix: key prefix, the gateways' ``GATEWAY_REDIS_PREFIX``.
        max_message_bytes: a message's JSON may not be longer.
        retries: how often a call is tried again when Redis does not answer; never duplicates.
        give_up_after: on Sentinel and in a cluster, in place of that, how many seconds a call is tried again while another server takes
            over, unless ``retries`` is 0. A try that has begun by then may still take its ``timeout``.
        min_replicas: how many replicas of Redis must have a message before its publish succeeds (with
            ``WAIT``); 0 asks for none.
        replica_timeout: how many seconds they may take, at most an hour. Not part of the other timeouts.
        default: turns what JSON cannot hold into what it can, or raises ``TypeError``; as orjson's. Without it a
            Decimal becomes a string, a set a list, and a Pydantic model its fields.
        encryption_keys: ``<id>:<base64 of 32 bytes>,…`` for namespaces that are encrypted: the first encrypts, all decrypt.
        actor: on whose behalf access is given and taken, for the gateways' audit log.

    Raises:
        InvalidData: an argument has an impossible value.
    """

    _made_of = redis.Redis
    _cluster_made_of = redis.RedisCluster

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster,
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
    ) -> None:
        ring = KeyRing.of(encryption_keys)
        options = Options(max_message_bytes, min_replicas, replica_timeout, default, ring, actor)
        topology = self._topology(client)
        timeout = topology.servers.timeout or DEFAULT_TIMEOUT_SECONDS
        self._set_up(topology, timeout, prefix, Tries(retries, give_up_after), options)

    def _set_up(
        self, topology: Topology, timeout: float, prefix: str, tries: Tries, options: Options
    ) -> None:
        super()._set_up(topology, timeout, prefix, tries, options)
        self._connections = topology.connections_for_threads(timeout)

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
        """Connect to ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``redis+cluster://``, when the first call needs it.

        ``timeout`` is the longest wait for Redis in seconds, at each try. ``?max_connections=N`` in the URL
        limits how many connections there are; further calls wait for one, up to ``timeout``.

        Raises:
            InvalidURL: the URL, or an option in it, cannot be used.
            InvalidData: another argument has an impossible value.
        """
        check_timeout(timeout)
        made: Any = blocking_topology(url, timeout)
        publisher = cls(
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
        publisher._of_url = True
        return publisher

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """Connect to the Redis that ``PUBLISHER_REDIS_URL`` names, or to that of ``make run``.

        The latter is found from any folder of a checkout whose development gateway is running.
        ``PUBLISHER_REDIS_PREFIX``, ``PUBLISHER_ENCRYPTION_KEYS`` and ``PUBLISHER_ACTOR`` are read as well. ``options`` are
        those of :meth:`from_url`.

        Raises:
            InvalidInput: neither is there, or the URL cannot be used.
        """
        url, found = from_environment()
        return cls.from_url(url, **{**found, **options})

    @overload
    def publish(
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
    def publish(
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
    def publish(
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
        """Publish ``data`` (anything JSON can hold) to ``channel``.

        With an ``idempotency_key`` a message is published at most once while the log retains it; a
        second call returns the first one's id and ``duplicate=True``. ``retention`` replaces the
        namespace's: the channel's whole log is trimmed to it, now. ``min_replicas`` replaces the
        publisher's. It takes the message before it that has the same ``collapse_key`` out of the channel, read or not. After ``ttl``
        seconds nobody is sent the message any more. ``traceparent`` (W3C Trace Context) names the span of a trace that the
        publish belongs to; without one that is OpenTelemetry's current span, where there is one.

        ``at`` a moment (with a time zone, or in seconds since 1970) a gateway publishes it, at most a second later; then
        ``Scheduled`` is returned, by which it can be cancelled. ``wait_confirmed``: so many seconds it is waited until a
        client of a user's has confirmed the message, of the owner's where the channel has one; ``Published.confirmed``
        names who has by then.

        Raises:
            InvalidInput: a bad channel, unknown namespace, data that is no JSON or too large.
            NotReplicated: it is published, but fewer than ``min_replicas`` have confirmed it in time.
            Unavailable: Redis did not answer; ``maybe_sent`` says whether the message may be out.
        """
        message = Outgoing(
            channel,
            data,
            idempotency_key,
            retention,
            min_replicas,
            collapse_key,
            ttl,
            traceparent,
        )
        if at is not None:
            return self._run(self._operations.schedule(message, at, wait_confirmed))
        return self._run(self._operations.publish(message, wait_confirmed))

    def publish_many(
        self, messages: Iterable[Outgoing | tuple[str, Any]]
    ) -> list[Published | PublisherError]:
        """Publish many, 500 in a round trip; returns the outcome of each in their order, errors included.

        A message is an :class:`Outgoing` or ``(channel, data)``; they are taken off ``messages`` as they are sent, so
        a generator that raises does so after those before it are out. They are published in this order, save
        those that a retry sends later; in a cluster its primaries work side by side, and the order is that within
        a channel. Nothing is raised for a message that cannot be published. For
        replicas each round trip is waited for once, as long as its most demanding message asks.
        """
        return self._run(self._operations.publish_many(messages))

    def broadcast(
        self,
        data: Any,
        *,
        channels: Iterable[str] | None = None,
        users: Iterable[str] | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> list[Published | PublisherError]:
        """Publish the same to many ``channels``, or to the notifications of many ``users``, as :meth:`publish_many` does.

        The JSON is written once. An ``idempotency_key`` counts within each channel.

        Raises:
            InvalidInput: ``data`` cannot be published to anybody; a name that is wrong is an outcome.
        """
        return self._run(
            self._operations.broadcast(data, channels, users, idempotency_key, traceparent)
        )

    def notify(
        self,
        user: str,
        *,
        title: str,
        message: str,
        action: str | None = None,
        request_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Send a notification to ``notifications/<user>``. Raises as :meth:`publish` does."""
        return self._run(
            self._operations.publish(
                self._operations.notification(
                    user,
                    title=title,
                    message=message,
                    action=action,
                    request_id=request_id,
                    idempotency_key=idempotency_key,
                )
            )
        )

    def run_result(
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
        """Send a program's result (``duration`` in ms) to ``run-results/<session>``.

        ``user``, if named, is granted the session first, for 30 days; ``EVERYBODY`` too. Raises as :meth:`publish` does;
        ``maybe_sent`` tells of the result, not of the grant, which may stand.
        """
        message = self._run(
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
        return self._run(self._operations.publish(message))

    def close(self) -> None:
        """Close the connections. A later call opens another."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        return self._connections.run(flow)
