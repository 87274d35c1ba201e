"""Where an issuer publishes its keys: at a URL that is configured, or at the one its discovery document names."""

from __future__ import annotations

from typing import Final, Protocol

import orjson

from gateway.node.ports import Clock
from gateway.web.key_fetching import Fetch, NoKeys, host_of, is_local, is_trustworthy

_DOCUMENT: Final = "/.well-known/openid-configuration"
_MOST_BYTES: Final = 64 * 1_024
_SHOWN: Final = 200
"""So many characters of what a document says are told."""
_SECONDS: Final = 3_600.0
"""So long a document is believed."""
_RETRY_SECONDS: Final = 60.0
"""So long, when it could not be had again."""


class Place(Protocol):
    """Where keys are."""

    host: str
    """Whom to ask; for the log."""

    async def url(self) -> str:
        """Their URL.

        Raises:
            NoKeys: it could not be had.
        """

    def doubt(self) -> None:
        """There were no keys several times: they may have moved."""


class FixedPlace:
    """A URL that is configured."""

    def __init__(self, url: str) -> None:
        self.host = host_of(url)
        self._url = url

    async def url(self) -> str:
        """The URL."""
        return self._url

    def doubt(self) -> None:
        """It stays where it is."""


class DiscoveredPlace:
    """The URL that an issuer's discovery document names (OpenID Connect Discovery 1.0 §4).

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(self, issuer: str, fetch: Fetch, clock: Clock) -> None:
        self.host = host_of(issuer)
        self._issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._url: str | None = None
        self._asked_again_at = 0.0

    async def url(self) -> str:
        """The URL; the last one that was named where the document cannot be had again.

        Raises:
            NoKeys: there was never a document that can be believed.
        """
        if self._url is None or self._clock() >= self._asked_again_at:
            try:
                self._url = await self._ask()
            except NoKeys as error:
                if self._url is None:
                    raise NoKeys(f"discovery: {error}") from None
                # Who waits for a key is not to wait for this each time.
                self._asked_again_at = self._clock() + _RETRY_SECONDS
            else:
                self._asked_again_at = self._clock() + _SECONDS
        return self._url

    def doubt(self) -> None:
        """Ask for the document before the keys are asked for again."""
        self._asked_again_at = self._clock()

    async def _ask(self) -> str:
        fetched = await self._fetch(self._issuer.rstrip("/") + _DOCUMENT, _MOST_BYTES)
        try:
            document = orjson.loads(fetched.body)
        except orjson.JSONDecodeError:
            raise NoKeys("what came is not JSON") from None
        if not isinstance(document, dict):
            raise NoKeys("what came is no document")
        # Or another issuer's keys would be taken for this one's (§4.3).
        if document.get("issuer") != self._issuer:
            named = repr(str(document.get("issuer", ""))[:_SHOWN])
            raise NoKeys(
                f"the document names the issuer {named}, and {self._issuer!r} is configured: "
                "they must be equal, character by character"
            )
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not is_trustworthy(url):
            raise NoKeys("jwks_uri is neither https nor on this machine")
        # Nobody else's document sends requests to what only this machine can reach.
        if is_local(url) and not is_local(self._issuer):
            raise NoKeys("jwks_uri is on this machine, and the issuer is not")
        return url
