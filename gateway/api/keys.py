"""The keys of the HTTP API: who may do what, and how often. Their file is read again when it has changed."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.core.rate_limit import TokenBucket
from gateway.node.ports import Clock
from gateway.web.file_state import state_of
from publisher.contract.secret_values import names_file, read_secret
from publisher.errors import InvalidInput

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 2.0
_SHORTEST: Final = 32
"""As for a JWT secret: what is shorter can be guessed."""
_SETTING: Final = "GATEWAY_API_KEYS"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FIELDS: Final = frozenset({"key", "key_sha256", "scopes", "namespaces", "rate"})


class BadApiKeys(Exception):
    """The keys cannot be used; the message says which, and why, and repeats none."""


class Scope(StrEnum):
    """What a key may do."""

    PUBLISH = "publish"
    GRANT = "grant"
    READ = "read"
    DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key.

    Attributes:
        name: on whose behalf its calls are made.
        digest: SHA-256 of the key itself, which is kept nowhere.
        scopes: what it may do.
        namespaces: where it may do that; ``None`` for everywhere.
        rate: messages that it may publish in a second at each node; ``None`` for any number.
    """

    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[Scope]
    namespaces: frozenset[str] | None = None
    rate: float | None = None


def parse(text: str) -> dict[bytes, ApiKey]:
    """The keys of a JSON object ``{"name": {"key" | "key_sha256", "scopes", "namespaces"?, "rate"?}}``, by digest.

    Raises:
        BadApiKeys: what to correct.
    """
    try:
        described = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadApiKeys(f"{_SETTING} is no JSON: {error.msg}, {where}") from None
    if not isinstance(described, dict) or not described:
        raise BadApiKeys(f"{_SETTING} must be a JSON object with a name for each key")
    found: dict[bytes, ApiKey] = {}
    for name, each in described.items():
        if not _NAME.fullmatch(name):
            raise BadApiKeys(
                f"{_SETTING}: a name has 1 to 64 letters, digits and . _ -, and not {name!r}"
            )
        key = _key(name, each)
        if key.digest in found:
            raise BadApiKeys(f"{_SETTING}: {found[key.digest].name} and {name} have the same key")
        found[key.digest] = key
    return found


def _key(name: str, described: object) -> ApiKey:
    if not isinstance(described, dict):
        raise BadApiKeys(f"{_SETTING}: {name} must be an object with a key and scopes")
    if unknown := sorted(described.keys() - _FIELDS):
        raise BadApiKeys(f"{_SETTING}: {name} has {', '.join(unknown)}, which nothing reads")
    return ApiKey(
        name,
        _digest(name, described),
        _scopes(name, described.get("scopes")),
        _namespaces(name, described.get("namespaces")),
        _rate(name, described.get("rate")),
    )


def _digest(name: str, described: Mapping[str, Any]) -> bytes:
    key, digest = described.get("key"), described.get("key_sha256")
    if (key is None) == (digest is None):
        raise BadApiKeys(f"{_SETTING}: {name} needs either key or key_sha256")
    if digest is not None:
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise BadApiKeys(f"{_SETTING}: key_sha256 of {name} must be 64 hexadecimal digits")
        return bytes.fromhex(digest)
    if not isinstance(key, str) or not key.isascii() or len(key) < _SHORTEST or " " in key:
        raise BadApiKeys(
            f"{_SETTING}: the key of {name} must have {_SHORTEST} ASCII characters or more and no space; "
            "make one with: openssl rand -base64 32"
        )
    return _digest_of(key)


def _scopes(name: str, given: object) -> frozenset[Scope]:
    known = [each.value for each in Scope]
    if not isinstance(given, list) or not given or any(each not in known for each in given):
        raise BadApiKeys(f"{_SETTING}: scopes of {name} must be a list of {', '.join(known)}")
    return frozenset(map(Scope, given))


def _namespaces(name: str, given: object) -> frozenset[str] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not given or not all(isinstance(x, str) for x in given):
        raise BadApiKeys(f"{_SETTING}: namespaces of {name} must be a list of names, or left out")
    return frozenset(given)


def _rate(name: str, given: object) -> float | None:
    if given is None:
        return None
    if type(given) not in {int, float} or not 1 <= given <= 1e9:  # type: ignore[operator]
        raise BadApiKeys(
            f"{_SETTING}: rate of {name} must be messages a second, 1 or more, or left out"
        )
    return float(given)  # type: ignore[arg-type]


def _digest_of(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def read(setting: str | None) -> dict[bytes, ApiKey]:
    """The keys that a setting holds, or that its file does (``@FILE``).

    Raises:
        BadApiKeys: there are none, or they cannot be read or used.
    """
    if setting is None:
        raise BadApiKeys(
            f"GATEWAY_API_PORT and GATEWAY_CONSOLE need {_SETTING}: who may use the HTTP API and the console"
        )
    try:
        return parse(read_secret(setting))
    except (InvalidInput, ValueError) as error:
        raise BadApiKeys(f"{_SETTING}: {error}") from None


class ApiKeys:
    """The keys that count now.

    Args:
        setting: the keys as JSON, or ``@FILE``.
        clock: monotonic, in seconds.
    """

    def __init__(self, setting: str | None, clock: Clock) -> None:
        self._setting = setting
        self._clock = clock
        self._buckets: dict[tuple[str, float], TokenBucket] = {}
        self._file = Path(setting[1:]) if setting and names_file(setting) else None
        self._state: tuple[int, ...] | None = None
        self._keys: dict[bytes, ApiKey] = {}

    async def start(self) -> None:
        """Read them.

        Raises:
            BadApiKeys: there are none, or they cannot be used.
        """
        if self._file is not None:
            self._state = await asyncio.to_thread(state_of, self._file)
        self._keys = await asyncio.to_thread(read, self._setting)

    def find(self, presented: str) -> ApiKey | None:
        """The key that is shown, if it is one."""
        digest = _digest_of(presented)
        # What is looked up is a digest: how long that takes tells nothing of a key, whatever is shown.
        return self._keys.get(digest)

    def counts(self, key: ApiKey) -> bool:
        """Whether a key that was found before is still there, and may as much as then."""
        return self._keys.get(key.digest) == key

    def take(self, key: ApiKey, messages: int) -> bool:
        """Whether it may publish so many messages now; then they are counted."""
        if key.rate is None:
            return True
        bucket = self._buckets.get((key.name, key.rate))
        now = self._clock()
        if bucket is None:
            bucket = TokenBucket(key.rate, key.rate, now)
            self._buckets[key.name, key.rate] = bucket
        return bucket.take(messages, now)

    async def changes(self) -> AsyncIterator[set[str]]:
        """Look again and again whether the file has changed; the names of the keys after each look.

        Keys that are in no file cannot change.
        """
        while self._file is not None:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._look()
            yield {each.name for each in self._keys.values()}

    async def _look(self) -> None:
        """Take over a file that has changed; what cannot be used leaves the keys as they are."""
        assert self._file is not None
        state = await asyncio.to_thread(state_of, self._file)
        if state == self._state:
            return
        self._state = state
        try:
            self._keys = await asyncio.to_thread(read, self._setting)
        except BadApiKeys as error:
            log.error("api_keys_unusable former_ones=stay error=%s", error)  # noqa: TRY400
            return
        names = frozenset(each.name for each in self._keys.values())
        self._buckets = {of: bucket for of, bucket in self._buckets.items() if of[0] in names}
        log.info("api_keys_read keys=%d", len(self._keys))
