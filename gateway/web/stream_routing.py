"""Takes requests of clients without a WebSocket to their streams, here and on other nodes."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gateway.core.access import Identity
from gateway.node.ports import Answering, OtherNodes, StreamRequest
from gateway.node.revocations import Revocations
from gateway.node.streams import FAILED, REVOKED, UNAVAILABLE, Streams, tag_in
from gateway.web.user_quota import UserQuota
from publisher.errors import Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamRouting:
    """What takes requests to their streams.

    A request counts only with a token that is good when it has come whole. With its own token (``is_own``) a stream has ended by now
    if that is revoked. About any other Redis was asked when the request began, and what was heard since counts (``mark``).

    ``quota``: how many requests of a user are taken, since each may have to be carried to another node.
    """

    streams: Streams
    others: OtherNodes
    revocations: Revocations
    quota: UserQuota

    def is_here(self, name: str) -> bool:
        """Whether a stream of this name is on this node, if there is one."""
        return tag_in(name) == self.streams.tag

    def is_own(self, identity: Identity, name: str) -> bool:
        """Whether a stream of this name is here that has the token which has shown this."""
        stream = self.streams.find(name, identity.user) if self.is_here(name) else None
        return stream is not None and stream.connection.identity == identity

    @property
    def mark(self) -> int:
        """This moment among the commands that revoke tokens."""
        return self.revocations.mark

    async def route(
        self, identity: Identity, mark: int, request: StreamRequest, answer: Answering
    ) -> bool:
        """Hand a request to its stream; ``False``, and no answer, where the user has none of that name. Whatever fails is answered.

        Args:
            identity: whom the token speaks for that has come with the request.
            mark: when that token was known to be good.
            request: of the same user.
            answer: answers it.
        """
        try:
            return await self._route(identity, mark, request, answer)
        except Unavailable:
            answer(UNAVAILABLE, b"")
        except Exception:
            log.exception("stream_request_failed user=%r", request.user)
            answer(FAILED, b"")
        return True

    async def _route(
        self, identity: Identity, mark: int, request: StreamRequest, answer: Answering
    ) -> bool:
        shown = identity.user, identity.issued_at, identity.token_id
        if not self.revocations.admits_still(mark, *shown):
            answer(REVOKED, b"")
            return True
        if self.is_here(request.stream):
            return self.streams.serve(request, answer)
        return await self.others.ask(request, answer)

    def forget(self, request: StreamRequest, answer: Answering) -> None:
        """Whoever has polled, and waits for this answer, has gone."""
        if self.is_here(request.stream):
            self.streams.forget(request, answer)
        else:
            self.others.forget(answer)
