"""What each call of the library does, apart from the waiting (``retrying.py``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from typing import Any, Final

import orjson

from publisher.audit import audited
from publisher.contract import control, rights, scripts
from publisher.contract.calls import Call, parse_log, read_log
from publisher.contract.channels import (
    DEFAULT_NAMESPACES,
    Namespace,
    namespace_of,
    parse_channel,
)
from publisher.contract.events import Start
from publisher.contract.grants import ASTERISK, Grantee, member_of
from publisher.contract.keys import Keys
from publisher.contract.message import Message, expire
from publisher.contract.sealing import KeyRing, is_sealed, without_keys
from publisher.errors import InvalidData, InvalidInput, PublisherError, Unavailable
from publisher.events import EventReader
from publisher.forgetting import Forgetting
from publisher.intake import BATCH
from publisher.living_nodes import drain, nodes
from publisher.preflight import Preflight
from publisher.presence import PresenceReader
from publisher.publication import Options, Publication, unique_names
from publisher.publishing import Publishing
from publisher.receipts import Receipts
from publisher.records import (
    Connection,
    Encoded,
    Entry,
    Node,
    Outgoing,
    Published,
    Scheduled,
    channel_of_session,
    channel_of_user,
    channels_of,
    check_grantee,
    check_integer,
    check_text,
    check_ttl,
    check_user,
    dump_json,
)
from publisher.removing import Removing
from publisher.retrying import Retries, log, once, repeat
from publisher.revoking import Revoking
from publisher.scheduling import Scheduling
from publisher.shared import Flows, Shared
from publisher.tracing import begin
from publisher.transport.flows import Flow

DEFAULT_GRANT_TTL_SECONDS: Final = 30 * 86_400


class Operations(Flows):
    """All flows. One instance belongs to one client and holds what it has learnt.

    Args:
        clock: a monotonic clock in seconds.
        wall_clock: microseconds since 1970.
        options: what is asked of each publish.
        preflight: what is known already, for tests.
        publishing: makes what accepts and publishes messages.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], int],
        retries: Retries,
        options: Options,
        preflight: Preflight | None = None,
        publishing: Callable[[Shared], Publishing] = Publishing,
    ) -> None:
        self._ring = options.ring
        preflight = preflight or Preflight(
            keys, clock, retries, _known(options.ring), seals=options.ring is not None
        )
        shared = Shared(keys, preflight, retries, options, clock, wall_clock)
        super().__init__(shared)
        self._clock = clock
        self._publishing = publishing(shared)
        self.revoking = Revoking(shared)
        self.removing = Removing(shared)
        self.receipts = Receipts(shared)
        self.presence = PresenceReader(shared)
        self.scheduling = Scheduling(shared, self.accept)
        self.forgetting = Forgetting(shared, self.revoking.disconnect)
        self._told_of_asterisk = False
        self._names = unique_names()
        self._process = os.getpid()

    # -- publishing ---------------------------------------------------------------------------

    def publish(self, message: Outgoing, wait_confirmed: float | None = None) -> Flow[Published]:
        """Publish one message; returns :class:`Published`, raises what stopped it.

        ``wait_confirmed``: so many seconds it is waited for somebody to confirm it.
        """
        publication = self.accept(message)
        if wait_confirmed is None:
            yield from self.together([self.traced(publication, message)])
            return publication.answer()
        yield from self.receipts.check(publication.channel, wait_confirmed)
        yield from self.together([self.traced(publication, message)])
        return (yield from self.receipts.confirmed(publication.answer(), wait_confirmed))

    def schedule(
        self, message: Outgoing, at: datetime | float, wait_confirmed: float | None
    ) -> Flow[Scheduled]:
        """Let a gateway publish one message at a moment."""
        if wait_confirmed is not None:
            raise InvalidData(
                "nobody can confirm now what is published later: at or wait_confirmed"
            )
        return self.scheduling.schedule(message, at)

    def accept(self, message: Outgoing | tuple[str, Any]) -> Publication:
        """A message for :meth:`together`; raises what is wrong with it."""
        process = os.getpid()
        if self._process != process:
            # One that was forked would go on with the same names.
            self._names = unique_names()
            self._process = process
        accepted = self._publishing.accept(message, next(self._names))
        if isinstance(accepted, InvalidInput):
            raise accepted
        return accepted

    def traced(self, publication: Publication, message: Outgoing | tuple[str, Any]) -> Publication:
        """What was made of ``message``, with a span of its own where it is part of a trace. It ends with its outcome."""
        above = message.traceparent if isinstance(message, Outgoing) else None
        publication.trace = begin("publish", publication.namespace, above)
        publication.belong_to(publication.trace)
        return publication

    def together(
        self,
        publications: Iterable[Publication],
        finished: Callable[[Publication], None] | None = None,
    ) -> Flow[None]:
        """Publish what several calls have brought; each has its outcome when ``finished`` is told of it."""
        return self._publishing.together(publications, finished)

    def publish_many(
        self, messages: Iterable[Outgoing | tuple[str, Any]]
    ) -> Flow[list[Published | PublisherError]]:
        """Publish in as few round trips as can be; returns the outcome of each message."""
        return self._publishing.many(messages)

    def broadcast(
        self,
        data: Any,
        channels: Iterable[str] | None,
        users: Iterable[str] | None,
        idempotency_key: str | None,
        traceparent: str | None = None,
    ) -> Flow[list[Published | PublisherError]]:
        """Publish the same to many channels, or to the notifications of many users; the JSON is written once."""
        options = self._options
        encoded = Encoded(dump_json(data, options.max_message_bytes, options.default))
        names = channels_of(channels, users)
        return self._publishing.many(
            Outgoing(name, encoded, idempotency_key, traceparent=traceparent) for name in names
        )

    def notification(
        self,
        user: str,
        *,
        title: str,
        message: str,
        action: str | None = None,
        request_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Outgoing:
        """A notification to ``notifications/<user>``."""
        channel = channel_of_user(user)
        given = {"title": title, "message": message, "action": action, "requestId": request_id}
        data = {name: text for name, text in given.items() if text is not None}
        for name in {"title", "message"} | data.keys():
            check_text(name, given[name], empty=True)
        return Outgoing(channel, data, idempotency_key)

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
    ) -> Flow[Outgoing]:
        """A message for ``run-results/<session>``; the session is granted to ``user`` before, if one is named."""
        channel = channel_of_session(session)
        check_text("stdout", stdout, empty=True)
        check_text("stderr", stderr, empty=True)
        check_integer("exit_code", exit_code, lowest=-(2**31), highest=2**32)
        check_integer("duration", duration, lowest=0)
        data = {"stdout": stdout, "stderr": stderr, "exitCode": exit_code, "duration": duration}
        message = Outgoing(channel, data, idempotency_key)
        # Nobody is granted a session for a result that cannot be sent.
        self.accept(message)
        if user is not None:
            try:
                yield from self.grant(message.channel, user)
            except Unavailable as error:
                # Whatever became of the grant, the result has not been sent.
                raise error.told(maybe_sent=False) from error.__cause__
        return message

    # -- grants -------------------------------------------------------------------------------

    def grant(
        self, channel: str, user: Grantee, ttl: int | None = DEFAULT_GRANT_TTL_SECONDS
    ) -> Flow[None]:
        """Let ``user`` (or everybody) subscribe to ``channel`` for ``ttl`` seconds, ``None`` for ever."""
        told = {"channel": channel, "user": user, "ttl": ttl}
        return audited(self._grant(channel, user, ttl), "granted", self._options.actor, told)

    def _grant(self, channel: str, user: Grantee, ttl: int | None) -> Flow[None]:
        parsed = parse_channel(channel)
        self._check_grantee(user)
        check_ttl(ttl)
        yield from self._preflight.check_rights_of(rights.to_grant, self._keys.grant(channel))
        yield from self._preflight.check_effect(parsed, user, let_in=True)
        self._preflight.namespace(parsed.namespace)
        lifetime = "" if ttl is None else ttl * 1000
        ask_again = control.encode(control.GrantRevoked(channel, user, self._options.actor))
        keys = self._keys
        script = scripts.GRANT_SHARDED if keys.sharded else scripts.GRANT
        live = (keys.live(channel),) if keys.sharded else ()
        arguments = member_of(user), lifetime, keys.control, ask_again, keys.granted(channel), *live
        call = Call.run(script, [keys.grant(channel)], *arguments)
        yield from repeat([call], self._retries)

    def revoke(self, channel: str, user: Grantee) -> Flow[bool]:
        """Take the grant back and end the subscriptions it allowed; returns whether there was one."""
        told = {"channel": channel, "user": user}
        return audited(self._revoke(channel, user), "revoked", self._options.actor, told)

    def _revoke(self, channel: str, user: Grantee) -> Flow[bool]:
        parsed = parse_channel(channel)
        self._check_grantee(user)
        yield from self._preflight.check_rights_of(rights.to_revoke, self._keys.grant(channel))
        yield from self._preflight.check_effect(parsed, user, let_in=False)
        command = control.encode(control.GrantRevoked(channel, user, self._options.actor))
        keys = self._keys
        remove = Call(("ZREM", keys.grant(channel), member_of(user)))
        tell = [Call(("PUBLISH", keys.control, command))]
        if not keys.sharded:
            removed, _ = yield from repeat([remove, *tell], self._retries)
            return bool(removed)
        # While a slot moves, the one may be led elsewhere, and the other would come before it.
        (removed,) = yield from repeat([remove], self._retries)
        tell.append(Call((keys.publish, keys.live(channel), command)))
        try:
            yield from repeat(tell, self._retries)
        except Unavailable as error:
            raise error.told(maybe_sent=True) from error.__cause__
        return bool(removed)

    def _check_grantee(self, user: Grantee) -> None:
        check_grantee(user)
        if user == ASTERISK and not self._told_of_asterisk:
            self._told_of_asterisk = True
            # A backend that was not changed for this version would open nothing by it, and close nothing.
            log.warning(
                "asterisk_is_a_user advice=%r",
                "it is the user with this id; for all users, whom it meant up to version 0.1.0, pass EVERYBODY",
            )

    # -- reading ------------------------------------------------------------------------------

    def history(self, channel: str, since: int = 0, limit: int | None = None) -> Flow[list[Entry]]:
        """The retained messages after id ``since``, oldest first, at most ``limit``.

        They end before one that only a later version can read. One that is encrypted and cannot be opened is an
        ``InvalidData``.
        """
        namespace = parse_channel(channel).namespace
        check_integer("since", since, lowest=0)
        if limit is not None:
            check_integer("limit", limit, lowest=1)
        yield from self._preflight.refresh({namespace})
        if self._preflight.encrypts(namespace) and self._ring is None:
            raise without_keys(namespace)
        kept = self._preflight.retention(namespace)
        entries: list[Entry] = []
        while limit is None or len(entries) < limit:
            size = BATCH if limit is None else min(BATCH, limit - len(entries))
            call = read_log(self._keys, channel, "", since, size, kept)
            (page,) = yield from self._read([call])
            found = parse_log(page)
            now = self._preflight.now()
            for each in found.messages:
                expire(each, now)
            known = list(
                takewhile(lambda each: not each.extension or is_sealed(each), found.messages)
            )
            self._open(channel, filter(is_sealed, known))
            entries.extend(
                Entry(each.id, channel, orjson.loads(each.body), each.timestamp)
                for each in known
                if not each.removed
            )
            if len(known) < len(found.messages):
                log.warning(
                    "extension_unknown channel=%r id=%d", channel, found.messages[len(known)].id
                )
                break
            if found.complete:
                break
            since = found.messages[-1].id
        return entries

    def _open(self, channel: str, messages: Iterable[Message]) -> None:
        for each in messages:
            if self._ring is None:
                raise without_keys(namespace_of(channel))
            self._ring.open(channel, each)

    def connections(self, user: str) -> Flow[list[Connection]]:
        """The user's live connections on all living nodes, as :class:`Connection`."""
        check_user(user)
        calls = [
            Call.run(scripts.CONNECTIONS, [self._keys.connections(user)]),
            Call.run(scripts.LIVE_NODES, [self._keys.nodes]),
        ]
        if self._keys.sharded:
            # They are of two slots.
            (reply,) = yield from self._read(calls[:1])
            (living,) = yield from self._read(calls[1:])
        else:
            reply, living = yield from self._read(calls)
        found = []
        for member, expiry in zip(reply[::2], reply[1::2], strict=True):
            node, _, identifier = member.rpartition(b"/")
            # The place outlives a node that was killed, until somebody needs it.
            if node in living:
                found.append(Connection(node.decode(), identifier.decode(), int(float(expiry))))
        return found

    def nodes(self) -> Flow[list[Node]]:
        """All living gateways, as :class:`Node`."""
        return nodes(self._keys, self._retries)

    def drain(self, node: str) -> Flow[None]:
        """Let a living node end."""
        return drain(self._keys, self._retries, node, self._options.actor)

    def events(self, group: str, start: Start) -> EventReader:
        """One more consumer of a group's events."""
        return EventReader(self._keys, group, start, self._retries, self._clock)

    def ping(self) -> Flow[None]:
        """Ask Redis for something once, a thing that every publisher has the right to."""
        yield from once([Call(("TIME",))])


def _known(ring: KeyRing | None) -> Mapping[str, Namespace]:
    """The namespaces until the gateways' rules are known: who has keys writes nothing there that is not encrypted."""
    if ring is None:
        return DEFAULT_NAMESPACES
    return {name: replace(each, encrypted=True) for name, each in DEFAULT_NAMESPACES.items()}
