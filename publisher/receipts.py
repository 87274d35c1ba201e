"""Who has received a message, apart from the waiting (``retrying.py``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from publisher.contract import rights
from publisher.contract.calls import Call
from publisher.contract.channels import Owner, parse_channel
from publisher.contract.keys import Keys
from publisher.errors import InvalidData, Unavailable
from publisher.preflight import Preflight
from publisher.records import Published, Receipt, check_integer, check_wait_confirmed
from publisher.retrying import Retries, once, read
from publisher.transport.flows import Flow, Pause

_PAGE: Final = "1000"
"""So many positions are asked for at a time: Redis serves nobody else meanwhile."""

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 0.8


class Receipts:
    """Builds the flows, which change nothing.

    Args:
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self, keys: Keys, preflight: Preflight, retries: Retries, clock: Callable[[], float]
    ) -> None:
        self._keys = keys
        self._preflight = preflight
        self._retries = retries
        self._clock = clock

    def receipts(self, channel: str, identifier: int) -> Flow[list[Receipt]]:
        """The users who have confirmed the message with this id, or a later one."""
        parse_channel(channel)
        check_integer("id", identifier, lowest=1)
        # Not a range of scores: while it is read in parts, those who confirm would move out of the next part.
        found: dict[bytes, float] = {}
        cursor = b"0"
        while True:
            call = Call(("ZSCAN", self._keys.confirmed(channel), cursor, "COUNT", _PAGE))
            ((cursor, pairs),) = yield from read([call], self._retries)
            found.update(zip(pairs[::2], map(float, pairs[1::2]), strict=True))
            if int(cursor) == 0:
                break
        return sorted(
            (Receipt(user.decode(), int(at)) for user, at in found.items() if at >= identifier),
            key=lambda each: (each.up_to, each.user),
        )

    def check(self, channel: str, seconds: object) -> Flow[None]:
        """Before the publish: whether :meth:`confirmed` can be done at all, so that it does not fail when the message is out.

        Raises:
            InvalidData: ``seconds`` cannot be waited for, or the namespace keeps no log.
            Rejected: an ACL forbids it.
        """
        check_wait_confirmed(seconds)
        name = parse_channel(channel).namespace
        yield from self._preflight.refresh({name})
        if self._preflight.namespace(name).retention is None:
            raise InvalidData(f"wait_confirmed needs a log, and namespace {name!r} keeps none")
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
                if (yield from self._is_confirmed(channel, identifier)):
                    found = yield from self.receipts(channel, identifier)
                    return tuple(each.user for each in found)
            except Unavailable as error:
                self._retries.tell(error)
            left = until - self._clock()
            if left <= 0:
                return ()
            yield Pause(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _is_confirmed(self, channel: str, identifier: int) -> Flow[bool]:
        parsed = parse_channel(channel)
        key = self._keys.confirmed(channel)
        if self._preflight.namespace(parsed.namespace).owner is Owner.USER:
            (position,) = yield from once([Call(("ZSCORE", key, parsed.id))])
            return position is not None and float(position) >= identifier
        ask = Call(("ZRANGEBYSCORE", key, str(identifier), "+inf", "LIMIT", "0", "1"))
        (found,) = yield from once([ask])
        return bool(found)
