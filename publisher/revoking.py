"""What ends connections and tokens."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from publisher.audit import audited
from publisher.contract import control, rights, scripts
from publisher.contract.calls import Argument, Call, pairs_of
from publisher.contract.control import Disconnect, TokenRevoked, TokensRevoked
from publisher.contract.revocations import (
    DISCONNECTED_SECONDS,
    DISCONNECTS_KEPT,
    LIFETIME_GRACE_SECONDS,
    TOKEN_GRACE_SECONDS,
    digest_of,
)
from publisher.contract.scripts import Script
from publisher.errors import InvalidData, Unavailable
from publisher.records import (
    check_connection,
    check_reason,
    check_text,
    check_user,
    seconds_since_1970,
)
from publisher.retrying import read
from publisher.shared import Flows, Shared
from publisher.transport.flows import Flow

_FURTHEST_AHEAD_SECONDS: Final = 86_400


class Revoking(Flows):
    """Twice does no more than once, though each try gives the nodes its command again.

    A second try of a disconnect has the nonce of the first, and Redis keeps that one's moment (``disconnect.lua``): who has come
    back since is not meant. A token that is revoked was let in nowhere since the first try, so the second finds nobody.
    Only where a failover has lost the first try is the second like a call of its own.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._wall_clock = shared.wall_clock

    def _now(self) -> float:
        return self._wall_clock() / 1_000_000

    def disconnect(self, user: str, reason: str, connection: str | None) -> Flow[None]:
        """End the user's connections, or only ``connection``."""
        told = {"user": user, "connection": connection, "reason": reason or None}
        return self._audited(self._disconnect(user, reason, connection), "disconnected", told)

    def _disconnect(self, user: str, reason: str, connection: str | None) -> Flow[None]:
        check_user(user)
        check_reason(reason)
        if connection is not None:
            check_connection(connection)
        command = Disconnect(user, 0, reason, connection, self._options.actor)
        # Made once: by it a second try finds the first.
        entry = b"%b:%b" % (secrets.token_hex(8).encode(), control.head_of(command))
        key, kept = self._keys.disconnected(user), DISCONNECTED_SECONDS * 1000
        yield from self._end(
            scripts.DISCONNECT, key, entry, self._keys.control, kept, DISCONNECTS_KEPT
        )

    def revoke_token(self, jti: str, until: datetime | float) -> Flow[None]:
        """Revoke one token, which ends by itself at ``until``."""
        # As in Redis and at the nodes, so that no line names a token.
        told = {"token": _digest_of(jti), "until": until}
        return self._audited(self._revoke_token(jti, until), "token_revoked", told)

    def _revoke_token(self, jti: str, until: datetime | float) -> Flow[None]:
        check_text("jti", jti)
        kept_until = seconds_since_1970("until", until) + TOKEN_GRACE_SECONDS
        if kept_until <= self._now():
            raise InvalidData("until is over: the token has ended by itself")
        digest = digest_of(jti)
        command = control.encode(TokenRevoked(digest, self._options.actor))
        arguments = _milliseconds(kept_until), self._keys.control, command
        yield from self._end(scripts.REVOKE_TOKEN, self._keys.revoked(digest), *arguments)

    def revoke_tokens_before(self, user: str, time: datetime | float) -> Flow[None]:
        """Revoke the user's tokens that were issued before ``time``."""
        told = {"user": user, "before": time}
        return self._audited(self._revoke_tokens_before(user, time), "tokens_revoked", told)

    def _revoke_tokens_before(self, user: str, time: datetime | float) -> Flow[None]:
        check_user(user)
        before = seconds_since_1970("time", time)
        if before > self._now() + _FURTHEST_AHEAD_SECONDS:
            raise InvalidData("time is more than a day ahead: until then nobody could log in")
        lifetime = yield from self._longest_life()
        kept_until: Argument = ""
        if lifetime is not None:
            kept_until = _milliseconds(before + lifetime + LIFETIME_GRACE_SECONDS)
        command = control.encode(TokensRevoked(user, before, self._options.actor))
        arguments = repr(before), kept_until, self._keys.control, command
        yield from self._end(scripts.REVOKE_TOKENS, self._keys.before(user), *arguments)

    def _audited(self, flow: Flow[None], event: str, told: dict[str, Any]) -> Flow[None]:
        return audited(flow, event, self._options.actor, told)

    def _longest_life(self) -> Flow[float | None]:
        """How many seconds after it was issued a token may still be accepted; ``None`` for any number.

        In a cluster another server is asked, once: without its answer tokens are revoked for ever.
        """
        try:
            (reply,) = yield from read(
                [Call(("HGETALL", self._keys.lifetimes))], replace(self._retries, limit=0)
            )
        except Unavailable:
            return None
        announced = [longest for longest, _ in pairs_of(reply)]
        if not announced or b"" in announced:
            return None
        return max(map(float, announced))

    def _end(self, script: Script, key: str, *arguments: Argument) -> Flow[None]:
        yield from self._preflight.check_rights_of(rights.to_end, key)
        call = Call.run(script, [key], *arguments)
        yield from self._write(call)


def _digest_of(jti: object) -> str | None:
    """The digest of a ``jti``; ``None`` for what cannot be one, which the call refuses."""
    try:
        check_text("jti", jti)
    except InvalidData:
        return None
    return digest_of(str(jti))


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
