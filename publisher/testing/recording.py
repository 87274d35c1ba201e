"""What a test asks of a recording publisher, and what it may set."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any, Final, NoReturn

from publisher.client_base import Tries
from publisher.contract import control, node_report
from publisher.contract.channels import (
    DEFAULT_NAMESPACES,
    Namespace,
    configured,
    parse_channel,
)
from publisher.contract.events import KINDS, Event
from publisher.contract.grants import grantee_of
from publisher.contract.keys import Keys
from publisher.contract.revocations import digest_of
from publisher.errors import InvalidData, NotReplicated, Unavailable
from publisher.operations import Operations
from publisher.publication import Options
from publisher.records import (
    Connection,
    Node,
    check_integer,
    check_name,
    check_user,
)
from publisher.retrying import Retries
from publisher.testing.knowing import Known, RecordingPublishing
from publisher.testing.recorder import Recorder
from publisher.testing.records import Disconnected, Granted, PublishedMessage
from publisher.transport.topology import Topology

_LEASE_MS: Final = 365 * 86_400_000
"""Far from where a test ends."""


def namespaces_of(configuration: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Namespace]:
    """The default namespaces, and those of ``GATEWAY_NAMESPACES``.

    Raises:
        InvalidNamespace: one of them cannot be.
    """
    own = {name: configured(name, rules) for name, rules in (configuration or {}).items()}
    return {**DEFAULT_NAMESPACES, **own}


class Recording:
    """Belongs to one publisher, which may be used from several threads."""

    _keys: Keys
    _operations: Operations
    _recorder: Recorder
    _namespaces: dict[str, Namespace]

    def _set_up(
        self,
        topology: Topology,  # noqa: ARG002 - wherever the real one is led, a recorder is one server
        timeout: float,  # noqa: ARG002 - nothing is waited for
        prefix: str,
        tries: Tries,
        options: Options,
    ) -> None:
        self._keys = Keys(prefix)
        self._recorder = recorder = Recorder(self._keys, self._namespaces)
        self._numbers = count(1)
        retries = Retries(tries.retries, random.random)
        self._operations = Operations(
            self._keys,
            clock=recorder.clock.monotonic,
            wall_clock=recorder.clock.microseconds,
            retries=retries,
            options=options,
            preflight=Known(recorder, retries),
            publishing=lambda shared: RecordingPublishing(shared, recorder),
        )

    def __getstate__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled: "
            "what the copy published would be recorded nowhere"
        )

    # -- what was done ------------------------------------------------------------------------

    @property
    def published(self) -> list[PublishedMessage]:
        """All that was published, in its order: not what was a duplicate, nor what still waits. What is deleted stays here."""
        with self._recorder.lock:
            self._recorder.publish_due()
            return list(self._recorder.published)

    @property
    def waiting(self) -> list[PublishedMessage]:
        """What is to be published later (``at``) and was not cancelled, by its moment."""
        with self._recorder.lock:
            self._recorder.publish_due()
            return list(self._recorder.waiting())

    @property
    def granted(self) -> list[Granted]:
        """The grants that hold now, by channel."""
        found = []
        with self._recorder.lock:
            memory = self._recorder.memory
            begin = self._keys.grant("").removesuffix("}")
            for key in sorted(memory.named(begin.encode())):
                for member, until in memory.scored(key, memory.now_ms + 1):
                    seconds = None if until == float("inf") else until / 1000
                    user = grantee_of(member.decode())
                    found.append(Granted(key[len(begin) : -1], user, seconds))
        return found

    @property
    def disconnected(self) -> list[Disconnected]:
        """The calls of ``disconnect``, and of ``forget``, in their order."""
        return [
            Disconnected(each.user, each.reason, each.connection)
            for each in self._recorder.commands
            if isinstance(each, control.Disconnect)
        ]

    def is_token_revoked(self, jti: str) -> bool:
        """Whether the token with this ``jti`` is revoked."""
        return self._recorder.memory.get(self._keys.revoked(digest_of(jti))) is not None

    def revoked_before(self, user: str) -> float | None:
        """Before which time the user's tokens are revoked, in seconds since 1970; ``None`` where none are."""
        found = self._recorder.memory.get(self._keys.before(user))
        return None if found is None else float(found)

    def clear(self) -> None:
        """Forget all that was recorded and set, but for the clock and ``replicas``."""
        with self._recorder.lock:
            self._recorder.clear()

    # -- what is to happen --------------------------------------------------------------------

    def fail_next(self, error: Unavailable, *, times: int = 1, took_effect: bool = False) -> None:
        """Let the next call, or so many, end with an error, whatever the publisher's own ``retries``.

        In ``publish_many`` and ``broadcast`` it is the outcome of each message. A call that is wrong raises that, and the
        next one fails. ``took_effect``: only the answer was lost, so the call has done its work; that goes with ``maybe_sent``. The
        iterators of ``events`` wait while Redis is away, so they do not fail.

        Raises:
            ValueError: the error cannot be raised so.
        """
        if isinstance(error, NotReplicated):
            raise ValueError(  # noqa: TRY004 - it is an error, and cannot be made here
                "set replicas to less than min_replicas, and a publish is not replicated"
            )
        if took_effect and not error.maybe_sent:
            raise ValueError("who has lost the answer cannot know: maybe_sent must be True")
        check_integer("times", times, lowest=1)
        self._recorder.fail_next(error, times, took_effect=took_effect)

    @property
    def replicas(self) -> int:
        """So many have confirmed each write: 1,000 until that is set. With fewer than ``min_replicas`` a publish raises ``NotReplicated``."""
        return self._recorder.replicas

    @replicas.setter
    def replicas(self, number: int) -> None:
        """So many confirm from now on."""
        check_integer("replicas", number, lowest=0)
        self._recorder.replicas = number

    def advance(self, seconds: float) -> None:
        """Let time pass at once: what is due is published, and what has a time to live ends."""
        if seconds < 0:
            raise ValueError("time does not go back: messages' ids rise")
        with self._recorder.lock:
            self._recorder.clock.advance(seconds)
            self._recorder.publish_due()

    # -- what users do ------------------------------------------------------------------------

    def confirm(self, channel: str, user: str, id: int) -> None:
        """Let a client of the user confirm all of a channel up to a message."""
        parse_channel(channel)
        check_user(user)
        check_integer("id", id, lowest=1)
        with self._recorder.lock:
            self._recorder.confirm(channel, user, id)

    def confirm_at_once(self, *users: str) -> None:
        """Let these users, and no others, confirm each message from now on as it is published, in the channels that the namespace's rule allows."""
        for user in users:
            check_user(user)
        self._recorder.readers = set(users)

    def add_connection(self, user: str, node: str = "node-1") -> Connection:
        """Let a user be connected to a node until they are disconnected; a node that is not there begins to live."""
        check_user(user)
        check_name("node", node)
        with self._recorder.lock:
            memory = self._recorder.memory
            if memory.score(self._keys.nodes, node.encode()) is None:
                self.add_node(Node(node, None))
            connection = Connection(node, str(next(self._numbers)), memory.now_ms + _LEASE_MS)
            member = f"{node}/{connection.id}".encode()
            memory.add(self._keys.connections(user), member, connection.lease_expires_at)
            return connection

    def add_node(self, node: Node) -> None:
        """Let a gateway live."""
        with self._recorder.lock:
            memory = self._recorder.memory
            memory.add(self._keys.nodes, node.name.encode(), memory.now_ms + _LEASE_MS)
            if node.report is not None:
                memory.set(self._keys.node(node.name), node_report.encode(node.report))

    def set_presence(self, channel: str, users: Iterable[str]) -> None:
        """Let these users, and no others, be in a channel."""
        parse_channel(channel)
        key = self._keys.presence(channel)
        with self._recorder.lock:
            memory = self._recorder.memory
            memory.remove(key, [each for each, _ in memory.scored(key)])
            for user in users:
                check_user(user)
                memory.add(key, f"node-1/{user}".encode(), memory.now_ms + _LEASE_MS)

    def add_event(self, kind: str, user: str, *, node: str = "node-1", **further: Any) -> Event:
        """Let something happen that ``events`` tells of; ``further`` are the other fields of :class:`publisher.Event`.

        Each group is given it, also one that begins later. An iterator ends where all events are taken, so that a test comes to its end.
        """
        if kind not in KINDS:
            raise InvalidData(f"kind must be one of {', '.join(KINDS)}")
        check_user(user)
        with self._recorder.lock:
            moment = self._recorder.memory.now_ms
            event = Event(kind, user, node, moment, f"{next(self._numbers)}-0", **further)
            self._recorder.events.add(event)
        return event
