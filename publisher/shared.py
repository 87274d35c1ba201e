"""What the calls of a client have in common, and what builds the flows of one kind of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from publisher.contract.calls import Call, Reply
from publisher.contract.keys import Keys
from publisher.preflight import Preflight
from publisher.publication import Options
from publisher.retrying import Retries, read, write
from publisher.transport.flows import Flow


@dataclass(frozen=True, slots=True)
class Shared:
    """Belongs to one client.

    Attributes:
        preflight: what is known of Redis, and of the client's rights there.
        options: which replicas must have what is written, who acts, and what is asked of each publish.
        clock: a monotonic clock in seconds.
        wall_clock: microseconds since 1970.
    """

    keys: Keys
    preflight: Preflight
    retries: Retries
    options: Options
    clock: Callable[[], float]
    wall_clock: Callable[[], int]


class Flows:
    """Builds the flows of one kind of call, apart from the waiting (``retrying.py``)."""

    def __init__(self, shared: Shared) -> None:
        self._keys = shared.keys
        self._preflight = shared.preflight
        self._retries = shared.retries
        self._options = shared.options

    def _read(self, calls: Sequence[Call]) -> Flow[list[Reply]]:
        """Run calls that change nothing."""
        return read(calls, self._retries)

    def _write(self, call: Call, min_replicas: int | None = None) -> Flow[Reply]:
        """Run a call until as many replicas as the client wants, or ``min_replicas``, have what it has written."""
        options = self._options
        wanted = options.min_replicas if min_replicas is None else min_replicas
        return write(call, self._retries, wanted, options.replica_timeout)
