"""The protocol holds behind the proxies of the deployment, with the very files that operators take."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from gateway.conformance.backend import ByRedis
from gateway.conformance.opening import address_of
from gateway.conformance.stage import Deployment
from gateway.conformance.suite import Result, run
from gateway.conformance.tokens import Signer
from publisher import AsyncPublisher
from tests.support.haproxy import haproxy_before
from tests.support.nginx import Nginx
from tests.support.processes import gateway_process
from tests.support.programs import RequireProgram
from tests.support.tokens import SECRET

# A line is silent for two minutes and a half.
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


async def failed(url: str, redis_url: str, prefix: str) -> list[Result]:
    """What fails at this URL."""
    async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
        signer = Signer(SECRET, "HS256", "sub")
        results = await run(Deployment(address_of(url), signer, ByRedis(publisher)), slow=True)
    assert sum(each.result == "passed" for each in results) > 60
    return [each for each in results if each.result == "failed"]


async def test_behind_nginx(
    redis_url: str, prefix: str, balanced: Callable[..., AbstractAsyncContextManager[Nginx]]
) -> None:
    async with (
        gateway_process(redis_url, prefix) as first,
        gateway_process(redis_url, prefix) as second,
        balanced(first.port, second.port) as nginx,
    ):
        assert await failed(nginx.url, redis_url, prefix) == []


async def test_behind_haproxy(
    redis_url: str, prefix: str, tmp_path: Path, require_program: RequireProgram
) -> None:
    program = require_program("haproxy")
    async with (
        gateway_process(redis_url, prefix) as first,
        gateway_process(redis_url, prefix) as second,
    ):
        balancer = haproxy_before(program, tmp_path, first.port, second.port)
        async with balancer.running():
            assert await failed(balancer.url, redis_url, prefix) == []
