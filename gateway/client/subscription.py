"""One channel of a receiver: its position, what waits for its reader, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

from gateway.client.errors import ReceiverError
from gateway.client.tokens import Token

_MOST_WAITING: Final = 256
"""Messages that wait for the reader before nothing more is read from the gateway."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was published.

    ``id`` rises within the channel; it is ``None`` in namespaces without retention. ``timestamp`` is milliseconds since
    1970. ``type`` is the channel's namespace.
    """

    channel: str
    data: Any
    timestamp: int
    id: int | None
    type: str


class Position:
    """Up to where a channel has been received; pure."""

    def __init__(self, since: int | None) -> None:
        self.since = since
        """What the next subscribe asks from: the last id, or ``None`` for what the user has not received yet."""

    def takes(self, message_id: int | None) -> bool:
        """Move on to a message; ``False`` for a repeat."""
        if message_id is None:
            return True
        if self.since is not None and message_id <= self.since:
            return False
        self.since = message_id
        return True

    def begin(self, message_id: int | None) -> None:
        """The gateway says where it begins, which counts where nothing has been received yet."""
        if self.since is None:
            self.since = message_id

    def forget(self) -> None:
        """Messages are lost. A failover of Redis may go on with lower ids."""
        self.since = None


@dataclass(frozen=True, slots=True)
class Access:
    """How the user may hear a channel: with a token of its own, and perhaps only later."""

    token: Token | None = None
    wait_for_grant: bool = False


@dataclass(frozen=True, slots=True)
class _End:
    error: ReceiverError | None


_GAP: Final = object()


class Subscription:
    """The messages of a channel, in order and without repeats: ``async for message in subscription``.

    It begins when it is made and ends with its loop, with :meth:`unsubscribe` or with the receiver.

    Args:
        since: the id to begin behind; 0 for all that is kept, ``None`` for what the user has not received.
        access: what is shown with a subscribe, and whether a refusal is the end.
        processed: told of the id of each message when the next one is asked for.
        gap: told of the channel where messages are lost, between those before and those behind.
        left: told when nobody reads any more.
    """

    def __init__(
        self,
        channel: str,
        since: int | None,
        access: Access,
        processed: Callable[[str, int], None],
        gap: Callable[[str], None],
        left: Callable[[Subscription], None],
    ) -> None:
        self.channel = channel
        self.position = Position(since)
        self.access = access
        self.ended = False
        self._processed = processed
        self._gap = gap
        self._left = left
        self._waiting: asyncio.Queue[Message | _End | object] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self._answered = asyncio.Event()
        self._error: ReceiverError | None = None

    # -- the reader's side ----------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Message]:
        return self._messages()

    async def _messages(self) -> AsyncGenerator[Message, None]:
        try:
            while True:
                match await self._waiting.get():
                    case Message() as message:
                        if self._waiting.qsize() < _MOST_WAITING // 2:
                            self._room.set()
                        yield message
                        if message.id is not None:
                            self._processed(self.channel, message.id)
                    case _End(error) as end:
                        self._waiting.put_nowait(end)  # for who asks again
                        if error is not None:
                            raise error
                        return
                    case _:
                        self._gap(self.channel)
        finally:
            # Who leaves the loop must not keep the other subscriptions waiting.
            self.unsubscribe()

    async def subscribed(self) -> None:
        """Return when the gateway has answered for the first time: what is published from then on comes.

        Raises:
            ReceiverError: the subscription has ended instead.
        """
        await self._answered.wait()
        if self._error is not None:
            raise self._error

    def unsubscribe(self) -> None:
        """End it. What has come before can still be read."""
        if not self.ended:
            self.end(None)
            self._left(self)

    # -- the receiver's side --------------------------------------------------------------------

    def answer(self, recovered: bool | None, position: int | None) -> None:
        """The gateway has answered ``subscribed``: what is behind that position follows."""
        if recovered is False:
            self.lose()
        self.position.begin(position)
        self._answered.set()

    def lose(self) -> None:
        """Messages are lost."""
        self.position.forget()
        self._waiting.put_nowait(_GAP)

    async def put(self, message: Message) -> None:
        """Hand a message on, unless it is a repeat; returns when there is room for another one."""
        if self.ended or not self.position.takes(message.id):
            return
        self._waiting.put_nowait(message)
        if self._waiting.qsize() >= _MOST_WAITING:
            self._room.clear()
            await self._room.wait()

    def end(self, error: ReceiverError | None) -> None:
        """No more messages come. Those that wait are read first."""
        if self.ended:
            return
        self.ended = True
        self._error = error
        self._waiting.put_nowait(_End(error))
        self._answered.set()
        self._room.set()
