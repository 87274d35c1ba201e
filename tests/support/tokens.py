"""Tokens as the platform's own login would issue them."""

from __future__ import annotations

import time
from typing import Any

import jwt

SECRET = "a secret that only the tests know, 32+ bytes"


def make_token(user: str, channels: list[str] | None = None, **claims: Any) -> str:
    """A token for ``user``, valid for an hour unless ``claims`` say otherwise."""
    given = {"sub": user, "exp": int(time.time()) + 3600, **claims}
    if channels is not None:
        given["channels"] = channels
    return jwt.encode(given, SECRET, "HS256")
