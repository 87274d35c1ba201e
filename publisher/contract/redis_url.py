"""Which URLs of Redis are taken, by publishers and by gateways.

What has a meaning in a URL (RFC 3986 §2.2) and is part of a user name or a password must be percent-encoded.
Otherwise the URL names another server, and the errors of the connection show a part of the password.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

from publisher.errors import InvalidURL

_OF_SENTINEL: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
"""The schemes, and how the servers and the sentinels behind them are reached."""
_OF_CLUSTER: Final = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
_SENTINEL_PORT: Final = 26_379
_PORT: Final = 6_379

_NO_DATABASE: Final = (
    "a cluster has one database, so its URL names none: redis+cluster://host:6379,host:6379"
)
_NO_NAME: Final = "Sentinel's ends in the name of the primary, as in redis+sentinel://host:26379,host:26379/mymaster"


@dataclass(frozen=True, slots=True)
class SentinelURL:
    """What a URL of Sentinel says, in URLs of single servers. They may hold passwords.

    ``servers`` stands for each server that may be the primary: all but its host and port is true of them all.
    """

    name: str
    servers: str = field(repr=False)
    sentinels: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClusterURL:
    """What a URL of a cluster says. ``servers`` may hold a password.

    ``servers`` is the URL of a single server that stands for each: all but its host and port is true of them all.
    ``hosts`` are some of them.
    """

    servers: str = field(repr=False)
    hosts: tuple[tuple[str, int], ...]


def check_url(url: str) -> None:
    """Look at the parts of ``url`` that have one meaning only; its options are not looked at.

    Raises:
        InvalidURL: it is no URL of Redis, or something in it is not percent-encoded.
    """
    several = parse_sentinel_url(url) or parse_cluster_url(url)
    if several is None and not _is_clear(url):
        raise InvalidURL


def holds_password(url: str) -> bool:
    """Whether a password is in ``url``: before the host, or among its options."""
    try:
        parts = urlsplit(url)
    except ValueError:
        # Several hosts in brackets are too much for it.
        return "@" in url or "password=" in url
    return bool(parts.password) or not {"password", "sentinel_password"}.isdisjoint(
        parse_qs(parts.query)
    )


def parse_sentinel_url(url: str) -> SentinelURL | None:
    """The parts of a URL of Sentinel; ``None`` where ``url`` is one of a single server.

    Raises:
        InvalidURL: it is Sentinel's, and cannot be used.
    """
    kind, _, rest = url.partition("://")
    if kind not in _OF_SENTINEL:
        return None
    scheme = _OF_SENTINEL[kind]
    authority, _, tail = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    path, _, query = tail.partition("?")
    name, _, database = path.partition("/")
    if not name:
        raise InvalidURL(_NO_NAME)
    options = dict(parse_qsl(query, keep_blank_values=True))
    login = _login(options.pop("sentinel_username", ""), options.pop("sentinel_password", ""))
    tls = {option: value for option, value in options.items() if option.startswith("ssl_")}
    addresses = [_address(host, _SENTINEL_PORT) for host in hosts.split(",")]
    servers = f"{scheme}://{credentials}{at}{addresses[0]}/{database}?{urlencode(options)}"
    sentinels = tuple(f"{scheme}://{login}{each}?{urlencode(tls)}" for each in addresses)
    # A "#", or an "@" behind the hosts, is the rest of a password.
    if (
        "#" in url
        or "@" in tail
        or not all(addresses)
        or not all(map(_is_clear, (servers, *sentinels)))
    ):
        raise InvalidURL
    return SentinelURL(unquote(name), servers, sentinels)


def parse_cluster_url(url: str) -> ClusterURL | None:
    """The parts of a URL of a cluster; ``None`` where ``url`` is none.

    Raises:
        InvalidURL: it is a cluster's, and cannot be used.
    """
    kind, _, rest = url.partition("://")
    if kind not in _OF_CLUSTER:
        return None
    # Its "/" may be left away before the options.
    place, _, query = rest.partition("?")
    authority, _, database = place.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    addresses = [_address(host, _PORT) for host in hosts.split(",")]
    servers = f"{_OF_CLUSTER[kind]}://{credentials}{at}{addresses[0]}?{query}"
    if "#" in url or "@" in database or not all(addresses) or not _is_clear(servers):
        raise InvalidURL
    if database or "db" in parse_qs(query):
        raise InvalidURL(_NO_DATABASE)
    split = (urlsplit(f"//{each}") for each in addresses)
    return ClusterURL(servers, tuple((each.hostname or "", each.port or _PORT) for each in split))


def _login(user: str, password: str) -> str:
    return f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""


def _address(host: str, default_port: int) -> str:
    """One of the hosts, with its port; empty if it cannot be read."""
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port or default_port
    except ValueError:
        return ""
    if not parts.hostname or parts.netloc != host:
        return ""
    return f"[{parts.hostname}]:{port}" if ":" in parts.hostname else f"{parts.hostname}:{port}"


def _is_clear(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is the check
    except ValueError:
        return False
    # A password that is cut at its "#", "/" or "?" leaves the "@" behind it in a later part.
    if "#" in url or parts.netloc.count("@") > 1 or "@" in parts.query:
        return False
    if parts.scheme == "unix":
        # The socket has no host: what stands there is the beginning of a path or of a password.
        return bool(parts.path) and not parts.netloc.rpartition("@")[2]
    return parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and _has_database(parts)


def _has_database(parts: SplitResult) -> bool:
    """The redis package takes a database that is no number for 0, where somebody else's messages may be."""
    database = parts.path.strip("/")
    return not database or database.isdecimal()
