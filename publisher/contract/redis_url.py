"""Which URLs of Redis are taken, by publishers and by gateways.

What has a meaning in a URL (RFC 3986 §2.2) and is part of a user name or a password must be percent-encoded.
Otherwise the URL names another server, and the errors of the connection show a part of the password.
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qs, urlsplit

from publisher.errors import InvalidURL


def check_url(url: str) -> None:
    """Look at the parts of ``url`` that have one meaning only; its options are not looked at.

    Raises:
        InvalidURL: it is no URL of Redis, or something in it is not percent-encoded.
    """
    if not _is_clear(url):
        raise InvalidURL


def holds_password(url: str) -> bool:
    """Whether a password is in ``url``: before the host, or among its options."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.password) or "password" in parse_qs(parts.query)


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
