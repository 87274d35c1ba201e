"""Messages that are published later, by the gateways."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b

from publisher.contract import rights, scripts
from publisher.contract.calls import Call
from publisher.contract.scheduling import channel_of, is_id
from publisher.errors import InvalidData
from publisher.publication import Publication
from publisher.records import Outgoing, Scheduled, seconds_since_1970
from publisher.shared import Flows, Shared
from publisher.tracing import spanning
from publisher.transport.flows import Flow

_KNOWN_SECONDS = 60
"""How long a cancelled message is still known. A try of its schedule that has been on the way for longer is not."""
_OWN_KEY = "scheduled "
"""With it and the id begins and ends the idempotency key of a message that was given none."""


def is_own_key(key: str | None) -> bool:
    """Whether a message was scheduled under this idempotency key because it was given none."""
    return key is not None and key.startswith(_OWN_KEY) and is_id(key.removeprefix(_OWN_KEY))


class Scheduling(Flows):
    """Twice does no more than once.

    Args:
        accept: makes a message ready to be sent; raises what is wrong with it.
    """

    def __init__(self, shared: Shared, accept: Callable[[Outgoing], Publication]) -> None:
        super().__init__(shared)
        self._accept = accept

    def schedule(self, message: Outgoing, at: datetime | float) -> Flow[Scheduled]:
        """Keep a message until ``at``, when a gateway publishes it."""
        moment = int(seconds_since_1970("at", at) * 1000)
        identifier = _identifier(message)
        if message.idempotency_key is None:
            message = replace(message, idempotency_key=_OWN_KEY + identifier)
        publication = self._accept(message)
        with spanning("schedule", publication.namespace, message.traceparent) as trace:
            publication.belong_to(trace)
            return (yield from self._schedule(publication, identifier, moment))

    def _schedule(self, publication: Publication, identifier: str, moment: int) -> Flow[Scheduled]:
        name = publication.namespace
        yield from self._preflight.refresh({name})
        namespace = self._preflight.namespace(name)
        if namespace.retention is None:
            raise InvalidData(f"at needs a log, and namespace {name!r} keeps none")
        publication.follow(namespace, self._options.ring)
        keys = self._keys
        yield from self._preflight.check_rights_of(rights.to_schedule, keys.scheduled)
        call = Call.run(
            scripts.SCHEDULE,
            [keys.scheduled_message(identifier), keys.scheduled, keys.scheduled_publishing],
            identifier,
            str(moment),
            publication.planned().encode(),
        )
        written = yield from self._write(call, publication.min_replicas)
        return Scheduled(identifier, publication.channel, int(written) / 1000)

    def cancel(self, scheduled: Scheduled | str) -> Flow[bool]:
        """Take a message back that waits; returns whether it did."""
        identifier = scheduled.id if isinstance(scheduled, Scheduled) else scheduled
        _check_id(identifier)
        keys = self._keys
        yield from self._preflight.check_rights_of(rights.to_schedule, keys.scheduled)
        names = [keys.scheduled_message(identifier), keys.scheduled]
        call = Call.run(scripts.CANCEL, names, identifier, _KNOWN_SECONDS)
        return bool((yield from self._write(call)))

    def scheduled(self, identifier: str) -> Flow[Scheduled | None]:
        """What waits under an id."""
        _check_id(identifier)
        keys = self._keys
        kept, moment = yield from self._read(
            [
                Call(("GET", keys.scheduled_message(identifier))),
                Call(("ZSCORE", keys.scheduled, identifier)),
            ]
        )
        # It may have been taken between the two.
        if kept is None or moment is None:
            return None
        return Scheduled(identifier, channel_of(kept), float(moment) / 1000)


def _check_id(identifier: object) -> None:
    if not (isinstance(identifier, str) and is_id(identifier)):
        raise InvalidData(
            "this is no id of a scheduled message, which has 32 hexadecimal digits (0-9, a-f)"
        )


def _identifier(message: Outgoing) -> str:
    """One that nothing else has; the same for the same idempotency key of a channel."""
    if not isinstance(message.idempotency_key, str):
        return secrets.token_hex(16)
    named = repr((message.channel, message.idempotency_key))
    return blake2b(named.encode(), digest_size=16).hexdigest()
