"""The backend's URL: which ones are taken, and one request to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from gateway.core.hosts import is_this_machine
from gateway.webhooks.signing import body_of, headers_of
from publisher import Event

_SECONDS: Final = 10.0
_AT_ONCE: Final = 100


class BadURL(ValueError):
    """A URL that events are not sent to."""


def check_url(url: str, *, hidden: bool) -> None:
    """See to it that nobody on the way can read the events.

    Args:
        url: the receiver's.
        hidden: it is not among the arguments of the process, where other users of the machine could see a password.

    Raises:
        BadURL: it is no https, and no http to this machine; or it holds a password and is not hidden.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise BadURL("it is no URL") from None
    if not host:
        raise BadURL("it names no host")
    if not hidden and (parts.username is not None or parts.password is not None):
        raise BadURL(
            "it must not hold a password, which other users of this machine can see: put it into a file, and give @FILE"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and is_this_machine(host)):
        raise BadURL("it must begin with https://, or with http:// and lead to this machine")


class Receiver:
    """Sends events to a URL, each in a request of its own, 100 at a time at most; redirects are not followed."""

    def __init__(self, url: str, secrets: Sequence[bytes]) -> None:
        self._url = url
        self._secrets = secrets
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
            connector=aiohttp.TCPConnector(limit=_AT_ONCE),
            headers={"user-agent": "realtime-gateway-webhooks"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def __call__(self, event: Event) -> int | str:
        """Send an event; returns the status of the answer, or why there is none after ten seconds."""
        body = body_of(event)
        async with self._at_once:
            headers = headers_of(event, body, self._secrets, time.time())
            try:
                async with self._session.post(
                    self._url, data=body, headers=headers, allow_redirects=False
                ) as answer:
                    return answer.status
            except TimeoutError:
                return "no answer in time"
            except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
                # What they say has the URL in it, which may hold a secret.
                return type(error).__name__
            except (aiohttp.ClientError, OSError) as error:
                return str(error) or type(error).__name__

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()
