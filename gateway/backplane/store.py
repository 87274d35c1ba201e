"""What is kept in Redis for channels: positions, logs and grants; and namespaces, which are announced."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from gateway.backplane.servers import ONE, Servers
from gateway.core.access import retention_of
from gateway.core.chunks import chunks
from gateway.core.log_limit import FirstTimes
from gateway.core.timing import Backoff
from gateway.node.opener import Opener
from gateway.node.stats import Stats
from gateway.node.tasks import Sleep
from publisher.contract import calls, scripts
from publisher.contract.calls import GRANTED_FOR_EVER, Call, Reply
from publisher.contract.channels import POSITIONS_SECONDS, Namespace, Retention
from publisher.contract.grants import member_of
from publisher.contract.keys import Keys
from publisher.contract.message import LogPage
from publisher.errors import InvalidNamespace, Rejected, Unavailable
from publisher.transport.pipeline import Calls, has_failed

log = logging.getLogger(__name__)

_WRITTEN_SECONDS: Final = 0.2
_USERS_PER_CALL: Final = 500
_PRUNE_SHARE: Final = 1 / 16
_PRUNED_AT_ONCE: Final = 1_000
"""With this share of the writes, at least twice as many old positions can be removed as new ones come."""


@dataclass(slots=True, eq=False)
class _Write:
    """Positions of users in a channel, on their way."""

    channel: str
    users: tuple[tuple[str, int], ...]
    answers: tuple[asyncio.Future[Reply], ...]

    @property
    def failed(self) -> bool:
        """Whether any of its commands has come to nothing."""
        # All are looked at: asyncio complains of an error that nobody has seen.
        return True in list(map(has_failed, self.answers))

    @property
    def refusal(self) -> Rejected | None:
        """Why Redis would refuse this write every time."""
        for answer in self.answers:
            error = None if answer.cancelled() else answer.exception()
            if isinstance(error, Rejected):
                return error
        return None


class Positions:
    """Implements ``ports.Positions``: gathers, and writes a command or two a channel.

    Args:
        random: a number from 0 to 1.
        servers: what is for one that is away stays.
    """

    def __init__(
        self,
        pipeline: Calls,
        keys: Keys,
        namespaces: Mapping[str, Namespace],
        random: Callable[[], float],
        servers: Servers = ONE,
    ) -> None:
        self._random = random
        self._away = servers.away
        self._pipeline = pipeline
        self._keys = keys
        self._namespaces = namespaces
        self._gathered: dict[str, dict[str, int]] = {}
        self._writing: dict[str, dict[str, int]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._sleep = Sleep()
        # Channels whose positions Redis refuses: each is told once.
        self._refused: FirstTimes[str] = FirstTimes()

    def advance(self, channel: str, user: str, id: int) -> None:
        """Note that ``user`` has everything up to ``id``."""
        users = self._gathered.setdefault(channel, {})
        users[user] = max(id, users.get(user, 0))

    def confirmed(self, channel: str, user: str) -> int:
        """What is noted for ``user`` and not written yet."""
        return max(
            self._gathered.get(channel, {}).get(user, 0),
            self._writing.get(channel, {}).get(user, 0),
        )

    def hurry(self) -> None:
        """Write what is noted now rather than soon."""
        if self._gathered:
            self._sleep.end()

    async def run(self) -> None:
        """Write until cancelled."""
        backoff = Backoff(self._random)
        failing = False
        while True:
            await self._sleep(_WRITTEN_SECONDS)
            try:
                await self.flush()
            except Unavailable as error:
                if not failing:
                    log.warning("positions_unwritten reason=%s", error.reason)
                failing = True
                await asyncio.sleep(backoff.next())
            else:
                failing = False
                backoff.reset()

    async def flush(self) -> None:
        """Write what has gathered; what fails stays for the next time, unless Redis would always refuse it.

        Raises:
            Unavailable: Redis did not answer.
        """
        async with self._one_at_a_time:
            self._writing, self._gathered = self._gathered, {}
            try:
                await self._write_all()
            finally:
                self._writing = {}

    async def _write_all(self) -> None:
        writes: list[_Write] = []
        for channel, users in self._writing.items():
            if self._away(self._keys.confirmed(channel)):
                self._keep(channel, users.items())
            else:
                some = chunks(users.items(), _USERS_PER_CALL)
                writes += [self._begin(channel, each) for each in some]
        answers = [answer for write in writes for answer in write.answers]
        failure: Unavailable | None = None
        try:
            # One after the other, in the order of the replies: when the first is there most are, and
            # what is there is not waited for.
            for answer in answers:
                try:
                    await answer
                except Unavailable as error:
                    # What Redis refuses concerns this channel only.
                    if not isinstance(error, Rejected):
                        failure = failure or error
        finally:
            for answer in answers:
                answer.cancel()  # those that nobody waits for any more
            for write in writes:
                self._settle(write)
        if failure is not None:
            raise failure

    def _settle(self, write: _Write) -> None:
        """Take note of what became of a write."""
        if not write.failed:
            self._refused.forget(write.channel)
        elif (refusal := write.refusal) is not None:
            # The users get these messages once more; what they confirm next is tried again.
            if self._refused.admit(write.channel):
                log.warning("positions_refused channel=%s reason=%s", write.channel, refusal.reason)
        else:
            self._keep(write.channel, write.users)

    def _keep(self, channel: str, users: Iterable[tuple[str, int]]) -> None:
        """Let positions be for the next time."""
        for user, id_ in users:
            self.advance(channel, user, id_)

    def _begin(self, channel: str, users: tuple[tuple[str, int], ...]) -> _Write:
        """Begin the commands of a write; unless all succeed it is made again, which changes nothing."""
        kept = self.kept_seconds(channel)
        commands = [calls.confirm(self._keys, channel, kept, users)]
        if self._random() < max(_PRUNE_SHARE, len(users) / _USERS_PER_CALL):
            newest = max(id_ for _, id_ in users)
            # An id is the microsecond of its publish, by the clock of Redis.
            oldest = max(0, newest - kept * 1_000_000)
            prune = Call.run(
                scripts.PRUNE, [self._keys.confirmed(channel)], oldest, _PRUNED_AT_ONCE
            )
            commands.append(prune)
        return _Write(channel, users, tuple(map(self._pipeline.begin, commands)))

    def kept_seconds(self, channel: str) -> int:
        """How long what is confirmed in a channel is kept."""
        kept = self.retention(channel)
        return kept.positions_seconds if kept else POSITIONS_SECONDS

    def retention(self, channel: str) -> Retention | None:
        """What is kept of a channel's log, as far as this gateway knows: a publisher may log what it does not know."""
        return retention_of(channel, self._namespaces)


class LogReader:
    """Implements ``ports.Log``."""

    def __init__(
        self, pipeline: Calls, keys: Keys, positions: Positions, opener: Opener, stats: Stats
    ) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._positions = positions
        self._opener = opener
        self._stats = stats

    async def read(self, channel: str, user: str, since: int | None, limit: int) -> LogPage:
        """At most ``limit`` messages after ``since``, or after what ``user`` has confirmed."""
        # Taken now: what is confirmed while the page is on its way is not missing from it.
        unwritten = 0 if since is not None else self._positions.confirmed(channel, user)
        kept = self._positions.retention(channel)
        call = calls.read_log(self._keys, channel, user, since, limit, kept)
        page = calls.parse_log(await self._pipeline.call(call))
        self._opener.open_page(channel, page.messages)
        if unwritten and unwritten > page.position:
            page = page._replace(position=unwritten)
        if page.unreadable:
            self._stats.messages_invalid += page.unreadable
            log.warning("log_unreadable channel=%s entries=%d", channel, page.unreadable)
        return page

    async def raise_last(self, channel: str, position: int) -> None:
        """Let the ids of new messages be above ``position``, which Redis has lost."""
        kept = self._positions.kept_seconds(channel)
        await self._pipeline.call(calls.raise_last(self._keys, channel, position, kept))


class GrantReader:
    """Implements ``ports.Grants``.

    A key with a random value marks the data in Redis. A value that is gone, or another one, means that the
    data were lost.

    Args:
        servers: one that is away is not asked.
    """

    def __init__(
        self,
        pipeline: Calls,
        keys: Keys,
        stats: Stats,
        servers: Servers = ONE,
    ) -> None:
        self._servers = servers
        self._pipeline = pipeline
        self._keys = keys
        self._stats = stats
        self._marker: str | None = None

    async def remaining(self, channel: str, user: str) -> float:
        """Seconds for which ``user``, or everybody, still holds a grant; 0 for none, ``inf`` for ever."""
        key = self._keys.grant(channel)
        if self._servers.away(key):
            raise Unavailable("the server of the channel's grants is away", maybe_sent=False)
        call = Call.run(scripts.GRANTED, [key], member_of(user))
        milliseconds = await self._pipeline.call(call)
        return math.inf if milliseconds == GRANTED_FOR_EVER else milliseconds / 1000

    def server_of(self, channel: str) -> str:
        """The server that has the channel's grants."""
        return self._servers.of(self._keys.grant(channel))

    async def lost(self) -> bool:
        """Whether Redis has lost its data since this was asked last; while the mark is away nothing says so."""
        if self._servers.away(self._keys.marker):
            return False
        new = secrets.token_hex(8)  # never one that was there before
        found = await self._pipeline.call(Call(("SET", self._keys.marker, new, "NX", "GET")))
        before, self._marker = self._marker, new if found is None else found.decode()
        lost = before is not None and before != self._marker
        if lost:
            self._stats.redis_data_losses += 1
            log.warning("redis_data_lost")
        return lost


_ANNOUNCED_SECONDS: Final = 60.0
_FORGOTTEN_SECONDS: Final = 300
"""A namespace that no node has announced for so long is removed, so that publishers forget it."""

_TIME: Final = re.compile(rb',?"announced":[0-9]+}$')
"""What the script adds to the rules."""


def as_text(namespace: Namespace) -> bytes:
    """Rules as they are announced."""
    return orjson.dumps(namespace.to_dict())


def as_announced(name: str, rules: bytes) -> bytes:
    """Rules that were announced, in the way in which this version writes them; as they are where it cannot read them."""
    text = _TIME.sub(b"}", rules)
    try:
        found = orjson.loads(text)
        return as_text(Namespace.from_dict(name, found)) if isinstance(found, dict) else text
    except (orjson.JSONDecodeError, InvalidNamespace):
        return text


class Announcing:
    """Tells the publishers which namespaces there are, and how long a token may live, again and again: Redis may lose its data.

    Where something else announces other rules for a namespace meanwhile, the log tells of it, of each once.

    Args:
        longest: seconds that a token may live; ``None`` for any number.
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        pipeline: Calls,
        keys: Keys,
        namespaces: Mapping[str, Namespace],
        longest: float | None,
        jitter: Callable[[], float],
    ) -> None:
        self._pipeline = pipeline
        self._namespaces = namespaces
        self._told: FirstTimes[tuple[str, bytes]] = FirstTimes()
        rules = (part for name, each in namespaces.items() for part in (name, as_text(each)))
        lifetime = "" if longest is None else repr(longest)
        self._calls = (
            Call.run(scripts.ANNOUNCE, [keys.namespaces], _FORGOTTEN_SECONDS, *rules),
            Call.run(scripts.ANNOUNCE, [keys.lifetimes], _FORGOTTEN_SECONDS, lifetime, "{}"),
        )
        self._backoff = Backoff(jitter)
        self._sleep = Sleep()

    def at_once(self) -> None:
        """Write without waiting for the end of the interval."""
        self._sleep.end()

    async def run(self) -> None:
        """Write until cancelled."""
        first = True
        while True:
            try:
                differing, _ = await asyncio.gather(*map(self._pipeline.begin, self._calls))
            except Rejected:
                await self._sleep(_ANNOUNCED_SECONDS)  # the pipeline has logged it
            except Unavailable:
                await self._sleep(self._backoff.next())
            else:
                if not first:  # before, it may have been this node with its former settings
                    self._tell_of(differing)
                first = False
                self._backoff.reset()
                await self._sleep(_ANNOUNCED_SECONDS)

    def _tell_of(self, differing: list[bytes]) -> None:
        for name, rules in zip(map(bytes.decode, differing[::2]), differing[1::2], strict=True):
            own = as_text(self._namespaces[name])
            announced = as_announced(name, rules)
            # The script compares texts, and another version may write the same in another way.
            if announced != own and self._told.admit((name, announced)):
                log.warning(
                    "namespace_differs name=%s own=%s announced=%s advice=%r",
                    name,
                    own.decode(),
                    announced.decode("utf-8", "backslashreplace"),
                    "publishers go by whichever was announced last, or by one that encrypts: give all gateways the same GATEWAY_NAMESPACES",
                )
