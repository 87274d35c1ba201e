"""What Sentinel says of the primary, and what is believed of it. Without any I/O: ``primary.py`` asks.

The redis package asks with ``SENTINEL MASTERS``. There the sentinel that carries a failover out names the old primary
until every replica follows the new one, and nothing shows which of two sentinels is behind. Here a sentinel is asked
with ``GET-MASTER-ADDR-BY-NAME``, which names the new one as soon as it has been promoted, and an answer with an older
configuration epoch than one before does not count (Redis documentation, Sentinel, "Configuration epochs").
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Reply
from publisher.errors import Rejected, Unavailable
from publisher.transport.failures import code, is_unknown_command, meaning
from publisher.transport.redis_py import Connector, Host, shown

SENTINEL_SECONDS: Final = 0.5
"""So long one sentinel may take; then another one is asked."""

ASKED_AGAIN_SECONDS: Final = 0.8
"""Who writes asks a sentinel for the primary at least once a second: in a planned failover the old one goes on taking
writes for some seconds, and they are lost."""

SWITCHED: Final = "+switch-master"
"""The pub/sub channel on which a sentinel tells of another primary: ``<name> <old host> <port> <new host> <port>``."""

_LOGIN_REFUSED: Final = frozenset({"NOAUTH", "WRONGPASS"})
_DOWN: Final = frozenset({"s_down", "o_down"})


@dataclass(frozen=True)
class Sentinels:
    """The primary called ``name``, and who knows it. Can be pickled if the connectors can.

    ``servers`` makes connections whose host and port are still to be set. A sentinel that knows fewer than
    ``min_others`` others is not believed. ``host`` is in the place of each host that a sentinel names.
    """

    name: str
    sentinels: tuple[Connector, ...]
    servers: Connector
    min_others: int = 0
    host: str | None = None

    @property
    def question(self) -> list[Call]:
        """What a sentinel is asked. It answers both at once, so the answers fit together."""
        return [
            Call(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)),
            Call(("SENTINEL", "MASTER", self.name)),
        ]

    def read(self, replies: Sequence[Reply]) -> Answer:
        """The answer of a sentinel.

        Raises:
            Unavailable: it knows no primary that it can reach.
            Rejected: it does not let us ask.
        """
        address, details = replies
        if isinstance(address, ResponseError):
            raise _refusal(address)
        if address is None:
            raise Unavailable(f"it knows no primary named {self.name!r}", maybe_sent=False)
        host: Host = address[0].decode(), int(address[1])
        known = {} if isinstance(details, ResponseError) else _pairs(details)
        # While a failover goes on, the details are those of the old primary.
        told = known.get("ip", ""), int(known.get("port", 0))
        if told == host and not _DOWN.isdisjoint(known.get("flags", "").split(",")):
            raise Unavailable(f"it cannot reach the primary {shown(host)}", maybe_sent=False)
        if int(known.get("num-other-sentinels", self.min_others)) < self.min_others:
            raise Unavailable("it knows too few other sentinels", maybe_sent=False)
        epoch = known.get("config-epoch")
        return Answer((self.host or host[0], host[1]), None if epoch is None else int(epoch))


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a sentinel says that the primary is. The epoch rises with every failover; ``None`` if it is not known."""

    host: Host
    epoch: int | None


Search: TypeAlias = Generator[int, Answer, Host]
"""Yields the numbers of the sentinels to ask; is sent their answers, or thrown their ``Unavailable``."""


@dataclass(slots=True)
class Known:
    """What is known of the primary.

    Nothing here is locked: threads that learn at the same time have the same answer, or the next question mends it.

    Args:
        moved: told when the primary is another one.
    """

    sentinels: Sentinels
    clock: Callable[[], float]
    moved: Callable[[Host, Host], None]
    host: Host | None = None
    _epoch: int = -1
    _asked_at: float = field(default=float("-inf"))
    _first: int = 0

    @property
    def address(self) -> str:
        """Where the primary is, as a person reads it; its name as long as that is not known."""
        return shown(self.host) if self.host else self.sentinels.name

    @property
    def stale(self) -> bool:
        """Whether a sentinel is to be asked before anything more is written."""
        return self.clock() - self._asked_at >= ASKED_AGAIN_SECONDS

    def doubt(self) -> None:
        """The server did not behave as a primary does: ask at once, and another sentinel than before."""
        self._asked_at = float("-inf")
        self._first = (self._first + 1) % len(self.sentinels.sentinels)

    def look(self) -> Search:
        """Ask one sentinel; what it does not know stays as it was."""
        number = self._first
        # Whoever comes meanwhile goes on with what is known, unless there is a new doubt.
        self._asked_at = self.clock()
        try:
            behind = not self.learn((yield number))
        except Unavailable:
            behind = True
        if behind:
            self._first = (number + 1) % len(self.sentinels.sentinels)
        return self.host or ("", 0)

    def find(self) -> Search:
        """Ask one sentinel after the other until one knows the primary.

        Raises:
            Unavailable: none does. Those that are behind what was known are believed if they are more than half.
            Rejected: none lets us ask.
        """
        refusals: dict[int, Unavailable] = {}
        older: list[Answer] = []
        count = len(self.sentinels.sentinels)
        for number in [(self._first + each) % count for each in range(count)]:
            self._asked_at = self.clock()
            try:
                answer = yield number
            except Unavailable as error:
                refusals[number] = error
                continue
            if self.learn(answer):
                self._first = number
                return answer.host
            refusals[number] = Unavailable("it is behind what was known", maybe_sent=False)
            older.append(answer)
        if 2 * len(older) <= count:
            raise self._none(refusals)
        # Most are behind what was known: they were set up anew, and count from the beginning.
        newest = max(older, key=lambda each: each.epoch or 0)
        self._epoch = -1
        self.learn(newest)
        return newest.host

    def learn(self, answer: Answer) -> bool:
        """Take note of an answer; ``False`` if it is older than what is known."""
        if answer.epoch is not None:
            if answer.epoch < self._epoch:
                return False
            self._epoch = answer.epoch
        before, self.host = self.host, answer.host
        if before is not None and before != answer.host:
            self.moved(before, answer.host)
        return True

    def _none(self, refusals: dict[int, Unavailable]) -> Unavailable:
        """What to raise where no sentinel is believed."""
        told = "; ".join(
            f"sentinel {self.sentinels.sentinels[number].address}: {error.reason}"
            for number, error in sorted(refusals.items())
        )
        passing = any(error.retryable for error in refusals.values())
        return (Unavailable if passing else Rejected)(told, maybe_sent=False)


def _refusal(error: ResponseError) -> Unavailable:
    if is_unknown_command(error):
        return Rejected(
            "it is no sentinel: give its port, which is usually 26379, or name a single server by redis://",
            maybe_sent=False,
        )
    if code(error) in _LOGIN_REFUSED:
        return Rejected(
            "it does not accept the user name or the password (sentinel_username and sentinel_password in the URL)",
            maybe_sent=False,
        )
    return meaning(error).told(maybe_sent=False)


def _pairs(details: Any) -> dict[str, str]:
    """RESP2 lists names and values in turn."""
    texts = [each.decode(errors="replace") for each in details]
    return dict(zip(texts[::2], texts[1::2], strict=False))
