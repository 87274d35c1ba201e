"""Which Redis a command uses that starts none: that of the settings, or else that of `make run`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.options import load_settings
from gateway.settings import Settings, UsageError
from publisher import redis_address

SETTINGS: Final = ("redis_url", "redis_prefix")
"""What such a command looks at."""

HELP: Final[Mapping[str, str]] = {
    "redis_url": "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://, or @FILE; without it, in a checkout "
    "that of its `make run`"
}
"""What the option is in such a command."""


def where(options: argparse.Namespace) -> tuple[str, str]:
    """URL and prefix, for a publisher.

    Raises:
        UsageError: nothing says where Redis is.
    """
    settings = load_settings(options)
    return url_of(settings), settings.redis_prefix


def url_of(settings: Settings) -> str:
    """The URL of the settings, or that of the development gateway in whose checkout the command was called.

    Raises:
        UsageError: there is neither.
    """
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    try:
        return redis_address.find_redis(None, {}, Path.cwd()).url
    except redis_address.NoRedis:
        raise UsageError(
            "no Redis given: set GATEWAY_REDIS_URL, or call this in a checkout in which `make run` is running"
        ) from None
