"""Which URLs of Redis are taken, by publishers and by gateways.

What has a meaning in a URL (RFC 3986 §2.2) and is part of a user name or a password must be percent-encoded.
Otherwise the URL names another server, and the errors of the connection show a part of the password. For the same
reason the errors of this file name the part that is wrong, and never repeat it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

from publisher.errors import InvalidURL

_SENTINEL_PORT: Final = 26_379
_PORT: Final = 6_379
_HIGHEST_PORT: Final = 65_535

_LOGIN: Final = "[USER:PASSWORD@]"
_OPTIONS: Final = "[?OPTION=VALUE&…]"
_ONE: Final = f"{_LOGIN}HOST[:PORT][/DATABASE]{_OPTIONS}"
_SENTINELS: Final = f"{_LOGIN}HOST[:PORT],HOST[:PORT]/NAME[/DATABASE]{_OPTIONS}"
_CLUSTER: Final = f"{_LOGIN}HOST[:PORT],HOST[:PORT]{_OPTIONS}"

_FORMS: Final = {
    "redis": _ONE,
    "rediss": _ONE,
    "unix": f"{_LOGIN}/PATH{_OPTIONS}",
    "redis+sentinel": _SENTINELS,
    "rediss+sentinel": _SENTINELS,
    "redis+cluster": _CLUSTER,
    "rediss+cluster": _CLUSTER,
}
"""The schemes, and what is expected behind each. Before the ``+`` stands how each of several servers is reached."""

_IPV6: Final = "an IPv6 address stands in brackets"
_NUMBER: Final = re.compile("[0-9]{1,5}")
_NO_PART: Final = re.compile("[\t\r\n]")
"""What is left out of a URL, as by the redis package: a file and a variable may end in it."""
_PARTS: Final = re.compile(
    r"(?:(?P<login>[^/?]*)@)?(?P<hosts>[^/?@]*)(?P<path>[^?]*)(?:\?(?P<query>.*))?", re.DOTALL
)


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


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of a URL as they are written; ``login`` with its ``@``, and empty where there is none."""

    scheme: str
    login: str = field(repr=False)
    hosts: str
    path: str
    query: str = field(repr=False)

    def wrong(self, problem: str) -> InvalidURL:
        return InvalidURL(f"{problem}; expected {self.scheme}://{_FORMS[self.scheme]}")


def check_url(url: str) -> None:
    """Look at the parts of ``url`` that have one meaning only; its options are not looked at.

    Raises:
        InvalidURL: it is no URL of Redis, or something in it is not percent-encoded.
    """
    parts = _parts(url)
    if parse_sentinel_url(url) or parse_cluster_url(url):
        return
    if parts.scheme == "unix":
        # What stands in the host's place is the beginning of a path or of a password.
        if parts.hosts or not parts.path:
            raise parts.wrong("a Unix socket has no host, and its path begins with a third slash")
        return
    if "," in parts.hosts:
        raise parts.wrong("several hosts go with redis+sentinel:// or redis+cluster:// only")
    _address(parts, parts.hosts, _PORT)
    _check_database(parts, parts.path)


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
    """The parts of a URL of Sentinel; ``None`` where ``url`` is another one.

    Raises:
        InvalidURL: it cannot be used.
    """
    parts = _parts(url)
    scheme, _, kind = parts.scheme.partition("+")
    if kind != "sentinel":
        return None
    addresses = _addresses(parts, _SENTINEL_PORT)
    name, _, database = parts.path.removeprefix("/").partition("/")
    if not name:
        raise parts.wrong("the name of the primary is missing, such as mymaster behind the hosts")
    _check_database(parts, database)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    login = _login(options.pop("sentinel_username", ""), options.pop("sentinel_password", ""))
    tls = {option: value for option, value in options.items() if option.startswith("ssl_")}
    servers = f"{scheme}://{parts.login}{addresses[0]}/{database}?{urlencode(options)}"
    sentinels = tuple(f"{scheme}://{login}{each}?{urlencode(tls)}" for each in addresses)
    return SentinelURL(unquote(name), servers, sentinels)


def parse_cluster_url(url: str) -> ClusterURL | None:
    """The parts of a URL of a cluster; ``None`` where ``url`` is another one.

    Raises:
        InvalidURL: it cannot be used.
    """
    parts = _parts(url)
    scheme, _, kind = parts.scheme.partition("+")
    if kind != "cluster":
        return None
    addresses = _addresses(parts, _PORT)
    if parts.path.strip("/") or "db" in parse_qs(parts.query):
        raise parts.wrong("a cluster has one database, so its URL names none")
    servers = f"{scheme}://{parts.login}{addresses[0]}?{parts.query}"
    split = (urlsplit(f"//{each}") for each in addresses)
    return ClusterURL(servers, tuple((each.hostname or "", each.port or _PORT) for each in split))


def _parts(url: str) -> _Parts:
    scheme, _, rest = _NO_PART.sub("", url).partition("://")
    if scheme not in _FORMS:
        raise InvalidURL(f"it must begin with {', '.join(f'{each}://' for each in _FORMS)}")
    match = _PARTS.fullmatch(rest)
    assert match is not None, "whatever stands there is a part"
    login = match["login"]
    query = match["query"] or ""
    parts = _Parts(
        scheme, "" if login is None else f"{login}@", match["hosts"], match["path"], query
    )
    # A password that is cut at its "#", "/" or "?" leaves the "@" behind it in a later part.
    behind = query if scheme == "unix" else parts.path + query
    if "#" in rest or "@" in behind or not {"@", "[", "]"}.isdisjoint(login or ""):
        raise parts.wrong(
            "special characters in the user name, the password and the options must be percent-encoded: "
            "@ is %40, # is %23, / is %2F, ? is %3F"
        )
    return parts


def _login(user: str, password: str) -> str:
    return f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""


def _addresses(parts: _Parts, default_port: int) -> list[str]:
    """The hosts with their ports."""
    hosts = parts.hosts.split(",")
    if len(hosts) == 1:
        return [_address(parts, hosts[0], default_port)]
    return [
        _address(parts, host, default_port, f"host {number}")
        for number, host in enumerate(hosts, start=1)
    ]


def _address(parts: _Parts, host: str, default_port: int, which: str = "the host") -> str:
    """One of the hosts with its port."""
    name, port = _split(host)
    if not name:
        raise parts.wrong(f"{which} is missing, or cannot be read ({_IPV6})")
    if port and not (_NUMBER.fullmatch(port) and 0 < int(port) <= _HIGHEST_PORT):
        raise parts.wrong(
            f"the port of {which} must be a number from 1 to {_HIGHEST_PORT} ({_IPV6})"
        )
    return f"{f'[{name}]' if ':' in name else name}:{int(port or default_port)}"


def _split(host: str) -> tuple[str, str]:
    """Its name, empty if it cannot be read, and its port as it is written."""
    try:
        parts = urlsplit(f"//{host}")
        name = parts.hostname or ""
    except ValueError:
        return "", ""
    return (name if parts.netloc == host else ""), host.rpartition("]")[2].partition(":")[2]


def _check_database(parts: _Parts, database: str) -> None:
    """The redis package takes a database that is no number for 0, where somebody else's messages may be."""
    number = database.strip("/")
    if number and not number.isdecimal():
        raise parts.wrong("the database behind the last slash must be a number")
