"""Asks all nodes for an operator, and answers for this one: over the control channel, and only while somebody looks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from gateway.node import inspection
from gateway.node.hub import Hub
from gateway.node.tasks import Tasks
from gateway.node.watching import Watching
from publisher.contract.inspection import (
    CHANNEL,
    USER,
    Happened,
    Inspection,
    Question,
    Reply,
    Watch,
)
from publisher.errors import Unavailable

log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 1.5
"""A node that has not answered by then is told as missing."""
RENEW_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 3 * RENEW_SECONDS
_SEND_SECONDS: Final = 0.2
"""What happens is gathered for so long before it is sent."""
_KEPT: Final = 4_000
"""Events that wait for one who watches, and reads slowly; what is more is counted and not told."""
_QUESTIONS_AT_ONCE: Final = 2
"""That this node looks into at a time, a slice each in a turn of the event loop; others wait for theirs."""


class Telling(Protocol):
    """The way to other nodes."""

    async def all(self, command: Inspection) -> None:
        """Tell all nodes.

        Raises:
            publisher.errors.Unavailable: Redis did not take it.
        """

    async def one(self, node: str, command: Inspection) -> None:
        """Tell one.

        Raises:
            publisher.errors.Unavailable: Redis did not take it.
        """


@dataclass(slots=True)
class _Asked:
    awaited: set[str]
    replies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Viewer:
    events: list[Mapping[str, Any]] = field(default_factory=list)
    left_out: int = 0
    fresh: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, happened: Happened) -> None:
        """Keep what a node has told, if there is room."""
        room = _KEPT - len(self.events)
        self.events += happened.events[:room]
        self.left_out += happened.left_out + max(0, len(happened.events) - room)
        self.fresh.set()

    async def something(self, seconds: float) -> bool:
        """Wait for so long until there is something; whether there is, or the node ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.fresh.wait()
        return self.fresh.is_set()

    def take(self) -> tuple[list[Mapping[str, Any]], int]:
        """What has happened since this was called last, and how much more."""
        events, left_out = self.events, self.left_out
        self.events, self.left_out = [], 0
        self.fresh.clear()
        return events, left_out


class Inquiries:
    """The questions of operators who ask this node, and this node's answers to those of others.

    Args:
        node: this one's id.
    """

    def __init__(
        self, node: str, hub: Hub, watching: Watching, telling: Telling, tasks: Tasks
    ) -> None:
        self._node = node
        self._hub = hub
        self._watching = watching
        self._telling = telling
        self._tasks = tasks
        self._asked: dict[str, _Asked] = {}
        self._viewers: dict[str, _Viewer] = {}
        self._leaving = False
        self._sending: asyncio.Task[None] | None = None
        self._turns = asyncio.Semaphore(_QUESTIONS_AT_ONCE)

    # -- asking -----------------------------------------------------------------------------------

    async def ask(
        self, about: str, name: str, nodes: Iterable[str], namespaces: Iterable[str] | None
    ) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
        """What these nodes say of ``name``, by node; and those that have not answered in time. Of channels only those in
        ``namespaces`` are told; ``None`` is for all.

        Raises:
            Unavailable: Redis did not take the question.
        """
        asked = _Asked(set(nodes))
        if not asked.awaited:
            return {}, []
        id, everybody = secrets.token_hex(8), tuple(sorted(asked.awaited))
        self._asked[id] = asked
        try:
            question = Question(id, self._node, everybody, about, name, _tuple(namespaces))
            await self._telling.all(question)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await asked.over.wait()
        finally:
            del self._asked[id]
        return asked.replies, sorted(asked.awaited)

    async def watch(
        self, about: str, name: str, namespaces: Iterable[str] | None
    ) -> AsyncGenerator[tuple[list[Mapping[str, Any]], int], None]:
        """What happens to ``name`` on all nodes, as it happens; and how much more. An empty list now and then, where nothing does.

        Of channels only those in ``namespaces`` are told; ``None`` is for all. It ends where the node does, and where what
        was told is not taken in time: the nodes have ended the watch by then.

        Raises:
            Unavailable: Redis did not take the question.
        """
        watch = Watch(
            secrets.token_hex(8), self._node, about, name, WATCH_SECONDS, _tuple(namespaces)
        )
        viewer = self._viewers[watch.id] = _Viewer()
        loop = asyncio.get_running_loop()
        renewed_at = loop.time()
        try:
            while not self._leaving and loop.time() < renewed_at + WATCH_SECONDS:
                renewed_at = loop.time()
                await self._telling.all(watch)
                yield [], 0
                while not self._leaving and (left := renewed_at + RENEW_SECONDS - loop.time()) > 0:
                    if await viewer.something(left):
                        yield viewer.take()
        finally:
            del self._viewers[watch.id]
            self._tasks.spawn(self._leave(replace(watch, seconds=0)), "watch no more")

    async def _leave(self, watch: Watch) -> None:
        # Where that is not heard, the watch ends by itself.
        with contextlib.suppress(Unavailable):
            await self._telling.all(watch)

    def leave(self) -> None:
        """The node ends: whoever watches through it asks another one."""
        self._leaving = True
        for each in self._viewers.values():
            each.fresh.set()

    # -- hearing ----------------------------------------------------------------------------------

    def hear(self, command: Inspection) -> None:
        """Take what came from a node."""
        match command:
            case Question():
                if self._node in command.nodes:
                    self._tasks.spawn(self._answer(command), "answer an operator")
            case Reply():
                self._take(command)
            case Watch():
                self._watch(command)
            case Happened():
                self._pass_on(command)

    def _take(self, reply: Reply) -> None:
        asked = self._asked.get(reply.id)
        if asked is not None and reply.node in asked.awaited:
            asked.awaited.discard(reply.node)
            asked.replies[reply.node] = reply.found
            if not asked.awaited:
                asked.over.set()

    def _pass_on(self, happened: Happened) -> None:
        viewer = self._viewers.get(happened.id)
        if viewer is not None:
            viewer.hear(happened)

    # -- answering --------------------------------------------------------------------------------

    async def _answer(self, question: Question) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + ANSWER_SECONDS
        async with self._turns:
            if loop.time() > until:
                return  # nobody waits for it any more
            about = self._hub, self._node, question.name
            if question.about == USER:
                found = await inspection.of_user(*about, question.namespaces)
            elif question.about == CHANNEL:
                found = await inspection.of_channel(*about)
            else:
                found = await inspection.of_channels(self._hub, question.name, question.namespaces)
        await self._tell(question.asker, Reply(question.id, self._node, found))

    def _watch(self, watch: Watch) -> None:
        if watch.seconds <= 0:
            self._watching.end(watch.id)
            return
        if not self._watching.begin(watch):
            self._tasks.spawn(self._refuse(watch), "refuse a watch")
        if self._sending is None and self._watching.active:
            self._sending = self._tasks.spawn(self._send(), "tell who watches")

    async def _refuse(self, watch: Watch) -> None:
        event = {"kind": "not_watched", "node": self._node}
        await self._tell(watch.asker, Happened(watch.id, self._node, [event]))

    async def _send(self) -> None:
        """Tell those who watch, for as long as somebody does."""
        try:
            while self._watching.active:
                await asyncio.sleep(_SEND_SECONDS)
                for id, each in list(self._watching.watches.items()):
                    events, left_out = each.take()
                    if events or left_out:
                        happened = Happened(id, self._node, events, left_out)
                        if not await self._tell(each.asker, happened):
                            each.left_out += len(events) + left_out
                self._watching.expire()
        finally:
            self._sending = None

    async def _tell(self, asker: str, command: Inspection) -> bool:
        """Tell a node; whether Redis has taken it. That it does not is in the log already."""
        try:
            await self._telling.one(asker, command)
        except Unavailable:
            return False
        return True


def _tuple(namespaces: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if namespaces is None else tuple(sorted(namespaces))
