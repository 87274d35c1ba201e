"""The HTTP API as a backend uses it, and keys for it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

KEY = "backend-key-of-the-tests-0123456789"
READER = "reader-key-of-the-tests-0123456789"
SLOW = "slow-key-of-the-tests-01234567890123"
KEYS: dict[str, Any] = {
    "backend": {"key": KEY, "scopes": ["publish", "grant", "read", "disconnect"]},
    "reader": {
        "key_sha256": hashlib.sha256(READER.encode()).hexdigest(),
        "scopes": ["read"],
        "namespaces": ["run-results"],
    },
    "slow": {"key": SLOW, "scopes": ["publish"], "rate": 2, "namespaces": ["notifications"]},
}


@dataclass
class Answered:
    """What the API has answered."""

    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.text.splitlines()]


@dataclass
class Api:
    """The HTTP API of a running gateway."""

    url: str
    session: aiohttp.ClientSession

    async def ask(
        self,
        method: str,
        path: str,
        key: str | None = KEY,
        body: Any = None,
        **options: Any,
    ) -> Answered:
        """Ask, with ``body`` as JSON where there is one."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers.setdefault("Authorization", f"Bearer {key}")
        if body is not None:
            options["data"] = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if isinstance(options.get("data"), str):
            # aiohttp warns of long strings.
            options["data"] = io.BytesIO(options["data"].encode())
        async with self.session.request(
            method, self.url + path, headers=headers, **options
        ) as answer:
            return Answered(answer.status, answer.headers, await answer.text())

    async def lines(self, lines: list[Any], key: str = KEY, **options: Any) -> Answered:
        """Publish many."""
        text = "".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in lines)
        given = {"Content-Type": "application/x-ndjson"}
        return await self.ask("POST", "/v1/publish-many", key, data=text, headers=given, **options)


@contextlib.asynccontextmanager
async def api_at(url: str) -> AsyncIterator[Api]:
    """The API at this address."""
    async with aiohttp.ClientSession() as session:
        yield Api(url, session)


def keys_in(folder: Path) -> Path:
    """A file with the keys of the tests."""
    file = folder / "api-keys.json"
    file.write_text(json.dumps(KEYS))
    return file
