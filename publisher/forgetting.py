"""Erases what Redis holds of a user."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import count
from typing import Final

from redis.exceptions import ResponseError

from publisher.audit import audited
from publisher.contract import control, rights, unconfirmed
from publisher.contract.calls import Call, Reply
from publisher.contract.channels import Owner, parse_channel
from publisher.contract.grants import member_of
from publisher.contract.scheduling import channel_of
from publisher.errors import InvalidChannel
from publisher.records import check_user
from publisher.retrying import again, repeat
from publisher.shared import Flows, Shared
from publisher.transport.cluster import SLOTS, slot_of
from publisher.transport.failures import meaning
from publisher.transport.flows import Flow, Owners, Pause, round_trips
from publisher.transport.redis_py import Host

_PAGE: Final = "1000"
_WRITTEN_SECONDS: Final = 1.5
"""After so long the nodes have ended the connections, and have written what was confirmed there."""
_CHANNEL_BYTES: Final = "300"
"""With so many a scheduled message begins in which its channel is."""
_GLOB: Final = re.compile(r"([\\*?\[\]])")


class Forgetting(Flows):
    """Twice does no more than once.

    Args:
        disconnect: ends a user's connections.
    """

    def __init__(
        self, shared: Shared, disconnect: Callable[[str, str, str | None], Flow[None]]
    ) -> None:
        super().__init__(shared)
        self._disconnect = disconnect

    def forget(self, user: str) -> Flow[None]:
        """Erase the user's grants, positions, own channels and revocations, and end their connections."""
        return audited(self._forget(user), "forgotten", self._options.actor, {"user": user})

    def _forget(self, user: str) -> Flow[None]:
        check_user(user)
        yield from self._preflight.refresh(set())
        hosts = yield from again(self._primaries, self._retries)
        yield from self._disconnect(user, "", None)
        for host in hosts:
            yield from self._erase_at(host, self._keys.grant, member_of(user), user)
        # Both twice: nothing is published or told meanwhile, and a node may just be looking there, or a backend be scheduling.
        yield from self._forget_unconfirmed(user)
        yield from self._cancel(set(self._own_channels(user)))
        yield Pause(_WRITTEN_SECONDS)
        for host in hosts:
            yield from self._erase_at(host, self._keys.confirmed, user, user)
        yield from self._cancel(set(self._own_channels(user)))
        yield from self._forget_unconfirmed(user)
        for key in self._own_keys(user):
            yield from repeat([Call(("EXPIRE", key, "0"))], self._retries)

    def _forget_unconfirmed(self, user: str) -> Flow[None]:
        for channel in self._own_channels(user):
            yield from repeat(unconfirmed.forget(self._keys, channel), self._retries)

    def _primaries(self) -> Flow[list[Host | None]]:
        """The servers that have keys, where they are several; each lets us do what we need there."""
        if not self._keys.sharded:
            yield from self._preflight.check_rights(rights.to_forget)
            return [None]
        hosts = dict.fromkeys((yield Owners(_key_of_each_slot())))
        for host in hosts:
            yield from self._preflight.check_rights_at(rights.to_forget, host)
        return list(hosts)

    def _erase_at(
        self, host: Host | None, of_channel: Callable[[str], str], member: str, user: str
    ) -> Flow[None]:
        """Take the user out of the grants, or the positions, of all channels that a server has."""
        cursor = b"0"
        begin = of_channel("").removesuffix("}")
        pattern = _GLOB.sub(r"\\\1", begin) + "*"
        while True:
            scan = Call(("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE))
            ((cursor, found),) = yield from self._at(host, [scan])
            removals = [Call(("ZREM", each, member)) for each in found]
            removed = yield from self._at(host, removals)
            if of_channel == self._keys.grant:
                for each, done in zip(found, removed, strict=True):
                    if done:
                        yield from self._tell(each.decode()[len(begin) : -1], user)
            if int(cursor) == 0:
                break

    def _cancel(self, channels: set[str]) -> Flow[None]:
        """Remove what is to be published later in these channels. What a node has read by now is erased with the channel."""
        keys = self._keys
        for planned in (keys.scheduled, keys.scheduled_publishing):
            cursor = b"0"
            while True:
                scan = Call(("ZSCAN", planned, cursor, "COUNT", _PAGE))
                ((cursor, found),) = yield from repeat([scan], self._retries)
                named = {each: keys.scheduled_message(each.decode()) for each in found[::2]}
                yield from self._cancel_some(planned, named, channels)
                if int(cursor) == 0:
                    break

    def _cancel_some(self, planned: str, named: dict[bytes, str], channels: set[str]) -> Flow[None]:
        """Of these scheduled messages, by their ids, remove those in ``channels``."""
        if not named:
            return
        reading = [Call(("GETRANGE", key, "0", _CHANNEL_BYTES)) for key in named.values()]
        begun = yield from repeat(reading, self._retries)
        theirs = [
            each
            for each, kept in zip(named, begun, strict=True)
            if kept and channel_of(kept) in channels
        ]
        if theirs:
            removing = [Call(("ZREM", planned, *theirs))]
            removing += [Call(("EXPIRE", named[each], "0")) for each in theirs]
            yield from repeat(removing, self._retries)

    def _tell(self, channel: str, user: str) -> Flow[None]:
        """End the subscriptions that a grant has allowed."""
        keys = self._keys
        command = control.encode(control.GrantRevoked(channel, user, self._options.actor))
        yield from repeat([Call(("PUBLISH", keys.control, command))], self._retries)
        if keys.sharded:
            yield from repeat([Call((keys.publish, keys.live(channel), command))], self._retries)

    def _at(self, host: Host | None, calls: Sequence[Call]) -> Flow[list[Reply]]:
        return again(partial(_once_at, host, calls), self._retries)

    def _own_keys(self, user: str) -> Iterator[str]:
        """What is kept of this user alone. That they were disconnected is needed for ten minutes more."""
        keys = self._keys
        yield from (keys.before(user), keys.entered(user), keys.replaced(user))
        for channel in self._own_channels(user):
            yield from (
                keys.log(channel),
                keys.removed(channel),
                keys.last(channel),
                keys.retention(channel),
            )

    def _own_channels(self, user: str) -> Iterator[str]:
        """The channels that nobody else may subscribe to, in the namespaces that are known."""
        for name, namespace in self._preflight.namespaces.items():
            if namespace.owner is Owner.USER:
                with contextlib.suppress(InvalidChannel):
                    yield parse_channel(f"{name}/{user}").name


def _once_at(host: Host | None, calls: Sequence[Call]) -> Flow[list[Reply]]:
    if not calls:
        return []
    replies = yield from round_trips(calls, at=host)
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise meaning(reply)
    return replies


@lru_cache(1)
def _key_of_each_slot() -> tuple[str, ...]:
    found: dict[int, str] = {}
    numbers = map(str, count())
    while len(found) < SLOTS:
        number = next(numbers)
        found.setdefault(slot_of(number), number)
    return tuple(found.values())
