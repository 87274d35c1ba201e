"""Checks of the section "Tokens"."""

from __future__ import annotations

import secrets
import time
from typing import Any

from gateway.conformance.stage import Stage, check
from gateway.conformance.verdicts import Failed, expect

_LONGEST_LEEWAY = 40.0
"""Seconds after a token's end until which its connection must have ended: clocks differ, and so do settings."""

_PAST_SECONDS = 8.0
"""Seconds after a token's end at which a connection that goes on has another one; by default clocks may differ by five."""


async def _refused(stage: Stage, token: str, *codes: str) -> None:
    line = await stage.open(token)
    error = await line.receive()
    end = await line.end()
    expect(
        error.get("code") in codes and end.code == 1008 and end.reason == error.get("code"),
        f"the answer is {error['type']} {error.get('code', '')}, then close {end}",
    )


@check("S-201", "without a token the connection is closed with token_missing")
async def missing(stage: Stage) -> None:
    """No token in any place."""
    await _refused(stage, "", "token_missing")


@check("S-202", "what is no JWT of a configured key is closed with token_invalid")
async def invalid(stage: Stage) -> None:
    """No JWT, another key, no signature."""
    signer = stage.signer
    await _refused(stage, "no.jwt.at-all", "token_invalid")
    await _refused(stage, signer.token(stage.user, secret=secrets.token_hex(32)), "token_invalid")
    await _refused(stage, signer.unsigned(stage.user), "token_invalid")


@check("S-203", "a token with a wrong claim is closed with token_invalid")
async def claims(stage: Stage) -> None:
    """A user that is a number, none, and an audience of others."""
    signer = stage.signer
    await _refused(stage, signer.token(None), "token_invalid")
    await _refused(stage, signer.token(17), "token_invalid")
    await _refused(stage, signer.token(stage.user, aud="conformance-other"), "token_invalid")


@check("S-204", "a token before its nbf or after its exp is refused with its own code")
async def times(stage: Stage) -> None:
    """An hour away, so that clocks do not matter."""
    now, signer = int(time.time()), stage.signer
    expired = signer.token(stage.user, iat=now - 7_200, exp=now - 3_600)
    await _refused(stage, expired, "token_expired")
    early = signer.token(stage.user, nbf=now + 3_600, exp=now + 3_700)
    await _refused(stage, early, "token_not_yet_valid")


@check("S-205", "a token that is for something else is closed with token_invalid")
async def other_type(stage: Stage) -> None:
    """RFC 8725 §3.11."""
    token = stage.signer.token(stage.user, header={"typ": "logout+jwt"})
    await _refused(stage, token, "token_invalid")


async def _short(stage: Stage) -> tuple[Any, float]:
    ends = int(time.time()) + 4
    return await stage.connect(stage.signer.token(stage.user, exp=ends)), ends


@check("S-206", "the connection ends with its token")
async def ends_with_token(stage: Stage) -> None:
    """A token of four seconds."""
    line, ends = await _short(stage)
    end = await line.end(_LONGEST_LEEWAY)
    expect((end.code, end.reason) == (1008, "token_expired"), f"it ends with {end}")
    expect(time.time() > ends - 1, "it has ended before its token")


@check("S-207", "token_expiring comes before, once")
async def expiring(stage: Stage) -> None:
    """A token of four seconds."""
    line, ends = await _short(stage)
    told = await line.next("token_expiring")
    expect(told.get("expiresAt") == ends * 1000, f"expiresAt is {told.get('expiresAt')}")
    while not line.ended.done():
        try:
            again = await line.receive(_LONGEST_LEEWAY)
        except Failed:
            break  # it has ended, with its token
        expect(again["type"] != "token_expiring", "token_expiring comes once more")
    await line.end()


@check(
    "S-208",
    "a refresh with a valid token of the user lets the connection go on, another one does not end it",
)
async def refresh(stage: Stage) -> None:
    """The connection outlives its first token."""
    line, ends = await _short(stage)
    line.send({"type": "refresh", "token": stage.signer.token(f"{stage.user}-other")})
    error = await line.next("error")
    expect(str(error.get("code")).startswith("token_"), f"it is answered with {error.get('code')}")
    line.send({"type": "refresh", "token": stage.signer.token(stage.user)})
    # Nothing comes behind which it would be known that the connection goes on: that takes its time.
    await line.quiet("error", ends + _PAST_SECONDS - time.time())
    line.send({"type": "heartbeat"})
    await line.next("heartbeat")


@check("S-209", "a revoked token ends its connection, and is refused from then on")
async def revoked(stage: Stage) -> None:
    """By its ``jti``."""
    jti = secrets.token_hex(8)
    token = stage.signer.token(stage.user, jti=jti)
    line = await stage.connect(token)
    await stage.deployment.backend.revoke_token(jti, time.time() + 600)
    end = await line.end()
    expect(end.reason == "token_revoked", f"it ends with {end}")
    await _refused(stage, token, "token_revoked")
