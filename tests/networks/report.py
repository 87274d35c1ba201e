"""The figures of a run, as lines and as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tests.networks.clients import Clients
from tests.networks.scenarios import Scenario
from tests.networks.stage import PATIENCE_SECONDS, Stage


@dataclass(frozen=True)
class Figures:
    """What one scenario cost the clients of one kind. ``seconds``: each client's; ``bytes`` and ``wakeups`` of all."""

    told: str
    kind: str
    seconds: Sequence[float]
    bytes: int
    wakeups: int
    repeated: int
    users: int

    @classmethod
    def of(
        cls, scenario: Scenario, stage: Stage, clients: Clients, seconds: Sequence[float]
    ) -> Self:
        """As they stand now."""
        traffic = stage.traffic(clients.kind)
        repeated = stage.repeated(clients)
        users = len(clients.users)
        return cls(
            scenario.told,
            clients.kind,
            sorted(seconds),
            traffic.bytes,
            traffic.wakeups,
            repeated,
            users,
        )

    def _share(self, share: float) -> str:
        if not self.seconds:
            return "-"
        found = self.seconds[min(int(share * len(self.seconds)), len(self.seconds) - 1)]
        return f"more than {PATIENCE_SECONDS}" if found == math.inf else f"{found:.1f}"

    def line(self) -> str:
        """For the terminal."""
        return (
            f"{self.told}; {self.kind}: p50 {self._share(0.5)} s, p99 {self._share(0.99)} s of {len(self.seconds)}; "
            f"{self.bytes / self.users:.0f} bytes a client, {self.wakeups} wakeups, {self.repeated} repeated so far"
        )

    def cells(self) -> tuple[str, ...]:
        """For a row of the table."""
        return (self.kind, self._share(0.5), self._share(0.99), f"{self.bytes / self.users:,.0f}")


def table(figures: Sequence[Figures]) -> str:
    """All of a run, in Markdown."""
    lines = ["| network | client | p50, s | p99, s | bytes a client |", "|---|---|---|---|---|"]
    told = ""
    for each in figures:
        first = each.told if each.told != told else ""
        told = each.told
        lines.append("| " + " | ".join((first, *each.cells())) + " |")
    return "\n".join(lines)
