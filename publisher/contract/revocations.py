"""How a token is named in Redis, and how long it is kept in mind that it, or a user's connections, were ended."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

TOKEN_GRACE_SECONDS: Final = 300
"""A gateway accepts a token for at most so long after its ``exp`` (``jwt_leeway_seconds``)."""

LIFETIME_GRACE_SECONDS: Final = 2 * TOKEN_GRACE_SECONDS
"""A token may live for so much longer than the longest life (``jwt_max_lifetime_seconds``): its ``exp`` may be later by
the leeway, and so may its end."""

DISCONNECTED_SECONDS: Final = 600
"""So long a command that ends connections is kept for nodes that do not hear it."""

DISCONNECTS_KEPT: Final = 100
"""Of one user."""


@lru_cache(1_024)
def digest_of(token_id: str) -> str:
    """The digest of a token's ``jti``, so that neither pub/sub nor a dump of Redis names one."""
    return blake2b(token_id.encode(), digest_size=16).hexdigest()
