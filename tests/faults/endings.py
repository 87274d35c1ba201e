"""Backends that end connections and tokens, a client that comes again, and what must not come of either."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from publisher import AsyncPublisher
from tests.faults.allowance import Allowance
from tests.faults.backend import Backend
from tests.faults.moderation import REVOKED_SECONDS, until_done
from tests.faults.plain_client import PlainClient
from tests.faults.trace import Device, Ending, Rejection, Session, Trace

_REASON: Final = "locked"
_TOKEN_SECONDS: Final = 3_600
_DISCONNECTED: Final = "disconnected"
_REVOKED: Final = "token_revoked"


class ReturningClient(PlainClient):
    """Comes again after a backend has sent it away, with another token where its own is revoked."""

    def take(self, session: Session, message: dict[str, Any]) -> None:
        """Record a message; that it is sent away is no mistake of this client's."""
        code = message.get("code")
        if message["type"] != "error" or code not in (_DISCONNECTED, _REVOKED):
            super().take(session, message)
            return
        session.ended_as = code
        # One that was made meanwhile is not the one that is meant.
        if code == _REVOKED and session.token == self.token:
            self.show_another_token()

    def turned_away(self, message: dict[str, Any]) -> None:
        """Record why it was not let in."""
        if message.get("code") != _REVOKED:
            super().turned_away(message)
            return
        self.device.rejections.append(Rejection(time.monotonic(), self.token))
        self.show_another_token()


class Ender(Backend):
    """Disconnects a user, or revokes tokens of theirs, again and again until it is stopped.

    Args:
        clients: all of the user's.
    """

    def __init__(
        self,
        publisher: AsyncPublisher,
        clients: Sequence[PlainClient],
        trace: Trace,
        dice: random.Random,
    ) -> None:
        super().__init__()
        self._publisher = publisher
        self._clients = clients
        self._user = clients[0].device.user
        self._trace = trace
        self._dice = dice

    async def run(self) -> None:
        """Go on until stopped."""
        ways = [self._everybody, self._one, self._token, self._tokens]
        while not self._stopping.is_set():
            for way in self._dice.sample(ways, len(ways)):
                await way()
                if await self._stopped_within(self._dice.uniform(1.5, 4)):
                    return

    async def _everybody(self) -> None:
        asked_at = time.monotonic()
        await until_done(partial(self._publisher.disconnect, self._user, reason=_REASON))
        self._note(asked_at)

    async def _one(self) -> None:
        asked_at = time.monotonic()
        listed = await until_done(partial(self._publisher.connections, self._user))
        if listed:
            chosen = self._dice.choice(listed)
            connection = f"{chosen.node}/{chosen.id}"
            call = partial(
                self._publisher.disconnect, self._user, reason=_REASON, connection=connection
            )
            await until_done(call)
            self._note(asked_at, only_one=True)

    async def _token(self) -> None:
        asked_at, token = time.monotonic(), self._dice.choice(self._clients).token.id
        until = time.time() + _TOKEN_SECONDS
        await until_done(partial(self._publisher.revoke_token, token, until))
        self._note(asked_at, token=token)

    async def _tokens(self) -> None:
        asked_at, before = time.monotonic(), time.time()
        await until_done(partial(self._publisher.revoke_tokens_before, self._user, before))
        self._note(asked_at, before=before)

    def _note(self, asked_at: float, **what: Any) -> None:
        self._trace.endings.append(Ending(self._user, asked_at, time.monotonic(), **what))


def ended_wrongly(trace: Trace, allowance: Allowance) -> Iterator[str]:
    """Who was let in, or went on to hear, after the end; and whom something has sent away that was not about them."""
    for device in trace.devices:
        of_user = [each for each in trace.endings if each.user == device.user]
        lasting = [each for each in of_user if not trace.undone_on_purpose(each)]
        for session in device.sessions:
            yield from _let_in(device, session, lasting)
            yield from _heard_on(trace, device, session, lasting, allowance)
            yield from _sent_away(device, session, of_user)
        for each in device.rejections:
            if not any(one.revokes(each.token) and one.asked_at <= each.at for one in of_user):
                yield f"sent away: {device.name} was refused at {each.at:.2f} with a token that nobody had revoked"


def _let_in(device: Device, session: Session, endings: Sequence[Ending]) -> Iterator[str]:
    for each in endings:
        if each.revokes(session.token) and session.asked_at > each.done_at:
            late = session.asked_at - each.done_at
            yield (
                f"let in: {device.name} at {session.opened_at:.2f}, {late:.1f} s after its token had been revoked"
            )


def _heard_on(
    trace: Trace,
    device: Device,
    session: Session,
    endings: Sequence[Ending],
    allowance: Allowance,
) -> Iterator[str]:
    ended = [each.done_at for each in endings if _ends(each, session)]
    if not ended:
        return
    over = min(ended) + REVOKED_SECONDS
    for each in trace.occurrences if allowance.apart else ():
        if each.name == "node_frozen" and each.begun_at <= over:
            over = max(over, each.ended_at)
    published = {
        (each.channel, each.id): each for each in trace.publications if each.asked_at > over
    }
    for each in session.arrivals:
        if publication := published.get((each.channel, each.id)):
            late = publication.asked_at - min(ended)
            yield (
                f"overheard: {device.name} got {each.channel} #{each.number} at {each.at:.2f}, which was published "
                f"{late:.1f} s after the call that ends its connection had returned"
            )


def _ends(ending: Ending, session: Session) -> bool:
    """Whether a connection must end by it. Which one it is that alone was meant, its client does not know."""
    if ending.token is not None or ending.before is not None:
        return ending.revokes(session.token)
    return not ending.only_one and session.opened_at < ending.asked_at


def _sent_away(device: Device, session: Session, endings: Sequence[Ending]) -> Iterator[str]:
    """Who has come after a call had returned is not meant by it, however often it was tried."""
    if session.ended_as == _DISCONNECTED:
        mean = (each.done_at >= session.asked_at and each.token is each.before for each in endings)
    elif session.ended_as == _REVOKED:
        mean = (each.revokes(session.token) for each in endings)
    else:
        return
    if not any(mean):
        yield f"sent away: {device.name} was told {session.ended_as}, and nobody had meant the connection it opened at {session.opened_at:.2f}"
