"""Clients of the valkey package, which began as a copy of redis: what opens their connections has a twin in redis."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

_TAKEN_OVER: Final = frozenset(
    {
        *("host", "port", "path", "db", "username", "password", "credential_provider"),
        *("client_name", "encoding", "encoding_errors", "health_check_interval"),
        *("socket_timeout", "socket_connect_timeout", "socket_keepalive"),
        *("socket_keepalive_options", "socket_type", "socket_read_size"),
    }
)
_OF_TLS: Final = "ssl_"


def of_redis(kind: type) -> type:
    """``kind`` itself, or its twin in the redis package where it is, or is derived from, a class of valkey's."""
    for each in kind.__mro__:
        package, _, module = each.__module__.partition(".")
        if package == "redis":
            break
        if package == "valkey":
            found = importlib.import_module(f"redis.{module}")
            twin: type = getattr(found, each.__name__.replace("Valkey", "Redis"))
            return twin
    return kind


def is_a(thing: object, *kinds: type) -> bool:
    """Whether it is an instance of one of these classes of the redis package, or of its twin in valkey."""
    return issubclass(of_redis(type(thing)), kinds)


def translated(kind: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The class of a connection and its options, as the redis package has them.

    Of valkey's options those are taken over that say where a server is and who comes there.
    """
    twin = of_redis(kind) if isinstance(kind, type) else kind
    if twin is kind:
        return kind, dict(options)
    return twin, {
        name: value
        for name, value in options.items()
        if name in _TAKEN_OVER or name.startswith(_OF_TLS)
    }
