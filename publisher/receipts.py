"""Who has received a message."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from publisher.contract import rights
from publisher.contract.calls import Call, read_receipts
from publisher.contract.channels import Namespace, Owner, parse_channel
from publisher.errors import InvalidData, Unavailable
from publisher.records import (
    Published,
    Receipt,
    check_integer,
    check_name,
    check_wait_confirmed,
)
from publisher.retrying import once
from publisher.shared import Flows, Shared
from publisher.transport.flows import Flow, Pause

_PAGE: Final = 1_000
"""So many positions are asked for at a time: Redis serves nobody else meanwhile. ``Published`` names so many users."""

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 0.8


class Receipts(Flows):
    """Its flows change nothing."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._clock = shared.clock

    def receipts(
        self, channel: str, identifier: int, after: str = "", limit: int | None = None
    ) -> Flow[list[Receipt]]:
        """The users who have confirmed the message with this id, or a later one, by ``up_to`` and then by user.

        It goes on from ``after``: of those who stand at this id only who comes after that user.
        """
        name = parse_channel(channel).namespace
        if after != "":
            check_name("after", after)
        if limit is not None:
            check_integer("limit", limit, lowest=1)
        yield from self._preflight.refresh({name})
        rules = self._preflight.namespaces.get(name)
        if rules is not None:  # a namespace may be forgotten while no gateway runs
            _check_log(rules, "receipts need a log")
        check_integer("id", identifier, lowest=1)
        # Whoever confirms something meanwhile moves to a later part, and may so be found twice.
        found: dict[str, Receipt] = {}
        while limit is None or len(found) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            call = read_receipts(self._keys, channel, identifier, after, size)
            (reply,) = yield from self._read([call])
            for user, position in zip(reply[::2], reply[1::2], strict=True):
                after, identifier = user.decode(), int(position)
                found[after] = Receipt(after, identifier)
            if len(reply) < 2 * size:
                break
        return sorted(found.values(), key=lambda each: (each.up_to, each.user))

    def check(self, channel: str, seconds: object) -> Flow[None]:
        """Before the publish: whether :meth:`confirmed` can be done at all, so that it does not fail when the message is out.

        Raises:
            InvalidData: ``seconds`` cannot be waited for, or the namespace keeps no log.
            Rejected: an ACL forbids it.
        """
        check_wait_confirmed(seconds)
        name = parse_channel(channel).namespace
        yield from self._preflight.refresh({name})
        _check_log(self._preflight.namespace(name), "wait_confirmed needs a log")
        key = self._keys.confirmed(channel)
        yield from self._preflight.check_rights_of(rights.to_await, key)

    def confirmed(self, published: Published, seconds: float) -> Flow[Published]:
        """Wait until somebody has confirmed what was published; who has by then is noted in it."""
        users = yield from self._wait(published.channel, published.id, seconds)
        return replace(published, confirmed=users)

    def _wait(self, channel: str, identifier: int, seconds: float) -> Flow[tuple[str, ...]]:
        """Wait until somebody has confirmed a message, in an owner's channel the owner; returns who has by then.

        Whatever fails meanwhile: the message is out, so nothing is raised.
        """
        until = self._clock() + seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                users = yield from self._confirmed_by(channel, identifier)
                if users:
                    return users
            except Unavailable as error:
                self._retries.tell(error)
            left = until - self._clock()
            if left <= 0:
                return ()
            yield Pause(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _confirmed_by(self, channel: str, identifier: int) -> Flow[tuple[str, ...]]:
        """Up to so many users as a page has; nobody before the owner, where there is one."""
        parsed = parse_channel(channel)
        key = self._keys.confirmed(channel)
        first = ("ZRANGEBYSCORE", key, str(identifier), "+inf", "LIMIT", "0", str(_PAGE))
        rules = self._preflight.namespaces.get(parsed.namespace)
        if rules is None or rules.owner is not Owner.USER:
            (found,) = yield from once([Call(first)])
            return tuple(each.decode() for each in found)
        position, found = yield from once([Call(("ZSCORE", key, parsed.id)), Call(first)])
        if position is None or float(position) < identifier:
            return ()
        others = (each.decode() for each in found)
        return parsed.id, *(each for each in others if each != parsed.id)


def _check_log(rules: Namespace, why: str) -> None:
    if rules.retention is None:
        raise InvalidData(f"{why}, and namespace {rules.name!r} keeps none")
