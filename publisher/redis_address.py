"""Where the commands find Redis: as told, in the environment, or in a checkout that runs `make run`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from publisher.contract.keys import DEFAULT_PREFIX
from publisher.contract.redis_url import holds_password
from publisher.contract.secret_values import read_secret
from publisher.errors import InvalidData, InvalidInput

URL_VARIABLE: Final = "PUBLISHER_REDIS_URL"
PREFIX_VARIABLE: Final = "PUBLISHER_REDIS_PREFIX"
KEYS_VARIABLE: Final = "PUBLISHER_ENCRYPTION_KEYS"
ACTOR_VARIABLE: Final = "PUBLISHER_ACTOR"

# One line, written by a development gateway about the server it has started.
_URL_FILE: Final = Path(".gateway") / "redis.url"


class NoRedis(InvalidInput):
    """Nothing says where Redis is."""

    def __str__(self) -> str:
        return (
            f"no Redis given: set {URL_VARIABLE} (or --redis-url on the command line), or start a development gateway "
            f"with `make run` and call this from its checkout (it writes {_URL_FILE})"
        )


@dataclass(frozen=True, slots=True)
class Address:
    """Redis's URL, and the file that it was read from, if any."""

    # It may hold a password.
    url: str = field(repr=False)
    file: Path | None = None


def from_environment() -> tuple[str, dict[str, str | None]]:
    """Redis's URL, and further arguments of ``from_url``, as the environment or a development gateway gives them.

    Raises:
        NoRedis: there is no URL.
        InvalidData: a file that the environment names cannot be read.
    """
    address = find_redis(None, os.environ, Path.cwd())
    prefix = os.environ.get(PREFIX_VARIABLE) or DEFAULT_PREFIX
    actor = os.environ.get(ACTOR_VARIABLE) or None
    keys = encryption_keys(os.environ)
    return address.url, {"prefix": prefix, "encryption_keys": keys, "actor": actor}


def encryption_keys(environment: Mapping[str, str]) -> str | None:
    """The keys for encrypted namespaces, if the environment has any, or names a file with them.

    Raises:
        InvalidData: the file cannot be read.
    """
    given = environment.get(KEYS_VARIABLE)
    if not given:
        return None
    try:
        return read_secret(given)
    except InvalidData as error:
        raise InvalidData(f"{KEYS_VARIABLE}: {error}") from None


def find_redis(option: str | None, environment: Mapping[str, str], folder: Path) -> Address:
    """The URL: the option's, else the environment's (either may be an ``@FILE``), else that of ``folder`` or its
    nearest parent.

    Raises:
        NoRedis: there is none.
        InvalidData: the option holds a password, which other users of the machine could read; or the file cannot
            be read.
    """
    if option and holds_password(option):
        raise InvalidData(
            "--redis-url holds a password, which every user of this machine can read: "
            f"set {URL_VARIABLE}, or give --redis-url @FILE"
        )
    if given := option or environment.get(URL_VARIABLE):
        return Address(_read(given))
    for parent in (folder, *folder.parents):
        file = parent / _URL_FILE
        try:
            url = file.read_text("utf-8").strip()
        except OSError:
            continue
        if url:
            return Address(url, file)
    raise NoRedis


def _read(given: str) -> str:
    try:
        return read_secret(given)
    except InvalidData as error:
        raise InvalidData(f"the URL of Redis cannot be used: {error}") from None
