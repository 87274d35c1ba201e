"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import redis

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
from publisher.events import Events
from publisher.operations import DEFAULT_GRANT_TTL_SECONDS
from publisher.publication import DEFAULT_MAX_MESSAGE_BYTES, Options
from publisher.records import Connection, Entry, Node, Outgoing, Published, check_timeout
from publisher.redis_address import from_environment
from publisher.transport.flows import Flow, T
from publisher.transport.topology import Topology, blocking_topology


class Publisher(Client):
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

    def publish(
        self,
        channel: str,
        data: Any,
        *,
        idempotency_key: str | None = None,
        retention: Retention | None = None,
        min_replicas: int | None = None,
    ) -> Published:
        """Publish ``data`` (anything JSON can hold) to ``channel``.

        With an ``idempotency_key`` a message is published at most once while the log retains it; a
        second call returns the first one's id and ``duplicate=True``. ``retention`` replaces the
        namespace's: the channel's whole log is trimmed to it, now. ``min_replicas`` replaces the
        publisher's.

        Raises:
            InvalidInput: a bad channel, unknown namespace, data that is no JSON or too large.
            NotReplicated: it is published, but fewer than ``min_replicas`` have confirmed it in time.
            Unavailable: Redis did not answer; ``maybe_sent`` says whether the message may be out.
        """
        return self._run(
            self._operations.publish(
                Outgoing(channel, data, idempotency_key, retention, min_replicas)
            )
        )

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

    def grant(
        self, channel: str, user: Grantee, ttl: int | None = DEFAULT_GRANT_TTL_SECONDS
    ) -> None:
        """Let ``user`` subscribe to ``channel``; ``EVERYBODY`` lets every authenticated user.

        For ``ttl`` seconds, or for ever with ``None``; a second grant replaces the first one's time.

        Raises:
            InvalidInput: a bad channel, user or ttl.
            GrantWithoutEffect: the namespace's rule keeps the user out, whatever is granted.
            Unavailable: Redis did not answer. Calling again is always safe.
        """
        self._run(self._operations.grant(channel, user, ttl))

    def revoke(self, channel: str, user: Grantee) -> bool:
        """Take a grant back; the subscriptions it allowed end at once. Returns whether there was one.

        A grant to ``EVERYBODY``, a token that names the channel, or a channel token still lets the user in. After a lost reply
        ``False`` may also mean that the first try has removed it. Raises as :meth:`grant` does, and
        ``GrantWithoutEffect`` where the namespace's rule lets the user in.
        """
        return self._run(self._operations.revoke(channel, user))

    def disconnect(self, user: str, *, reason: str = "", connection: str | None = None) -> None:
        """End the user's connections on all nodes, or only ``connection`` (``<node>/<id>``, as :meth:`connections` lists
        it).

        Their clients are told ``disconnected``, with the ``reason`` as its message (at most 500 bytes), and may come
        back at once. A node that is cut off from Redis does it when it is back, to connections that are older than
        this call, up to ten minutes later.

        Raises:
            InvalidInput: a bad user, reason or connection.
            Unavailable: Redis did not answer. Calling again is always safe; it ends those who have come back meanwhile.
        """
        self._run(self._operations.revoking.disconnect(user, reason, connection))

    def revoke_token(self, jti: str, until: datetime | float) -> None:
        """Let nobody in with the token that has this ``jti`` claim, and end the connections that have shown it.

        ``until``: when the token ends by itself, its ``exp``, with a time zone or in seconds since 1970. A ``jti``
        counts whoever has issued the token. Raises as :meth:`disconnect` does; nobody is ended who has another token.
        """
        self._run(self._operations.revoking.revoke_token(jti, until))

    def revoke_tokens_before(self, user: str, time: datetime | float) -> None:
        """Let nobody in with a token of the user that was issued (``iat``) before ``time``, or does not say when, and end the
        connections that have shown one.

        It only moves forward: an earlier time than that of a call before changes nothing. A time to come also
        revokes tokens that are made until then. It is kept as long as a token may live (``jwt_max_lifetime_seconds`` of
        the gateways), for ever where there is no limit. Raises as :meth:`revoke_token` does.
        """
        self._run(self._operations.revoking.revoke_tokens_before(user, time))

    def history(self, channel: str, since: int = 0, limit: int | None = None) -> list[Entry]:
        """The retained messages after id ``since``, oldest first, at most ``limit``.

        Raises:
            InvalidInput: a bad channel, ``since`` or ``limit``.
            Unavailable: Redis did not answer.
        """
        return self._run(self._operations.history(channel, since, limit))

    def connections(self, user: str) -> list[Connection]:
        """The user's live connections, on all nodes. Raises as :meth:`history` does."""
        return self._run(self._operations.connections(user))

    def nodes(self) -> list[Node]:
        """All living gateways by name, each with what it has said of itself a few seconds ago. Raises as
        :meth:`history` does.
        """
        return self._run(self._operations.nodes())

    def presence(self, channel: str) -> list[str]:
        """The users who are in a channel now, each once, in the order of their ids, on however many nodes and tabs.

        Whoever has left is gone within a second; the users of a node that was killed, once its lease has run out.

        Raises:
            InvalidInput: a bad channel, an unknown namespace, or one without ``presence``.
            Unavailable: Redis did not answer.
        """
        return self._run(self._operations.presence.users(channel))

    def events(self, group: str, start: Start = "new") -> Events:
        """What the nodes tell of users and their connections (``GATEWAY_EVENTS``), in order and without an end.

        The consumers of a ``group`` share the events. An event is acknowledged when the next is asked for; what a consumer that has
        died had not acknowledged, another one is given a minute later. So each is given at least once. ``start``: where a
        group begins that is not there yet, with what happens from now on or with the ``"oldest"`` event that is kept.
        While Redis is away the iterator waits.

        Raises:
            InvalidInput: a bad group or ``start``.
            Rejected: Redis does not accept the command, while events are asked for.
        """
        return Events(self._operations.events(group, start), self._run)

    def ping(self) -> None:
        """Ask Redis for something, once: returns when it has answered.

        It proves the address, the password and the database, not the right to publish.

        Raises:
            Rejected: Redis does not accept the password, the database or the command.
            Unavailable: Redis did not answer.
        """
        self._run(self._operations.ping())

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
