"""Clients that ask who is in a channel.

All who ask about a channel at about the same time are answered by one reading of it, and the longer the list is the longer
the next reading waits. So a crowd that asks costs Redis and the node little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gateway.core import budget, protocol
from gateway.core.protocol import EndReason, Refused
from gateway.core.timing import Backoff
from gateway.node.connection import Connection, Subscription
from gateway.node.hub import Hub
from gateway.node.pacing import Pacing
from gateway.node.ports import PresenceLog
from gateway.node.tasks import Tasks
from publisher.contract.channels import Channel, Namespace, Presence
from publisher.errors import Unavailable

_PAUSE_SECONDS: Final = 0.1
_PAUSE_FOR_A_USER: Final = 0.0001
"""Of 10,000 users in a channel a list is made once in 1.1 s."""


class PresenceRequests:
    """Answers who is in a channel, to those who are in it.

    Args:
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        hub: Hub,
        log: PresenceLog,
        namespaces: Mapping[str, Namespace],
        pacing: Pacing,
        tasks: Tasks,
        jitter: Callable[[], float],
    ) -> None:
        self._hub = hub
        self._log = log
        self._namespaces = namespaces
        self._pacing = pacing
        self._tasks = tasks
        self._jitter = jitter
        # Who waits, by channel; each channel has a task as long as it is here.
        self._waiting: dict[str, set[Connection]] = {}

    def ask(self, connection: Connection, channel: Channel) -> None:
        """Answer soon, and once more whenever changes may have been missed; what is asked until then is answered together.

        Raises:
            Refused: it is not in the channel, or nobody notes who is.
        """
        rules = self._namespaces.get(channel.namespace)
        subscription = connection.subscriptions.get(channel.name)
        if subscription is None:
            raise protocol.not_subscribed(channel.name)
        if rules is None or rules.presence is None:
            raise protocol.no_presence(channel.name)
        subscription.asked_who = True
        self._answer_soon(connection, channel.name, rules.presence)

    def ask_again(self, subscription: Subscription) -> None:
        """Answer once more what was asked about a channel: its client has missed who came and left."""
        rules = self._namespaces[subscription.channel.namespace].presence
        if subscription.asked_who and rules is not None:
            self._answer_soon(subscription.connection, subscription.channel.name, rules)

    def _answer_soon(self, connection: Connection, name: str, rules: Presence) -> None:
        waiting = self._waiting.get(name)
        if waiting is None:
            self._waiting[name] = {connection}
            self._tasks.spawn(self._serve(name, rules), f"say who is in {name}")
        else:
            waiting.add(connection)

    async def _serve(self, name: str, rules: Presence) -> None:
        waiting, backoff = self._waiting[name], Backoff(self._jitter)
        try:
            while waiting:  # noqa: ASYNC110 - what they wait for is the state of several parts
                await asyncio.sleep(await self._turn(name, rules, waiting, backoff))
        finally:
            del self._waiting[name]

    async def _turn(
        self, name: str, rules: Presence, waiting: set[Connection], backoff: Backoff
    ) -> float:
        """Answer those who may be answered now; returns the seconds until the next turn."""
        self._send_away(name, waiting)
        asking = {each for each in waiting if self._may_hear(each, name)}
        if not asking:
            return backoff.next()
        # Whoever asks from now on is to hear of what happens from now on.
        waiting -= asking
        try:
            users = await self._log.users(name)
        except Unavailable as error:
            if error.retryable:
                waiting |= asking
            else:
                self._refuse(asking, protocol.refusal(name, EndReason.INTERNAL_ERROR))
            return backoff.next()
        backoff.reset()
        if len(users) > rules.max_members:
            self._hub.stats.presence_truncated += len(asking)
        answer = protocol.presence(name, users[: rules.max_members], len(users))
        for connection in asking:
            if not self._may_hear(connection, name):
                waiting.add(connection)
                continue
            connection.budget.owe(budget.presence(len(answer)))
            self._hub.tell(connection, answer)
        return _PAUSE_SECONDS + len(users) * _PAUSE_FOR_A_USER

    def _may_hear(self, connection: Connection, name: str) -> bool:
        """Whether a connection is in the channel, may hear something now, takes it, and owes nothing."""
        subscription = connection.subscriptions.get(name)
        return (
            subscription is not None
            and not subscription.answers
            and subscription.pause is None
            and not self._hub.held
            and not connection.closed
            and not connection.socket.congested
            and self._pacing.due(connection)
        )

    def _send_away(self, name: str, waiting: set[Connection]) -> None:
        """Let those wait no more who have left the channel, or were not let in."""
        gone = {each for each in waiting if each.closed or name not in each.subscriptions}
        waiting -= gone
        self._refuse((each for each in gone if not each.closed), protocol.not_subscribed(name))

    def _refuse(self, connections: Iterable[Connection], error: Refused) -> None:
        for connection in connections:
            self._hub.stats.client_errors[error.code] += 1
            self._hub.tell(connection, error.render())
