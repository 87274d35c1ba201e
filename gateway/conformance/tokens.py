"""Tokens, good and bad, as a login of this deployment would sign them."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import Any, Final

import jwt
import orjson

LIFETIME_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Signer:
    """What tokens are made with; ``claims`` are in each of them (``aud``, ``iss``)."""

    secret: str
    algorithm: str
    user_claim: str
    claims: tuple[tuple[str, str], ...] = ()

    def token(
        self, user: Any, *, header: dict[str, Any] | None = None, secret: str = "", **claims: Any
    ) -> str:
        """A token of ``user``, valid for ten minutes; a claim that is ``None`` is left out.

        Args:
            user: whom it names; ``None`` for nobody.
            header: further members of the header.
            secret: another one than the deployment's.
            claims: further ones, or others in the place of these.
        """
        now = int(time.time())
        given = {self.user_claim: user, "iat": now, "exp": now + LIFETIME_SECONDS}
        given |= dict(self.claims) | claims
        kept = {name: value for name, value in given.items() if value is not None}
        return jwt.encode(kept, secret or self.secret, self.algorithm, header, sort_headers=False)

    def unsigned(self, user: str) -> str:
        """A token that says it needs no signature (``"alg": "none"``)."""
        parts = {"alg": "none", "typ": "JWT"}, {self.user_claim: user, "exp": int(time.time()) + 60}
        texts = [base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=") for part in parts]
        return b".".join([*texts, b""]).decode()
