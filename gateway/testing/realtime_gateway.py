"""What a test has of its gateway."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from gateway.testing.host import Host, Served
from publisher import AsyncPublisher, Publisher


class RealtimeGateway:
    """A gateway that runs while the test does.

    Attributes:
        url: for clients, ``ws://127.0.0.1:PORT``.
        redis_url: where its publishers send, with the ``prefix``, which no other test has.
        jwt_secret: what its tokens are signed with (HS256); ``None`` where the settings name another key.
    """

    def __init__(self, served: Served, host: Host, settings: Mapping[str, Any]) -> None:
        self.url = f"ws://127.0.0.1:{served.port}"
        self.redis_url = served.redis_url
        self.prefix = served.prefix
        self.jwt_secret = served.jwt_secret
        self._host = host
        self._encryption_keys = settings.get("encryption_keys")

    @property
    def environment(self) -> dict[str, str]:
        """The variables from which ``Publisher.from_env`` finds it."""
        found = {"PUBLISHER_REDIS_URL": self.redis_url, "PUBLISHER_REDIS_PREFIX": self.prefix}
        if self._encryption_keys is not None:
            found["PUBLISHER_ENCRYPTION_KEYS"] = self._encryption_keys
        return found

    def token(self, user: str, *, channels: Iterable[str] = (), lifetime: int = 3600) -> str:
        """A token for a user, for so many seconds; ``channels`` that it lets them into besides those of grants.

        Raises:
            gateway.testing.host.CannotServe: the gateway's key cannot sign.
        """
        return self._host.token(user, list(channels), lifetime)

    @cached_property
    def publisher(self) -> Publisher:
        """A publisher to its users."""
        return Publisher.from_url(
            self.redis_url, prefix=self.prefix, encryption_keys=self._encryption_keys
        )

    @cached_property
    def async_publisher(self) -> AsyncPublisher:
        """The same for asyncio. Its connections end with the test's event loop."""
        return AsyncPublisher.from_url(
            self.redis_url, prefix=self.prefix, encryption_keys=self._encryption_keys
        )

    def close(self) -> None:
        """Close the blocking publisher's connections."""
        if "publisher" in vars(self):
            self.publisher.close()
