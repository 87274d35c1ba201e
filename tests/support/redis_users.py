"""Redis users with the rights of an ACL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis

from tests.support.topology import Looking, looking_at, to_all

_PASSWORD = "secret"


def as_user(url: str, name: str, password: str = _PASSWORD) -> str:
    """``url`` with the name and the password of a user."""
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{address}"))


@contextlib.contextmanager
def user_of_line(url: str, line: str) -> Iterator[None]:
    """Let there be the user of this line of an ACL file, until the block ends."""
    _, name, *rules = line.split()
    with looking_at(url) as admin:
        to_all(admin, "ACL", "SETUSER", name, "reset", *rules)
        yield
        to_all(admin, "ACL", "DELUSER", name)


@contextlib.contextmanager
def redis_user(
    url: str, name: str, rules: Sequence[str], password: str = _PASSWORD
) -> Iterator[str]:
    """``url`` with the name and password of a user that has ``rules`` until the block ends."""
    with user_of_line(url, " ".join(("user", name, "on", f">{password}", *rules))):
        yield as_user(url, name, password)


def denied(client: Looking, name: str) -> set[str]:
    """What the servers have refused this user lately: commands, keys and channels (``ACL LOG``)."""
    if isinstance(client, redis.RedisCluster):
        answers = client.execute_command("ACL", "LOG", target_nodes=redis.RedisCluster.ALL_NODES)
        logs = list(answers.values()) if isinstance(answers, dict) else [answers]
    else:
        logs = [client.execute_command("ACL", "LOG")]
    entries = [_entry(each) for log in logs for each in log]
    return {each["object"] for each in entries if each["username"] == name}


def _entry(told: Any) -> dict[str, str]:
    """An entry of an ``ACL LOG``, whatever the redis package has made of it."""
    pairs = told.items() if isinstance(told, dict) else zip(told[::2], told[1::2], strict=True)
    return {_text(key): _text(value) for key, value in pairs}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
