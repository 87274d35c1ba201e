"""Redis users with the rights of an ACL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit, urlunsplit

import redis

from tests.support.topology import primary_url

_PASSWORD = "secret"


@contextlib.contextmanager
def redis_user(url: str, name: str, rules: Sequence[str]) -> Iterator[str]:
    """``url`` with the name and password of a user that has ``rules`` until the block ends."""
    with redis.Redis.from_url(primary_url(url)) as admin:
        admin.execute_command("ACL", "SETUSER", name, "reset", "on", f">{_PASSWORD}", *rules)
        parts = urlsplit(url)
        address = parts.netloc.rpartition("@")[2]
        yield urlunsplit(parts._replace(netloc=f"{name}:{_PASSWORD}@{address}"))
        admin.acl_deluser(name)
