"""What Redis knows of revoked tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

from gateway.backplane.servers import ONE, Servers
from gateway.core.chunks import chunks
from publisher.contract import scripts
from publisher.contract.calls import Call, Reply
from publisher.contract.keys import Keys
from publisher.errors import Rejected, Unavailable
from publisher.transport.pipeline import Calls, has_failed

_IN_A_CALL: Final = 500
"""Redis answers nobody else meanwhile, which is some tenths of a millisecond."""


class RevocationReader:
    """Implements ``ports.RevokedTokens``.

    Args:
        pipeline: for what clients wait for.
        upkeep: for what the node asks by itself, and waits for before it is ready.
        servers: one that is away is not asked.
    """

    def __init__(self, pipeline: Calls, upkeep: Calls, keys: Keys, servers: Servers = ONE) -> None:
        # A cluster needs a call for each, which costs the node more than a name in a call of many.
        self.at_once = 500 if keys.sharded else 10 * _IN_A_CALL
        self._pipeline = pipeline
        self._upkeep = upkeep
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

    async def revoked(self, digests: Sequence[str]) -> dict[str, bool]:
        """Whether each of these tokens is revoked. What a server knows that is away, or that refuses to tell, is left out.

        Raises:
            Unavailable: one did not answer; trying again may help.
        """
        return await self._found({each: [self._keys.revoked(each)] for each in digests})

    async def ended(self, users: Sequence[str]) -> dict[str, bool]:
        """The same of users: whether tokens of theirs are revoked, or connections were ended a short while ago."""
        keys = self._keys
        return await self._found(
            {each: [keys.before(each), keys.disconnected(each)] for each in users}
        )

    async def _found(self, keys_of: Mapping[str, Sequence[str]]) -> dict[str, bool]:
        """Whether any of the keys of each name is there."""
        asked = [name for name, keys in keys_of.items() if not self._away(keys[0])]
        together = list(chunks(asked, 1 if self._keys.sharded else _IN_A_CALL))
        answers = await asyncio.gather(
            *(self._upkeep.begin(_existing(keys_of, names)) for names in together),
            return_exceptions=True,
        )
        found: dict[str, bool] = {}
        for names, answer in zip(together, answers, strict=True):
            if isinstance(answer, Rejected):
                continue  # it would be refused again; the pipeline has logged it
            if isinstance(answer, BaseException):
                raise answer
            there = set(answer)
            first = 1
            for name in names:
                end = first + len(keys_of[name])
                found[name] = not there.isdisjoint(range(first, end))
                first = end
        return found

    def _begin(self, call: Call) -> asyncio.Future[Reply]:
        if self._away(str(call.key)):
            failed: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            reason = "the server that knows of the token is away"
            failed.set_exception(Unavailable(reason, maybe_sent=False))
            return failed
        return self._pipeline.begin(call)


def _existing(keys_of: Mapping[str, Sequence[str]], names: Sequence[str]) -> Call:
    """Ask which keys of these names are there."""
    return Call.run(scripts.EXISTING, list(chain.from_iterable(keys_of[name] for name in names)))
