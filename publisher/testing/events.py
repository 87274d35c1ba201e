"""The events that a test gives, as groups of consumers take them."""

from __future__ import annotations

from collections.abc import Sequence

from publisher.contract.calls import Reply
from publisher.contract.events import Event

_FREE = b""


class EventStream:
    """Each group is taken to have been there before the first event, whatever its ``start``."""

    def __init__(self) -> None:
        self._events: dict[bytes, Event] = {}
        self._pending: dict[bytes, dict[bytes, bytes]] = {}
        self._passed: dict[bytes, int] = {}

    def add(self, event: Event) -> None:
        """Append one, whose id is above all before."""
        self._events[event.id.encode()] = event

    def run(self, arguments: Sequence[bytes]) -> Reply:
        """Run a plain command about them."""
        match arguments:
            case [b"XACK", _, group, *handled]:
                return self._acknowledge(group, handled)
            case [b"XCLAIM", _, group, _, _, *rest]:
                pending = self._pending.get(group, {})
                # Behind the ids come options.
                pending.update((each, _FREE) for each in rest if each in pending)
                return []
            # Whether anybody tells of events.
            case _:
                return 1

    def run_script(self, name: str, arguments: Sequence[bytes]) -> Reply:
        """Run a script about them.

        Raises:
            NotImplementedError: it is another one.
        """
        if name == "take_events":
            group, consumer, _, most, own, _, _, *handled = arguments
            self._acknowledge(group, handled)
            return [0, *self._take(group, consumer, int(most), own=bool(own))]
        if name == "set_event_aside":
            group, event, *_ = arguments
            return self._acknowledge(group, [event])
        raise NotImplementedError(f"a recording publisher cannot run the script {name}")

    def _acknowledge(self, group: bytes, handled: Sequence[bytes]) -> int:
        pending = self._pending.get(group, {})
        return sum(pending.pop(each, None) is not None for each in handled)

    def _take(self, group: bytes, consumer: bytes, most: int, *, own: bool) -> list[Reply]:
        pending = self._pending.setdefault(group, {})
        takers = {_FREE, consumer} if own else {_FREE}
        taken = [each for each in self._events if pending.get(each) in takers][:most]
        if not taken:
            passed = self._passed.get(group, 0)
            taken = list(self._events)[passed : passed + most]
            self._passed[group] = passed + len(taken)
        pending.update((each, consumer) for each in taken)
        return [[each, _fields(self._events[each])] for each in taken]


def _fields(event: Event) -> list[bytes]:
    """As they stand in a stream."""
    named = {name: value for name, value in event.plain().items() if name != "id"}
    return [
        part
        for name, value in named.items()
        for part in (name.encode(), b"1" if value is True else str(value).encode())
    ]
