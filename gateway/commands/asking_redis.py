"""How a command asks for all gateways: through the publisher, at the Redis of the settings."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Final

from gateway.options import load_settings
from gateway.settings import UsageError
from publisher import Publisher
from publisher.errors import InvalidInput

SETTINGS: Final = ("redis_url", "redis_prefix")
"""What such a command looks at."""


@contextlib.contextmanager
def publisher(options: argparse.Namespace) -> Iterator[Publisher]:
    """A publisher for the time of the block.

    Raises:
        UsageError: the settings do not say where Redis is.
    """
    settings = load_settings(options)
    if settings.redis_url is None:
        raise UsageError("set GATEWAY_REDIS_URL: the gateways are asked there")
    url = settings.redis_url.get_secret_value()
    try:
        made = Publisher.from_url(url, prefix=settings.redis_prefix)
    except InvalidInput as error:
        raise UsageError(str(error)) from None
    with made:
        yield made
