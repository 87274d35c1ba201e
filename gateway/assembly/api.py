"""The sixth group: the HTTP API and the console, where they are. They are a backend like any other, but for their ports."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.api.admission import Admission
from gateway.api.asking import Sources
from gateway.api.exchange import ApiExchange
from gateway.api.keys import ApiKeys
from gateway.api.presence import PresenceLists
from gateway.api.publishers import Publishers
from gateway.api.server import Api
from gateway.assembly.access import Access
from gateway.assembly.entrance import Entrance
from gateway.assembly.shared import CLOCK, VERSION, Shared
from gateway.settings import Settings
from gateway.web.console import Console
from gateway.web.pages import HttpPages
from gateway.web.server import InternalPort
from publisher import AsyncPublisher


class HttpApi:
    """Its keys, its publishers and its port."""

    def __init__(self, shared: Shared, access: Access, entrance: Entrance) -> None:
        settings = shared.settings
        # Its calls are in the node's audit log, where that is kept.
        logging.getLogger("publisher.audit").setLevel(logging.WARNING)
        keys = settings.api_keys
        self._keys = ApiKeys(keys.get_secret_value() if keys is not None else None, CLOCK)
        admission = Admission()
        self._publishers = Publishers(lambda name: _publisher(settings, name), admission)
        self._presence = PresenceLists()
        self._inquiries = access.inquiries
        self._api = api = Api(
            self._keys,
            admission,
            self._publishers,
            Sources(self._presence, self._inquiries),
            shared.stats,
            VERSION,
        )
        if settings.console:
            console = Console(settings.console_hosts)
            console.serve_in(entrance.internal_app)
            api.serve_in(entrance.internal_app, console.guarded)
        self.pages = HttpPages(api.app(), ApiExchange)
        self.port = InternalPort(self.pages, entrance.refused)

    def leave(self) -> None:
        """The node drains: what is asked now is the last on its connection, and who watches is told that it is over."""
        self._api.leave()
        self._inquiries.leave()

    async def start(self) -> None:
        """Make it ready to serve.

        Raises:
            BadApiKeys: there are no keys, or they cannot be used.
        """
        await self._keys.start()
        await self.pages.start()

    def loops(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What runs as long as the node does."""
        return [self._follow_keys]

    async def _follow_keys(self) -> None:
        async for names in self._keys.changes():
            await self._publishers.keep(names)

    async def aclose(self) -> None:
        """Let requests under way end, and close the connections to Redis."""
        await self.pages.aclose()
        await self._presence.aclose()
        await self._publishers.aclose()


def _publisher(settings: Settings, name: str) -> AsyncPublisher:
    url, keys = settings.redis_url, settings.encryption_keys
    assert url is not None
    return AsyncPublisher.from_url(
        url.get_secret_value(),
        prefix=settings.redis_prefix,
        timeout=settings.redis_timeout_seconds,
        encryption_keys=keys.get_secret_value() if keys is not None else None,
        actor=name,
    )
