"""The lines of an ACL file of Redis: a user for the gateways and one for the publishers, each with the least rights."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from functools import partial
from typing import Final

from publisher.contract import rights
from publisher.contract.keys import Keys
from publisher.contract.redis_url import check_url
from publisher.contract.secret_values import read_secret
from publisher.errors import InvalidData, InvalidInput
from publisher.transport.topology import asyncio_topology

PLACEHOLDER: Final = "#SHA256-OF-THE-PASSWORD"
"""In the place of a password that no URL holds. Redis loads no file that still has it."""

_PUBLISHERS_URL: Final = "PUBLISHER_REDIS_URL"
_SOME_REDIS: Final = "redis://localhost"
_NAMES_LIBRARY: Final = "+client|setinfo"
"""What the redis package tries when it connects; its refusal does no harm, and is noted by ``ACL LOG``."""

_OLDEST: Final = (7, 0)
_KNOWS_IT: Final = (7, 2)
_VALKEY: Final = "valkey"

_NO_NAME: Final = re.compile(r"[\s\"'\\\x00-\x1f\x7f]")
_PATTERN: Final = re.compile(r"[\s\"'\\*?\[\]]")
"""What a file splits a line at, and what an ACL takes for a pattern."""


def lines(
    gateway_url: str | None,
    publisher_url: str | None,
    prefix: str,
    version: str | None = None,
    *,
    api: bool = False,
) -> list[str]:
    """The line of the gateways' user and that of the publishers'; passwords are told by their SHA-256.

    Name, password and database are those of the URLs. Without one it is the same Redis as that of the other, and the
    user is called ``gateway`` or ``backend``. ``version`` is that of Redis, or ``valkey``: one before 7.2 loads no file with
    a right that it does not know. Without it the lines are for every version. ``api``: the gateways serve the HTTP API.

    Raises:
        InvalidURL: a URL cannot be used.
        InvalidData: the version is none; an ACL file cannot hold a name or the prefix, or both are the same user.
    """
    if _PATTERN.search(prefix):
        raise InvalidData(f"an ACL would take the prefix {prefix!r} for a pattern")
    some = gateway_url or publisher_url or _SOME_REDIS
    gateway = _line("gateway", gateway_url, some, prefix, partial(rights.of_a_gateway, api=api))
    backend = _line("backend", publisher_url, some, prefix, rights.of_a_publisher)
    _check_databases(gateway_url, publisher_url)
    further = f" {_NAMES_LIBRARY}" if version is not None and _knows_it(version) else ""
    if gateway.split()[1] == backend.split()[1]:
        raise InvalidData(
            "gateways and publishers need a Redis user each, and the URLs name the same one"
        )
    return [gateway + further, backend + further]


def _check_databases(gateway_url: str | None, publisher_url: str | None) -> None:
    """See to it that gateways hear what is published.

    Raises:
        InvalidData: the URLs name different databases.
    """
    databases = {
        asyncio_topology(url).keys("").database for url in (gateway_url, publisher_url) if url
    }
    if len(databases) > 1:
        raise InvalidData(
            "GATEWAY_REDIS_URL and PUBLISHER_REDIS_URL name different databases, and gateways hear only what is published in "
            "theirs: name the same one"
        )


def _knows_it(version: str) -> bool:
    if version == _VALKEY:
        return True
    found = re.fullmatch(r"(\d+)\.(\d+)(\.\d+)?", version)
    if found is None:
        raise InvalidData(f"the version of Redis must be such as 7.0, or {_VALKEY}: {version!r}")
    numbers = int(found[1]), int(found[2])
    if numbers < _OLDEST:
        raise InvalidData(f"Redis {version} is too old: 7.0 or newer is needed, or {_VALKEY}")
    return numbers >= _KNOWS_IT


def _line(
    name: str, url: str | None, some: str, prefix: str, rules: Callable[[Keys], list[str]]
) -> str:
    topology = asyncio_topology(url or some)
    user, password = topology.servers.login if url else ("", "")
    if _NO_NAME.search(user):
        raise InvalidData(f"an ACL file cannot hold the user name {user!r}")
    secret = f"#{hashlib.sha256(password.encode()).hexdigest()}" if password else PLACEHOLDER
    return " ".join(("user", user or name, "on", secret, *rules(topology.keys(prefix))))


def publishers_url() -> str | None:
    """Where backends find Redis, if the environment says so.

    Raises:
        InvalidData: the URL cannot be used.
    """
    given = os.environ.get(_PUBLISHERS_URL)
    if not given:
        return None
    try:
        url = read_secret(given)
        check_url(url)
    except InvalidInput as error:
        raise InvalidData(f"{_PUBLISHERS_URL}: {error}") from None
    return url
