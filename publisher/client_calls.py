"""The calls of the blocking client, besides those that publish."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime

from publisher.contract.events import Start
from publisher.contract.grants import Grantee
from publisher.events import Events
from publisher.operations import DEFAULT_GRANT_TTL_SECONDS, Operations
from publisher.records import Connection, Entry, Node, Receipt, Scheduled
from publisher.transport.flows import Flow, T


class Calls(ABC):
    """What a client can do besides publishing."""

    _operations: Operations

    @abstractmethod
    def _run(self, flow: Flow[T]) -> T:
        """Run a flow to its end; returns its result."""

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

    def cancel(self, scheduled: Scheduled | str) -> bool:
        """Take a message back that :meth:`Publisher.publish` was to publish ``at`` a moment; returns whether it waited.

        ``False``: it is published, is just being published, or was cancelled before, also by a first try whose reply was
        lost. Raises as :meth:`history` does.
        """
        return self._run(self._operations.scheduling.cancel(scheduled))

    def scheduled(self, id: str) -> Scheduled | None:
        """What waits to be published later under this id; ``None`` if nothing does, as after :meth:`cancel`.

        Raises as :meth:`history` does.
        """
        return self._run(self._operations.scheduling.scheduled(id))

    def delete(self, channel: str, id: int) -> bool:
        """Take a message out of its channel's log, by its id; returns whether it was there.

        Who has not received it will not, and misses nothing; who has keeps it. After a lost reply ``False`` may also
        mean that the first try has removed it. Raises as :meth:`history` does. Calling again is always safe.
        """
        return self._run(self._operations.removing.delete(channel, id))

    def receipts(
        self, channel: str, id: int, *, after: str = "", limit: int | None = None
    ) -> list[Receipt]:
        """The users who have confirmed all that was sent to them, up to the message ``id`` or a later one.

        They come by ``up_to``, and those with the same by their ids; at most ``limit``. For the next ones ask again, with the last one's
        ``up_to`` as the ``id``, and its ``user`` as ``after``. Whoever confirms something meanwhile comes once more. Raises as :meth:`history` does.
        """
        return self._run(self._operations.receipts.receipts(channel, id, after, limit))

    def forget(self, user: str) -> None:
        """Erase what Redis keeps of a user: grants, positions, their own channels and revocations; their connections end.

        It looks through all keys. Let the user log in no more before. Raises as :meth:`disconnect` does; calling again is always safe.
        """
        self._run(self._operations.forgetting.forget(user))

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

    def drain(self, node: str) -> None:
        """Let a living gateway end as SIGTERM does; ``node`` is its name in :meth:`nodes`.

        Raises:
            InvalidInput: there is no living node of this name.
            Unavailable: Redis did not answer.
        """
        return self._run(self._operations.drain(node))

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
