"""A pytest plugin: fixtures with a real gateway for other people's tests (docs/testing.md).

Whoever wants it says so in the ``conftest.py`` at the top of their tests::

    pytest_plugins = ["gateway.testing"]

So nobody pays for it who has not asked, and nothing of a gateway is imported before a test needs one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gateway.testing.host import Host
    from gateway.testing.realtime_gateway import RealtimeGateway


@pytest.fixture
def realtime_gateway_settings() -> dict[str, Any]:
    """Settings of the gateway by their names in docs/configuration.md, in lower case. Override it in your ``conftest.py``.

    With a ``redis_url`` that Redis is used, under a prefix that nobody else has, in the place of a server of the tests' own.
    """
    return {}


@pytest.fixture(scope="session")
def realtime_gateway_host() -> Iterator[Host]:
    """The process that runs the gateways of this run, and their Redis."""
    from gateway.testing.host import Host  # noqa: PLC0415 - for those who ask

    with Host() as host:
        yield host


@pytest.fixture
def realtime_gateway(
    realtime_gateway_host: Host, realtime_gateway_settings: dict[str, Any]
) -> Iterator[RealtimeGateway]:
    """A gateway of the test's own, that takes connections. It knows nothing of what other tests have done."""
    from gateway.testing.host import CannotServe  # noqa: PLC0415
    from gateway.testing.realtime_gateway import RealtimeGateway  # noqa: PLC0415

    served = realtime_gateway_host.serve(realtime_gateway_settings)
    if isinstance(served, CannotServe):
        pytest.fail(f"realtime_gateway: {served}", pytrace=False)
    gateway = RealtimeGateway(served, realtime_gateway_host, realtime_gateway_settings)
    try:
        yield gateway
    finally:
        gateway.close()
        realtime_gateway_host.end()
