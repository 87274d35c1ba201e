"""The keys that an issuer publishes, kept up to date: PyJWT's own client reads bodies of any size, blocks the event loop, and
asks once for each token whose key it does not know while the server is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from gateway.node.ports import Clock
from gateway.node.stats import Stats
from gateway.node.tasks import Sleep
from gateway.web.decoding import Decoder, Demands
from gateway.web.key_fetching import Fetch, Fetched, NoKeys
from gateway.web.key_places import Place
from gateway.web.keys import Key
from gateway.web.published_keys import PublishedKey, read_set

log = logging.getLogger(__name__)

_MOST_BYTES: Final = 256 * 1_024
_USUAL_SECONDS: Final = 300.0
_SHORTEST_SECONDS: Final = 60.0
_LONGEST_SECONDS: Final = 3_600.0
"""A set is asked for again after this time, or after as long as its server says, within these bounds."""
_FIRST_RETRY_SECONDS: Final = 5.0
_LONGEST_RETRY_SECONDS: Final = 60.0
_DOUBTFUL_FAILURES: Final = 3
_TOLD_SECONDS: Final = 60.0
"""So often it is told that there are no newer keys."""

_HURRY_SECONDS: Final = 10.0
"""So often keys that are not known make the set be asked for, whatever comes of it: anybody can name a key."""
_PATIENCE_SECONDS: Final = 5.0
_AT_ONCE: Final = 100
"""So many of those who wait go on in one turn of the event loop. How many wait is bounded by how many strangers, and
subscriptions of clients, there may be: a bound here would let some of them keep the others from waiting.
"""


@dataclass(frozen=True, slots=True)
class _Known:
    kid: str | None
    decoder: Decoder


class RemoteKeys:
    """One issuer's set of keys. The last good one is kept for as long as there is no newer one.

    Args:
        place: where it is.
        fetch: how it is had.
        algorithms: those to accept.
        demands: what tokens have to say.
        stats: counts the attempts.
        clock: monotonic, in seconds.
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        place: Place,
        fetch: Fetch,
        algorithms: Sequence[str],
        demands: Demands,
        stats: Stats,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self.algorithms = tuple(algorithms)
        self.demands = demands
        self.changed: Callable[[], None] = lambda: None
        self._place = place
        self._fetch = fetch
        self._stats = stats
        self._clock = clock
        self._jitter = jitter
        self._set: list[PublishedKey] = []
        self._known: list[_Known] = []
        self._made_at = clock()
        self._loaded_at: float | None = None
        self._began_at = -math.inf
        self._is_attempting = False
        self._failures = 0
        self._told_at = -math.inf
        self._sleep = Sleep()
        self._hurried = False
        # For the end of the attempt that is next, or under way; in the order in which they came.
        self._waiting: dict[asyncio.Future[None], None] = {}

    @property
    def host(self) -> str:
        """Who publishes the keys."""
        return self._place.host

    @property
    def loaded(self) -> bool:
        """Whether there was ever a set."""
        return self._loaded_at is not None

    @property
    def attempted(self) -> bool:
        """Whether a set was asked for, and came or did not."""
        return self.loaded or self._failures > 0

    @property
    def age(self) -> float:
        """Seconds since the set was had; while there is none, since the start."""
        return self._clock() - (self._made_at if self._loaded_at is None else self._loaded_at)

    def decoder(self, kid: str | None, algorithm: str) -> Decoder | None:
        """What reads tokens with these headers; ``None`` while no key fits. Without a ``kid`` one key must fit alone."""
        fitting = [
            each.decoder
            for each in self._known
            if algorithm in each.decoder.algorithms and kid in (None, each.kid)
        ]
        if not fitting or (kid is None and len(fitting) > 1):
            return None
        return fitting[0]

    def may_have(self, kid: str | None) -> bool:
        """Whether a newer set may have a key for tokens that none of this one's is for."""
        return kid is not None or not self.loaded

    async def learn(self) -> None:
        """Wait for a newer set, some seconds at most. All who wait share one request."""
        if not self._hurry():
            return
        attempted = asyncio.get_running_loop().create_future()
        self._waiting[attempted] = None
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await attempted
        finally:
            self._waiting.pop(attempted, None)

    def _hurry(self) -> bool:
        """Let the next attempt be soon; ``False`` where it may not be."""
        if self._is_attempting:
            return True
        if self._began_at + _HURRY_SECONDS - self._clock() > _PATIENCE_SECONDS:
            return False
        self._hurried = True
        self._sleep.end()
        return True

    # -- keeping up to date -------------------------------------------------------------------

    async def run(self) -> None:
        """Ask for the set again and again until cancelled."""
        while True:
            await self._rest(await self._attempt())

    async def look(self) -> list[PublishedKey]:
        """The set as it is now.

        Raises:
            NoKeys: it could not be had.
        """
        return read_set((await self._ask()).body)[0]

    async def _ask(self) -> Fetched:
        return await self._fetch(await self._place.url(), _MOST_BYTES)

    async def _attempt(self) -> float:
        """Ask for the set once; returns after how many seconds it is to be asked for again."""
        self._began_at = self._clock()
        self._is_attempting = True
        try:
            fetched = await self._ask()
            keys, unusable = read_set(fetched.body)
        except NoKeys as error:
            return self._failed(error)
        else:
            self._succeeded(keys, unusable)
            seconds = _USUAL_SECONDS if fetched.max_age is None else fetched.max_age
            return self._spread(min(max(seconds, _SHORTEST_SECONDS), _LONGEST_SECONDS))
        finally:
            self._is_attempting = False
            waiting, self._waiting = self._waiting, {}
            self._wake(iter(waiting))

    def _wake(self, waiting: Iterator[asyncio.Future[None]]) -> None:
        """Let some of them go on, and the others in the turns that follow."""
        some = list(islice(waiting, _AT_ONCE))
        for each in some:
            if not each.done():  # else its client is gone, or has waited for long enough
                each.set_result(None)
        if some:
            asyncio.get_running_loop().call_soon(self._wake, waiting)

    def _succeeded(self, keys: list[PublishedKey], unusable: int) -> None:
        self._stats.jwks_refreshes["loaded"] += 1
        self._failures = 0
        self._loaded_at = self._clock()
        if keys == self._set:
            return
        self._set = keys
        self._known = [
            _Known(each.kid, Decoder(key, self.demands))
            for each in keys
            if (key := self._accepted(each.key)).algorithms
        ]
        log.info("jwks_loaded url_host=%s keys=%d unusable=%d", self.host, len(keys), unusable)
        self.changed()

    def _accepted(self, key: Key) -> Key:
        return Key(key.material, tuple(each for each in key.algorithms if each in self.algorithms))

    def _failed(self, error: NoKeys) -> float:
        self._stats.jwks_refreshes["failed"] += 1
        self._failures += 1
        if self._failures % _DOUBTFUL_FAILURES == 0:
            self._place.doubt()
        now = self._clock()
        if self._failures == 1 or now - self._told_at >= _TOLD_SECONDS:
            self._told_at = now
            age = f"{self.age:.0f}" if self.loaded else None
            log.warning("jwks_unreachable url_host=%s age=%s reason=%r", self.host, age, str(error))
        pause = _FIRST_RETRY_SECONDS * 2.0 ** min(self._failures - 1, 10)
        return self._spread(min(pause, _LONGEST_RETRY_SECONDS))

    def _spread(self, seconds: float) -> float:
        """A tenth more or less: not all nodes ask at the same time."""
        return seconds * (0.9 + self._jitter() / 5)

    async def _rest(self, seconds: float) -> None:
        """Wait until the next attempt is due, which somebody may be in a hurry for."""
        due = self._clock() + seconds
        while True:
            if self._hurried:
                due = min(due, self._began_at + _HURRY_SECONDS)
            left = due - self._clock()
            if left <= 0:
                break
            await self._sleep(left)
        self._hurried = False
