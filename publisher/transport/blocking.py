"""Round trips that block a thread, over connections that threads share."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from functools import partial
from typing import Final, Protocol, TypeAlias

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from publisher.contract.calls import Reply, Wait
from publisher.errors import Unavailable
from publisher.transport.contact import Contact
from publisher.transport.failures import (
    FAILURES,
    carried_out,
    cause,
    needs_other_connection,
    unavailable,
)
from publisher.transport.flows import Flow, Pause, RoundTrip, Scripts, Step, T, driven
from publisher.transport.redis_py import UNLIMITED
from publisher.transport.resp import pack_all

_LOOK_AGAIN_SECONDS: Final = 0.005


class Connection(Protocol):
    """What is used of ``redis.Connection``."""

    socket_timeout: float | None

    def connect(self) -> None: ...
    def can_read(self, timeout: float | None = ...) -> bool: ...
    def send_packed_command(self, command: list[bytes]) -> None: ...
    def read_response(self, disable_decoding: bool) -> Reply: ...
    def disconnect(self) -> None: ...


Begun: TypeAlias = tuple[Connection, frozenset[str]]
"""A connection that a round trip was written to, and the scripts that Redis knows once it has answered."""


class NoneFree(RedisConnectionError):
    """All connections that there may be are in use."""


class Primary(Protocol):
    """The server that calls go to now (``primary.py``)."""

    most: int

    @property
    def stale(self) -> bool: ...
    def __call__(self) -> Connection: ...
    def open(self, connection: Connection) -> None: ...
    def leads_there(self, connection: Connection) -> bool: ...
    def refresh(self) -> None: ...
    def doubt(self) -> None: ...
    def close(self) -> None: ...


class Connections:
    """Connections to the primary, each lent to one call at a time. For threads, and processes forked from them.

    What is lent is written down nowhere: a connection is given back when it has answered everything, and an
    interrupted call simply lets go of its own, which closes it. So a signal handler may raise at any point:
    none is lost to the others, and none comes back with a reply of somebody else.

    Args:
        timeout: seconds to wait for a connection where there may be no more.
        contact: told whether the primary answers, where that is to be told.
    """

    def __init__(self, primary: Primary, timeout: float, contact: Contact | None = None) -> None:
        self.primary = primary
        self.contact = contact
        self._timeout = timeout
        self.scripts = Scripts()
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._idle: list[Connection] = []
        # Those that exist, where their number is limited. No WeakSet: it works by callbacks, and one in which
        # a signal handler raises leaves its entry there for ever.
        self._all: list[weakref.ref[Connection]] = []
        self._lock = threading.Lock()

    def take(self) -> Connection:
        """An open connection; waits for one where there may be no more.

        Raises:
            RedisError, OSError, Unavailable: it could not be opened.
            NoneFree: there may be no more, and none has become free in time.
        """
        if self._process != os.getpid():
            self._start()  # the others are those of the process that forked
        if self.primary.stale:
            self.primary.refresh()
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return self._working(self._idle.pop())
            except IndexError:
                connection = self._new()
            if connection is not None:
                return self._opened(connection)
            if time.monotonic() >= deadline:
                most = self.primary.most
                raise NoneFree(f"all {most} connections were in use for too long")
            time.sleep(_LOOK_AGAIN_SECONDS)

    def _new(self) -> Connection | None:
        """Another connection, if there may be one."""
        if self.primary.most >= UNLIMITED:
            return self.primary()
        with self._lock:
            self._all = [each for each in self._all if each() is not None]
            if len(self._all) >= self.primary.most:
                return None
            connection = self.primary()
            self._all.append(weakref.ref(connection))
            return connection

    def _working(self, connection: Connection) -> Connection:
        """The same connection; opened anew if Redis has closed it meanwhile, or if it leads to a former primary."""
        try:
            stale = not self.primary.leads_there(connection) or connection.can_read(0)
        except FAILURES:
            stale = True
        if stale:
            connection.disconnect()
        return self._opened(connection) if stale else connection

    def _opened(self, connection: Connection) -> Connection:
        try:
            self.primary.open(connection)
        except BaseException:
            self.drop(connection)
            raise
        return connection

    def give_back(self, connection: Connection) -> None:
        """Take a connection back that has answered everything."""
        self._idle.append(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection that may still have something to say."""
        with self._lock:
            self._all = [each for each in self._all if each() is not connection]
        connection.disconnect()

    def run(self, flow: Flow[T]) -> T:
        """Take the steps of ``flow``, and return its result."""
        return run(flow, self)

    def close(self) -> None:
        """Close those that nobody uses now."""
        if self._process != os.getpid():
            self._start()  # a lock that another thread held at the fork is never released
        with contextlib.suppress(IndexError):
            while True:
                self.drop(self._idle.pop())
        self.primary.close()


def run(flow: Flow[T], connections: Connections) -> T:
    """Take the steps of ``flow``, and return its result."""
    return driven(flow, partial(_take, connections))


def _take(connections: Connections, step: Step) -> list[Reply]:
    if isinstance(step, RoundTrip):
        return end(connections, step, begin(connections, step))
    assert isinstance(step, Pause), "the others are steps for a cluster"
    time.sleep(step.seconds)
    return []


def begin(connections: Connections, step: RoundTrip) -> Begun:
    """Write a round trip, whose replies :func:`end` reads.

    Raises:
        Unavailable: it could not be written.
    """
    try:
        connection = connections.take()
    except NoneFree as error:
        # It says nothing of the primary.
        raise unavailable(error, maybe_sent=False) from error
    except FAILURES as error:
        raise _failed(connections, error, maybe_sent=False) from cause(error)
    commands, known = connections.scripts.commands(step)
    try:
        connection.send_packed_command([pack_all(commands)])
    except FAILURES as error:
        raise _lost(connections, connection, step, error) from cause(error)
    except BaseException:
        connections.drop(connection)
        raise
    return connection, known


def end(connections: Connections, step: RoundTrip, begun: Begun) -> list[Reply]:
    """The replies to what was begun, with errors among them.

    Raises:
        Unavailable: no answer to all of it.
    """
    connection, known = begun
    wait = step.wait
    try:
        replies = _read(connection, len(step.calls))
        if wait is not None:
            replies += _read_count(connection, wait)
    except FAILURES as error:
        raise _lost(connections, connection, step, error) from cause(error)
    except BaseException:
        connections.drop(connection)
        raise
    connections.scripts.answered(known, replies)
    if needs_other_connection(replies):
        connections.primary.doubt()
        connections.drop(connection)
    else:
        connections.give_back(connection)
    if connections.contact is not None:
        connections.contact.answered()
    return replies


def _lost(
    connections: Connections, connection: Connection, step: RoundTrip, error: BaseException
) -> Unavailable:
    """What to raise for a round trip whose connection has failed."""
    connections.drop(connection)
    connections.scripts.forget()
    return _failed(connections, error, maybe_sent=carried_out(error, len(step.calls)))


def _failed(connections: Connections, error: BaseException, *, maybe_sent: bool) -> Unavailable:
    """What to raise where the primary has not answered."""
    connections.primary.doubt()
    failure = unavailable(error, maybe_sent=maybe_sent)
    if connections.contact is not None:
        connections.contact.failed(failure)
    return failure


def _read(connection: Connection, count: int) -> list[Reply]:
    """The next replies, with errors among them."""
    replies: list[Reply] = []
    while len(replies) < count:
        try:
            replies.append(connection.read_response(disable_decoding=True))
        except ResponseError as error:
            replies.append(error)
    return replies


def _read_count(connection: Connection, wait: Wait) -> list[Reply]:
    # Redis is silent until the replicas have answered, which is no reason to give the connection up.
    own = connection.socket_timeout
    if own is not None and not connection.can_read(own + wait.seconds):
        raise TimeoutError
    return _read(connection, 1)
