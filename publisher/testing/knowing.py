"""The parts of a publisher that are others where Redis is not asked."""

from __future__ import annotations

from typing import Any

from publisher.errors import InvalidInput
from publisher.preflight import Preflight
from publisher.publication import Publication
from publisher.publishing import Publishing
from publisher.records import Outgoing
from publisher.retrying import Retries
from publisher.shared import Shared
from publisher.testing.recorder import Recorder
from publisher.transport.flows import Flow


class Known(Preflight):
    """All is known: the namespaces and the clock are the recorder's, and everything is allowed."""

    def __init__(self, recorder: Recorder, retries: Retries) -> None:
        clock = recorder.clock
        super().__init__(recorder.keys, clock.monotonic, retries, recorder.namespaces)
        self._wall_clock = clock.microseconds

    def now(self) -> int:
        """What the recorder's clock shows, in microseconds."""
        return self._wall_clock()

    def _needs_no_answer(self, *_: object, **__: object) -> Flow[None]:
        yield from ()

    refresh = check_rights = check_rights_of = check_rights_at = _needs_no_answer


class RecordingPublishing(Publishing):
    """Tells the recorder what it is given."""

    def __init__(self, shared: Shared, recorder: Recorder) -> None:
        super().__init__(shared)
        self._recorder = recorder

    def accept(self, message: Outgoing | tuple[str, Any], name: str) -> Publication | InvalidInput:
        """As the real one does."""
        accepted = super().accept(message, name)
        if isinstance(accepted, Publication):
            self._recorder.accepted(accepted, message)
        return accepted
