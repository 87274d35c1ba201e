"""Where a command asks about all gateways: the Redis of the settings."""

from __future__ import annotations

import argparse
from typing import Final

from gateway.options import load_settings
from gateway.settings import UsageError

SETTINGS: Final = ("redis_url", "redis_prefix")
"""What such a command looks at."""


def where(options: argparse.Namespace) -> tuple[str, str]:
    """URL and prefix, for a publisher.

    Raises:
        UsageError: the settings do not say where Redis is.
    """
    settings = load_settings(options)
    if settings.redis_url is None:
        raise UsageError("set GATEWAY_REDIS_URL: the gateways are asked there")
    return settings.redis_url.get_secret_value(), settings.redis_prefix
