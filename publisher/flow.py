"""Calls as generators: what is to be done, without the waiting.

A :class:`Flow` yields the round trips it needs and is sent their replies, so that the blocking and
the asyncio client run the very same code.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from publisher.contract.calls import Call, Reply, Wait

_LONGEST_PAUSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A step of a flow: run these calls and send the replies back, or throw ``Unavailable`` in.

    With ``wait`` the last reply is the number of replicas that have confirmed the writes.
    """

    calls: Sequence[Call]
    wait: Wait | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """A step of a flow: let this many seconds pass."""

    seconds: float


Step = RoundTrip | Pause
T = TypeVar("T")
Flow: TypeAlias = Generator[Step, list[Reply], T]


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failed round trip is tried again, and after how long.

    ``backoff`` seconds before the first time, doubled for each after it, up to two seconds; ``random``
    (0 to 1) takes away up to half, so that many clients do not come back together.
    """

    limit: int
    random: Callable[[], float]
    backoff: float = 0.05

    def pause(self, failures: int) -> Pause:
        """The pause after so many failures in a row."""
        # Without the cap on the exponent a very large limit would overflow.
        longest = min(_LONGEST_PAUSE_SECONDS, self.backoff * 2 ** min(failures - 1, 16))
        return Pause(longest * (0.5 + self.random() / 2))
