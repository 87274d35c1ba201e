"""Redis users with the rights of an ACL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit, urlunsplit

from tests.support.topology import looking_at, to_all

_PASSWORD = "secret"


@contextlib.contextmanager
def redis_user(url: str, name: str, rules: Sequence[str]) -> Iterator[str]:
    """``url`` with the name and password of a user that has ``rules`` until the block ends."""
    with looking_at(url) as admin:
        to_all(admin, "ACL", "SETUSER", name, "reset", "on", f">{_PASSWORD}", *rules)
        parts = urlsplit(url)
        address = parts.netloc.rpartition("@")[2]
        yield urlunsplit(parts._replace(netloc=f"{name}:{_PASSWORD}@{address}"))
        to_all(admin, "ACL", "DELUSER", name)
