"""What the parts of all groups share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final

from gateway.node.events import EventLog
from gateway.node.ports import Spans
from gateway.node.stats import Stats
from gateway.node.tasks import Tasks
from gateway.settings import Settings
from publisher.contract.control import DrainNode

CLOCK: Final = time.monotonic
VERSION: Final = version("realtime-gateway")


@dataclass(frozen=True, slots=True)
class Shared:
    """A node's id and settings, what it tells backends and counts, who ends it, where its spans go, and who owns its tasks."""

    settings: Settings
    node_id: str
    event_log: EventLog
    stats: Stats
    drain: Callable[[DrainNode], None]
    spans: Spans | None = None
    tasks: Tasks = field(default_factory=Tasks)
