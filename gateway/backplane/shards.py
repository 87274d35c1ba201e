"""Sharded pub/sub of a Redis Cluster: each name is listened to at the primary that has its slot.

A name follows its slot. What was published between two subscriptions was not heard, so whoever needs it is told which
names that may be true of: only those that have moved, or whose connection was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Final, Protocol

from redis.exceptions import ResponseError

from gateway.backplane.cluster_map import ClusterMap
from gateway.backplane.pubsub import Command, Confirmed, Handler, Subscriber
from publisher.transport.cluster import Slots, slot_of
from publisher.transport.connection import Reader
from publisher.transport.failures import code
from publisher.transport.redis_py import Host
from publisher.transport.resp import pack

_AGAIN_SECONDS: Final = 0.02
"""After this a name is listened to again that a server would not take."""
_ELSEWHERE: Final = frozenset({"MOVED", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "MASTERDOWN"})


class ShardSubscriber(Subscriber):
    """A subscriber with the names of one primary. Those that the primary gives away are told to ``lost``."""

    SUBSCRIBE: ClassVar[bytes] = b"SSUBSCRIBE"
    UNSUBSCRIBE: ClassVar[bytes] = b"SUNSUBSCRIBE"

    def __init__(self, *parts: Any, lost: Callable[[str, ResponseError | None], None]) -> None:
        super().__init__(*parts)
        self._lost = lost

    def _write(self, protocol: Reader, commands: Iterable[Command]) -> None:
        # The names of one command would have to be of one slot.
        some = list(commands)
        protocol.write(pack([(verb, name) for verb, name, _ in some]))
        self._unanswered.extend(some)

    def _opened(self) -> None:
        if not self._restoring:
            self._changed(True)

    def _handle(self, reply: Any) -> None:
        """Take what Redis says: nearly always ``[b"smessage", channel, payload]``."""
        if type(reply) is not list:
            self._refuse(reply)
        elif reply[0] == b"smessage":
            handler = self._handlers.get(reply[1])
            if handler is not None:
                handler(reply[2])
        elif reply[0] == b"sunsubscribe" and not self._asked_to_drop(reply[1]):
            # The slot is another server's now.
            self._give_up(reply[1], None)
        else:
            self._answer(reply[0], reply[1])

    def _asked_to_drop(self, name: bytes) -> bool:
        return bool(self._unanswered) and self._unanswered[0][:2] == (self.UNSUBSCRIBE, name)

    def _refuse(self, error: Any) -> None:
        """Take an error in place of the answer to the oldest command."""
        if code(error) not in _ELSEWHERE or not self._unanswered:
            super()._handle(error)
            return
        verb, name, _ = self._unanswered.popleft()
        self.answered += 1
        if verb == self.SUBSCRIBE:
            self._give_up(name, error)
        self._note_answer()

    def _give_up(self, name: bytes, error: ResponseError | None) -> None:
        if self._handlers.pop(name, None) is not None:
            confirmed = self._waiting.pop(name, None)
            if confirmed is not None:
                confirmed.cancel()
            self._lost(name.decode(), error)


class MakeShard(Protocol):
    """Makes the subscriber of a primary."""

    def __call__(
        self, host: Host, lost: Callable[[str, ResponseError | None], None], /
    ) -> ShardSubscriber: ...


class Shards:
    """Holds subscriptions at the primaries that have them. Implements ``pubsub.Names``.

    Args:
        missed: told the names on which messages may have gone unheard.
    """

    def __init__(
        self, map_: ClusterMap, make: MakeShard, missed: Callable[[list[str]], None]
    ) -> None:
        self._map = map_
        self._make = make
        self._missed = missed
        self.of: dict[Host, ShardSubscriber] = {}
        self._handlers: dict[str, Handler] = {}
        # Names that were never confirmed since they were subscribed to.
        self._waiting: dict[str, Confirmed] = {}
        self._at: dict[str, Host] = {}
        self._by_slot: dict[int, set[str]] = {}
        self._homeless: set[str] = set()
        self._unheard: list[str] = []
        self._slots = Slots(())
        self._settling = False
        self._throttled = False

    # -- subscriptions ------------------------------------------------------------------------

    def listen(self, name: str, handler: Handler) -> Confirmed:
        """Listen to a name; done once a primary has confirmed."""
        self._handlers[name] = handler
        self._by_slot.setdefault(slot_of(name), set()).add(name)
        confirmed = self._waiting[name] = asyncio.get_running_loop().create_future()
        self._place(name)
        return confirmed

    def drop(self, name: str) -> None:
        """Stop listening to a name; one that was not listened to is no error."""
        if self._handlers.pop(name, None) is None:
            return
        slot = slot_of(name)
        self._by_slot[slot].discard(name)
        if not self._by_slot[slot]:
            del self._by_slot[slot]
        if (confirmed := self._waiting.pop(name, None)) is not None:
            confirmed.cancel()
        self._leave(name)

    def _place(self, name: str) -> None:
        """Listen to a name where its slot is, or wait until somebody has it."""
        host = self._slots.owner(slot_of(name))
        shard = None if host is None else self.of.get(host)
        if host is None or shard is None:
            self._wait(name)
            return
        self._homeless.discard(name)
        self._at[name] = host
        shard.listen(name, self._handlers[name]).add_done_callback(partial(self._heard, name))

    def _leave(self, name: str) -> None:
        self._homeless.discard(name)
        host = self._at.pop(name, None)
        if host is not None and (shard := self.of.get(host)) is not None:
            shard.drop(name)

    def _heard(self, name: str, once: Confirmed) -> None:
        """A primary has confirmed a name, for the first time or at its new place."""
        if once.cancelled() or name not in self._handlers:
            return
        confirmed = self._waiting.pop(name, None)
        if confirmed is None:
            self._note_missed([name])
        elif not confirmed.done():
            confirmed.set_result(None)

    def _note_missed(self, names: Iterable[str]) -> None:
        if not self._unheard:
            asyncio.get_running_loop().call_soon(self._tell_missed)
        self._unheard += names

    def _tell_missed(self) -> None:
        names, self._unheard = self._unheard, []
        self._missed(names)

    # -- what the cluster does ----------------------------------------------------------------

    def follow(self) -> None:
        """The map is another one: be where the slots are."""
        slots = self._map.known.slots
        assert slots is not None
        before, self._slots = self._slots, slots.copy()
        for host in self._slots.primaries:
            if host not in self.of:
                shard = self.of[host] = self._make(host, partial(self._lost, host))
                if self._throttled:
                    shard.throttle(True)
        for slot in self._slots.moved_since(before):
            for name in self._by_slot.get(slot, ()):
                self._leave(name)
                self._place(name)
        for host in self.of.keys() - set(self._slots.primaries):
            del self.of[host]

    def restored(self, host: Host) -> None:
        """The connection to a primary was lost, and is there again."""
        names = [each for each, at in self._at.items() if at == host and each not in self._waiting]
        if names:
            self._note_missed(names)

    def _lost(self, host: Host, name: str, error: ResponseError | None) -> None:
        """A primary has given a name away, or does not take it."""
        if self._at.get(name) == host:
            del self._at[name]
        if name not in self._handlers:
            return
        if error is None:
            self._map.known.doubt()
        else:
            self._map.known.hear(error, host)
        self._wait(name)

    def _wait(self, name: str) -> None:
        self._homeless.add(name)
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._settle)

    def _settle(self) -> None:
        """Listen to what no primary has taken yet."""
        self._settling = False
        homeless, self._homeless = self._homeless, set()
        for name in homeless:
            if name in self._handlers and name not in self._at:
                self._place(name)

    def throttle(self, throttled: bool) -> None:
        """Read nothing until told otherwise."""
        self._throttled = throttled
        for shard in self.of.values():
            shard.throttle(throttled)
