"""Which pages may connect: the ``Origin`` of a handshake (RFC 6454 §7), held against what the settings allow.

A browser writes an origin in one form only: small letters, international names in ASCII, the port only where it is
not the scheme's own, nothing behind it. Patterns are brought to this form. One that no browser's origin could match
is refused, since it would silently keep everybody out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv6Address, ip_address
from typing import Final

_EVERY_PAGE: Final = "*"
_OPAQUE: Final = "null"
"""What a browser sends for a page without an origin of its own, such as a sandboxed frame."""

_OWN_PORTS: Final = {"http": ":80", "https": ":443"}
_LAST_PORT: Final = 65_535

_PARTS: Final = re.compile(r"([^:/?#@]*)://(\[[^]/?#@]*\]|[^:/?#@]*)(?::([^/?#@]*))?")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
_LABEL: Final = r"[a-z0-9_~-]+"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_ANY_HOST: Final = rf"(?:{_NAME.pattern}|\[[0-9a-f:.]+\])"


class BadOrigin(ValueError):
    """A pattern that no page's origin can match; the message says why."""

    def __init__(self, pattern: str, reason: str) -> None:
        super().__init__(f"{pattern!r} can never match the origin of a page: {reason}")


def of_strangers(patterns: Iterable[str]) -> list[str]:
    """Those patterns that pages of anybody match: they name no host."""
    return [each for each in patterns if _is_of_strangers(_as_browsers_write(each))]


def _is_of_strangers(text: str) -> bool:
    if text in {_EVERY_PAGE, _OPAQUE}:
        return True
    parts = _PARTS.fullmatch(text)
    return parts is not None and parts[2] in {"", "*"}


def in_clear_text(patterns: Iterable[str]) -> list[str]:
    """Those patterns that pages match which came over http: whoever is on the way can put a script into them.

    Not those of this machine, from which nobody is on the way.
    """
    return [each for each in patterns if _is_in_clear_text(_as_browsers_write(each))]


def _is_in_clear_text(text: str) -> bool:
    parts = _PARTS.fullmatch(text)
    return parts is not None and parts[1] == "http" and not _is_here(parts[2])


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 §6.3
        return True
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


class AllowedOrigins:
    """The pages that may connect.

    Args:
        patterns: origins. In ``https://*.example.org`` the star stands for one or more labels, as in a Content Security
            Policy; in ``http://localhost:*`` for any port, in ``https://*`` for any host. ``*`` alone allows
            every page, and so do no patterns at all.

    Raises:
        BadOrigin: one of them can never match.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        expressions = [_expression(pattern) for pattern in patterns] or [".*"]
        self._allowed = re.compile("|".join(expressions), re.DOTALL)

    def allow(self, origin: str | None) -> bool:
        """Whether a page of this origin may connect. ``None``: a client that is no browser, and names none."""
        return origin is None or self._allowed.fullmatch(_as_browsers_write(origin)) is not None


def _as_browsers_write(origin: str) -> str:
    origin = origin.lower()
    if origin.count("/") == 3:
        origin = origin.removesuffix("/")
    return origin.removesuffix(_OWN_PORTS.get(origin.partition(":")[0], ""))


def _expression(pattern: str) -> str:
    """A regular expression for the origins that a pattern stands for."""
    if pattern == _EVERY_PAGE:
        return ".*"
    text = _as_browsers_write(pattern)
    if text == _OPAQUE:
        return text
    parts = _PARTS.fullmatch(text)
    if parts is None or not text.isascii():
        raise BadOrigin(pattern, _fault(text))
    scheme, host, port = parts.groups()
    if scheme in {"ws", "wss"}:
        raise BadOrigin(
            pattern, "an origin is the address of the page, which begins with https:// or http://"
        )
    if not _SCHEME.fullmatch(scheme):
        raise BadOrigin(pattern, "what stands before :// is no scheme")
    return f"{re.escape(scheme)}://{_host(pattern, scheme, host)}{_port(pattern, port)}"


def _fault(text: str) -> str:
    if not text.isascii():
        return "browsers write international names in ASCII (xn--…)"
    if "://" not in text:
        return "it has no scheme; write https:// or http:// before it"
    return "an origin has no user" if "@" in text else "an origin has no path"


def _host(pattern: str, scheme: str, host: str) -> str:
    if host == "*":
        return _ANY_HOST
    if host.startswith("["):
        try:
            return re.escape(f"[{IPv6Address(host[1:-1])}]")
        except AddressValueError:
            raise BadOrigin(pattern, "what stands in [] is no IPv6 address") from None
    below, name = (rf"(?:{_LABEL}\.)+", host[2:]) if host.startswith("*.") else ("", host)
    nameless = not host and scheme not in _OWN_PORTS  # file://
    if not (nameless or _NAME.fullmatch(name)):
        raise BadOrigin(
            pattern,
            "its host is no name; * stands for a whole host, or for the labels before a name "
            "(https://*.example.org)",
        )
    return below + re.escape(name)


def _port(pattern: str, port: str | None) -> str:
    if not port:
        return ""
    if port == "*":
        return "(?::[0-9]+)?"
    if not (port.isdecimal() and 0 < int(port) <= _LAST_PORT and str(int(port)) == port):
        raise BadOrigin(pattern, f"its port must be * or a number from 1 to {_LAST_PORT}")
    return f":{port}"
