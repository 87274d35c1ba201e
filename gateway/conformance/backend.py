"""What a backend does, by either way that a deployment has for it: through Redis, or by the HTTP API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol
from urllib.parse import quote

import aiohttp
import orjson

from gateway.conformance.verdicts import Skipped
from publisher import AsyncPublisher

_SECONDS: Final = 20.0


class Backend(Protocol):
    """The calls that checks need. Each raises :class:`Skipped` where this way may not do it.

    ``advice`` says what to look at where the gateway does not hear what is published.
    """

    advice: str

    async def publish(self, channel: str, data: Any) -> int:
        """Publish; returns the message's id."""

    async def grant(self, channel: str, user: str, ttl: int) -> None:
        """Let a user into a channel, for ``ttl`` seconds."""

    async def revoke(self, channel: str, user: str) -> None:
        """Take that back."""

    async def disconnect(self, user: str) -> None:
        """End a user's connections."""

    async def revoke_token(self, jti: str, until: float) -> None:
        """Let a token count no more; ``until``: its end, in seconds since 1970."""

    async def delete(self, channel: str, id: int) -> None:
        """Take a message out."""

    async def forget(self, user: str) -> None:
        """Erase what is kept of a user."""


class ByRedis:
    """As a backend with the publisher does it."""

    advice = "GATEWAY_REDIS_URL and GATEWAY_REDIS_PREFIX must be those of the gateways (gateway top lists the nodes of a Redis)"

    def __init__(self, publisher: AsyncPublisher) -> None:
        self._publisher = publisher

    async def publish(self, channel: str, data: Any) -> int:
        """See :class:`Backend`; so are the others."""
        return (await self._publisher.publish(channel, data)).id

    async def grant(self, channel: str, user: str, ttl: int) -> None:
        """Let a user in."""
        await self._publisher.grant(channel, user, ttl)

    async def revoke(self, channel: str, user: str) -> None:
        """Take a grant back."""
        await self._publisher.revoke(channel, user)

    async def disconnect(self, user: str) -> None:
        """End a user's connections."""
        await self._publisher.disconnect(user, reason="conformance")

    async def revoke_token(self, jti: str, until: float) -> None:
        """Let a token count no more."""
        await self._publisher.revoke_token(jti, until)

    async def delete(self, channel: str, id: int) -> None:
        """Take a message out."""
        await self._publisher.delete(channel, id)

    async def forget(self, user: str) -> None:
        """Erase a user."""
        await self._publisher.forget(user)


class ApiError(Exception):
    """The HTTP API does not take a call that the checks rest on."""


class ByApi:
    """As a backend in another language does it (docs/http-api.md)."""

    advice = "--api must be the URL of the same deployment's API"

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/").removesuffix("/v1")

    async def publish(self, channel: str, data: Any) -> int:
        """See :class:`Backend`; so are the others."""
        told = await self._call("POST", "publish", {"channel": channel, "data": data})
        return int(told["id"])

    async def grant(self, channel: str, user: str, ttl: int) -> None:
        """Let a user in."""
        await self._call("PUT", "grants", {"channel": channel, "user": user, "ttl": ttl})

    async def revoke(self, channel: str, user: str) -> None:
        """Take a grant back."""
        await self._call("DELETE", f"grants?channel={quote(channel, '')}&user={quote(user, '')}")

    async def disconnect(self, user: str) -> None:
        """End a user's connections."""
        await self._call("POST", "disconnect", {"user": user, "reason": "conformance"})

    async def revoke_token(self, jti: str, until: float) -> None:
        """Let a token count no more."""
        await self._call("POST", "revoke-token", {"jti": jti, "until": until})

    async def delete(self, channel: str, id: int) -> None:
        """Take a message out."""
        namespace, _, name = channel.partition("/")
        await self._call("DELETE", f"messages/{namespace}/{quote(name, '')}?message={id}")

    async def forget(self, user: str) -> None:
        """Erase a user."""
        await self._call("DELETE", f"users/{quote(user, '')}")

    async def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if body is not None:
            given = {"data": orjson.dumps(body), "headers": {"Content-Type": "application/json"}}
        try:
            async with self._session.request(method, f"{self._url}/v1/{path}", **given) as answer:
                text = await answer.read()
                if answer.status < 300:
                    told = orjson.loads(text) if text else {}
                    return told if isinstance(told, dict) else {}
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            raise ApiError(
                f"the HTTP API does not answer: {str(error) or type(error).__name__}"
            ) from None
        said = f"HTTP {answer.status} {text[:300].decode(errors='replace')}"
        if answer.status == 403:
            raise Skipped(f"the API key may not: {method} {path.partition('?')[0]} ({said})")
        raise ApiError(f"{method} /v1/{path.partition('?')[0]}: {said}")


@asynccontextmanager
async def by_api(url: str, key: str) -> AsyncIterator[ByApi]:
    """The HTTP API at this URL, with a key of it."""
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {key}"},
        timeout=aiohttp.ClientTimeout(total=_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield ByApi(session, url)
