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
from publisher.transport.resp import pack_all

_AGAIN_SECONDS: Final = 0.02
"""After this a name is listened to again that a server has given away or would not take; each time in a row that this
happens, after twice as long."""
_LONGEST_SECONDS: Final = 1.0
_AT_ONCE: Final = 2
"""So often in a row a name follows another map without that rest. Then servers lead to each other."""
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
        protocol.write(pack_all((verb, name) for verb, name, _ in some))
        self._unanswered.extend(some)

    def _opened(self) -> None:
        if not self._restoring:
            self._restored()

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
        if self._was_answered(error):
            return
        if code(error) not in _ELSEWHERE or not self._unanswered:
            super()._handle(error)
            return
        verb, name, confirmed = self._unanswered.popleft()
        self.answered += 1
        # A later SSUBSCRIBE to the same name has an answer of its own.
        if verb == self.SUBSCRIBE and self._waiting.get(name) is confirmed:
            self._give_up(name, error)
        self._note_answer()

    def _was_answered(self, error: Any) -> bool:
        """Whether it is about a SUNSUBSCRIBE that counts as answered.

        The server gave the name away before it read that; what it said then looks like the answer.
        """
        if code(error) != "MOVED":
            return False
        slot = int(str(error).split()[-2])
        return not self._unanswered or slot_of(self._unanswered[0][1].decode()) != slot

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
        # What a primary has been asked for and has not answered.
        self._asked: dict[str, Confirmed] = {}
        self._at: dict[str, Host] = {}
        self._by_slot: dict[int, set[str]] = {}
        # How often in a row a name was refused or given away; and those that are nowhere until they are tried again.
        self._refusals: dict[str, int] = {}
        self._resting: dict[str, asyncio.TimerHandle] = {}
        self._unheard: list[str] = []
        self._slots = Slots(())
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
        self._refusals.pop(name, None)
        self._leave(name)

    def _place(self, name: str) -> None:
        """Listen to a name where its slot is. While nobody has that, :meth:`follow` waits for who will."""
        host = self._slots.owner(slot_of(name))
        if host is None:
            self._map.known.doubt()
            return
        self._at[name] = host
        asked = self._asked[name] = self.of[host].listen(name, self._handlers[name])
        asked.add_done_callback(partial(self._heard, name))

    def _leave(self, name: str) -> None:
        self._asked.pop(name, None)
        if (rest := self._resting.pop(name, None)) is not None:
            rest.cancel()
        host = self._at.pop(name, None)
        if host is not None and (shard := self.of.get(host)) is not None:
            shard.drop(name)

    def _heard(self, name: str, asked: Confirmed) -> None:
        """A primary has confirmed a name, for the first time or at its new place."""
        if self._asked.get(name) is not asked:
            return  # it is asked for once more, or not wanted
        del self._asked[name]
        self._refusals.pop(name, None)
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
                if name not in self._resting or self._refusals[name] <= _AT_ONCE:
                    self._leave(name)
                    self._place(name)
        for host in self.of.keys() - set(self._slots.primaries):
            del self.of[host]

    def restored(self, host: Host) -> None:
        """The connection to a primary was lost, and is there again."""
        # Those that it has been asked for are told when it confirms them.
        names = [each for each, at in self._at.items() if at == host and each not in self._asked]
        if names:
            self._note_missed(names)

    def _lost(self, host: Host, name: str, error: ResponseError | None) -> None:
        """A primary has given a name away, or does not take it."""
        self._map.refused(host, error)
        if self._at.get(name) != host:
            return
        del self._at[name]
        self._asked.pop(name, None)
        times = self._refusals[name] = self._refusals.get(name, 0) + 1
        rest = min(_LONGEST_SECONDS, _AGAIN_SECONDS * 2 ** min(times - 1, 10))
        self._resting[name] = asyncio.get_running_loop().call_later(rest, self._try_again, name)

    def _try_again(self, name: str) -> None:
        del self._resting[name]
        self._place(name)

    def throttle(self, throttled: bool) -> None:
        """Read nothing until told otherwise."""
        self._throttled = throttled
        for shard in self.of.values():
            shard.throttle(throttled)
