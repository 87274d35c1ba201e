"""Fetching an issuer's keys, and the document that says where they are: small, soon, and from nowhere else."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from gateway.core.hosts import is_this_machine

_SECONDS: Final = aiohttp.ClientTimeout(total=5, connect=3)
# What is compressed would be as large as its sender likes, so it is asked for as it is.
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}
_OK: Final = 200
_REDIRECTS: Final = range(300, 400)
_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])", re.IGNORECASE)


class NoKeys(Exception):
    """An issuer's keys could not be had. The message says why, and holds no URL: one may have a key in its query."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document, and for how many seconds it may be kept, if its server says so."""

    body: bytes
    max_age: float | None = None


Fetch = Callable[[str, int], Awaitable[Fetched]]
"""Fetches the document at a URL that has no more than so many bytes.

Raises:
    NoKeys: it could not.
"""


def host_of(url: str) -> str:
    """The host of a URL, which may be told; a part that cannot be read is left out."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_trustworthy(url: str) -> bool:
    """Whether what comes from a URL can be nobody else's: over TLS, or from this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or parts.username is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_local(url))


def is_local(url: str) -> bool:
    """Whether a URL, which can be read, leads to this machine."""
    return is_this_machine(host_of(url))


async def fetch(url: str, most: int) -> Fetched:
    """A ``Fetch`` over HTTP. For an https URL it goes through the proxy that the environment names, if it names one; what
    is in clear text goes to this machine, and through nobody's hands.

    It follows no redirect, keeps no cookie, shows no login of a ``.netrc``, and takes five seconds at most.
    """
    async with (
        aiohttp.ClientSession(
            timeout=_SECONDS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        ) as session,
    ):
        try:
            async with session.get(
                url, headers=_HEADERS, allow_redirects=False, proxy=_proxy_for(url)
            ) as answer:
                _check_status(answer)
                found = _MAX_AGE.search(answer.headers.get("Cache-Control", ""))
                max_age = float(found[1]) if found else None
                return Fetched(await _body(answer.content, most), max_age)
        except TimeoutError:
            raise NoKeys("no answer in time") from None
        except aiohttp.ClientConnectorError as error:
            raise NoKeys(f"no connection: {error.strerror or type(error).__name__}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoKeys(f"the answer cannot be read ({type(error).__name__})") from None


def _proxy_for(url: str) -> str | None:
    # aiohttp's trust_env would know the proxy as well, and send the login that a .netrc has for the URL's host.
    if urlsplit(url).scheme != "https" or proxy_bypass(host_of(url)):
        return None
    return getproxies().get("https")


def _check_status(answer: aiohttp.ClientResponse) -> None:
    if answer.status in _REDIRECTS:
        to = host_of(answer.headers.get("Location", "")) or "elsewhere"
        raise NoKeys(f"a redirect to {to}, which is not followed")
    if answer.status != _OK:
        raise NoKeys(f"status {answer.status}")


async def _body(content: aiohttp.StreamReader, most: int) -> bytes:
    body = bytearray()
    async for part in content.iter_any():
        body += part
        if len(body) > most:
            raise NoKeys(f"more than {most} bytes")
    return bytes(body)
