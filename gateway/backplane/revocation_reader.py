"""What Redis knows of revoked tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.backplane.servers import ONE, Servers
from publisher.contract.calls import Call, Reply
from publisher.contract.keys import Keys
from publisher.errors import Rejected, Unavailable
from publisher.transport.pipeline import Calls, has_failed


class RevocationReader:
    """Implements ``ports.RevokedTokens``.

    Args:
        servers: one that is away is not asked.
    """

    def __init__(self, pipeline: Calls, keys: Keys, servers: Servers = ONE) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._away = servers.away

    def ask(self, digest: str) -> asyncio.Future[Reply]:
        """Ask whether the token with this digest is revoked; its error, if nobody waits for it, is no defect."""
        answer = self._begin(Call(("EXISTS", self._keys.revoked(digest))))
        answer.add_done_callback(has_failed)
        return answer

    async def look_up(self, user: str, digest: str | None) -> tuple[float | None, bool]:
        """Before which time the tokens of a user are revoked, and whether that one is."""
        asked = None if digest is None else self.ask(digest)
        before = await self._begin(Call(("GET", self._keys.before(user))))
        revoked = asked is not None and bool(await asked)
        return None if before is None else float(before), revoked

    async def revoked(self, digests: Sequence[str]) -> set[str]:
        """Which of these tokens are revoked. What a server knows that is away is left out.

        Raises:
            Unavailable: one did not answer; trying again may help.
        """
        asked = [each for each in digests if not self._away(self._keys.revoked(each))]
        answers = await asyncio.gather(*map(self.ask, asked), return_exceptions=True)
        for answer in answers:
            # What Redis refuses it would refuse again; the pipeline has logged it.
            if isinstance(answer, BaseException) and not isinstance(answer, Rejected):
                raise answer
        return {each for each, answer in zip(asked, answers, strict=True) if answer == 1}

    def _begin(self, call: Call) -> asyncio.Future[Reply]:
        if self._away(str(call.key)):
            failed: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            reason = "the server that knows of the token is away"
            failed.set_exception(Unavailable(reason, maybe_sent=False))
            return failed
        return self._pipeline.begin(call)
