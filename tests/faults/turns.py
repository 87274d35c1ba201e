"""How soon nodes turn unready when Redis is cut off from them, and ready when it is back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.faults.trace import Occurrence, Readiness, Trace

UNREADY_SECONDS: Final = 3.0
READY_SECONDS: Final = 3.0
_LOOKED_AFTERWARDS_SECONDS: Final = 10.0

# Those that leave a node without a Redis that serves it, for as long as they last.
CUTTING: Final = frozenset(
    {
        "redis_killed",
        "primary_killed",
        "primary_hangs",
        "redis_hangs",
        "redis_is_paused",
        "redis_is_out_of_memory",
        "redis_becomes_a_replica",
        "redis_lacks_replicas",
        "redis_is_busy_with_a_script",
        "redis_is_full_of_clients",
        "redis_refuses_a_node",
        "our_bytes_vanish",
        "their_bytes_vanish",
        "redis_accepts_and_never_answers",
        "redis_resets_while_opening",
    }
)


@dataclass
class Turns:
    """Seconds, by fault, of each node that nothing else was done to at that time."""

    unready: dict[str, list[float]] = field(default_factory=dict)
    ready: dict[str, list[float]] = field(default_factory=dict)


def turns(trace: Trace) -> Turns:
    """Measure every fault."""
    found = Turns()
    for fault in trace.occurrences:
        for node in fault.nodes:
            if _is_disturbed(trace, fault, node):
                continue
            samples = [each for each in trace.readiness if each.node == node]
            if fault.name in CUTTING:
                seconds = _until_unready(fault, samples)
                if seconds is not None:
                    found.unready.setdefault(fault.name, []).append(seconds)
            found.ready.setdefault(fault.name, []).append(_until_ready(trace, fault, node, samples))
    return found


def late(trace: Trace, allowed: float) -> Iterator[str]:
    """Each turn that took too long, by more than ``allowed`` seconds."""
    found = turns(trace)
    for name, times in found.unready.items():
        for seconds in times:
            if seconds > UNREADY_SECONDS + allowed:
                yield f"late: unready {seconds:.1f} s after {name} began"
    for name, times in found.ready.items():
        for seconds in times:
            if seconds > READY_SECONDS + allowed:
                yield f"late: ready {seconds:.1f} s after {name} was over"


def _is_disturbed(trace: Trace, fault: Occurrence, node: int) -> bool:
    """Whether something else was done to the node a moment before, or during the fault."""
    return any(
        node in other.nodes
        and other is not fault
        and other.begun_at < fault.ended_at
        and min(other.recovered_at, other.ended_at + _LOOKED_AFTERWARDS_SECONDS) > fault.begun_at
        for other in trace.occurrences
    )


def _until_unready(fault: Occurrence, samples: list[Readiness]) -> float | None:
    """Seconds, at least; ``None`` when the fault was over before the node had to notice."""
    still = 0.0
    for each in samples:
        if fault.begun_at <= each.asked_at and each.answered_at <= fault.ended_at:
            if not each.ready:
                return still
            still = each.asked_at - fault.begun_at
    return still if still > UNREADY_SECONDS else None


def _until_ready(trace: Trace, fault: Occurrence, node: int, samples: list[Readiness]) -> float:
    """Seconds, at least: from the end to the last time that the node said it was not ready."""
    next_ones = (
        each.begun_at
        for each in trace.occurrences
        if node in each.nodes and each.begun_at >= fault.ended_at
    )
    until = min(fault.ended_at + _LOOKED_AFTERWARDS_SECONDS, *next_ones, trace.ended_at)
    unready = [
        each.asked_at
        for each in samples
        if not each.ready and fault.ended_at <= each.asked_at and each.answered_at <= until
    ]
    return max(unready, default=fault.ended_at) - fault.ended_at
