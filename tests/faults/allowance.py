"""What a scenario may do that others may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Allowance:
    """What a scenario's faults excuse.

    ``losses``: Redis lost its data, so messages may be gone, if that is reported, and a publish that
    was tried again may have made a second copy. ``repeat_seconds``: what arrived so long before a
    break may not have been confirmed. ``limit_seconds``: a client may learn of its end so much later
    than the node that has given its place to another. ``evictions``: a node was away for so long that
    its users' places went to others, and has to close what is too many. ``turn_seconds``: nodes may turn
    unready or ready so much later than promised, where other tests use the machine at the same time.
    ``apart``: commands to all nodes come over another connection than messages, so a node that was frozen may deliver what it
    reads first before it hears that a connection has ended.
    """

    losses: bool = False
    repeat_seconds: float = 5.0
    limit_seconds: float = 0.5
    evictions: bool = False
    turn_seconds: float = 1.5
    apart: bool = False


STRICT: Final = Allowance()
