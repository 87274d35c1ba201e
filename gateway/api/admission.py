"""How much the HTTP API takes on at a time: requests, those that wait for somebody who confirms, and the bytes that they hold."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from gateway.api.problems import Problem

MOST_REQUESTS: Final = 1_000
"""From the head on, until the answer is sent."""
MOST_WAITING: Final = 1_000
"""Requests that wait for somebody to confirm. They are counted apart, since they may take a minute each."""
MOST_WATCHES: Final = 40
"""Requests that watch, until their callers go away. Each may keep megabytes of what happens."""
MOST_BYTES: Final = 64 * 1024 * 1024
"""Of bodies, as far as they have come, and of answers until they are sent. As Python's objects they take many times as much."""


class Admission:
    """What is under way, and whether there is room for more."""

    def __init__(self) -> None:
        self.requests = _Room(MOST_REQUESTS, "too many requests are under way")
        self.waiting = _Room(MOST_WAITING, "too many requests wait for somebody who confirms")
        self.watches = _Room(MOST_WATCHES, "as many watch as may")
        self.bytes = _Room(MOST_BYTES, "the requests under way hold too many bytes")

    def admit(self, key: str) -> Admitted:
        """Let a request of the key with this name begin.

        Raises:
            Problem: there is no room for it.
        """
        return Admitted(self, key)

    def busy(self, key: str) -> bool:
        """Whether requests of this key are under way."""
        return any(key in each.taken for each in (self.requests, self.waiting, self.watches))


class _Room:
    """Something of which there is so much, for all keys together.

    A key may take as much as it leaves free: half where it is alone. So a backend that goes wrong leaves room for the
    next, and so do several (dynamic thresholds, as switches share their buffers: Choudhury and Hahne, 1998).

    Args:
        refusal: what is said where there is no more.
    """

    __slots__ = ("_free", "_refusal", "taken")

    def __init__(self, most: int, refusal: str) -> None:
        self._free = most
        self._refusal = refusal
        self.taken: dict[str, int] = {}

    def take(self, key: str, amount: int) -> None:
        """Take some.

        Raises:
            Problem: there is too little.
        """
        taken, free = self.taken.get(key, 0) + amount, self._free - amount
        if taken > free:
            again = {str(hdrs.RETRY_AFTER): "1"}
            raise Problem(503, "busy", self._refusal, again, maybe_sent=False, retryable=True)
        self.taken[key], self._free = taken, free

    def change(self, key: str, amount: int) -> None:
        """Take some, whether it is there or not, or give some back."""
        self._free -= amount
        taken = self.taken.get(key, 0) + amount
        if taken:
            self.taken[key] = taken
        else:
            self.taken.pop(key, None)


class Admitted:
    """A request that is under way, and what it takes."""

    __slots__ = ("_admission", "_bytes", "_key", "_place")

    def __init__(self, admission: Admission, key: str) -> None:
        admission.requests.take(key, 1)
        self._admission = admission
        self._key = key
        self._place = admission.requests
        self._bytes = 0

    def hold(self, size: int) -> None:
        """It holds so many bytes more.

        Raises:
            Problem: there is no room for them.
        """
        if size:
            self._admission.bytes.take(self._key, size)
            self._bytes += size

    def change(self, size: int) -> None:
        """It holds so many bytes more, or less, and cannot be refused: what it has done must be told."""
        self._admission.bytes.change(self._key, size)
        self._bytes += size

    def answer(self, size: int, *, refusable: bool) -> None:
        """It holds no more than an answer of this size from now on. What was larger counts until it ends, which is soon.

        Raises:
            Problem: it is refusable, and there is no room for it.
        """
        more = size - self._bytes
        if more > 0:
            (self.hold if refusable else self.change)(more)

    def wait(self) -> None:
        """It waits for somebody who confirms from now on, and leaves its place to others.

        Raises:
            Problem: too many wait.
        """
        self._move(self._admission.waiting)

    def watch(self) -> None:
        """It watches from now on, and leaves its place to others.

        Raises:
            Problem: too many watch.
        """
        self._move(self._admission.watches)

    def _move(self, place: _Room) -> None:
        place.take(self._key, 1)
        self._place.change(self._key, -1)
        self._place = place

    def end(self) -> None:
        """It has ended: nothing of it is kept."""
        if self._bytes:
            self.change(-self._bytes)
        self._place.change(self._key, -1)


ADMITTED: Final = web.RequestKey("admitted", Admitted)
"""Where a request that is answered has it, until the answer is sent."""
