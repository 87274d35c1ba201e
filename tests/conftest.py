from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from publisher.contract import rights
from publisher.contract.keys import Keys
from tests.support import programs
from tests.support.redis_server import redis_server
from tests.support.redis_users import redis_user

# What an example takes says more about the machine than about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server: the one TEST_REDIS_URL names, else one of this worker's own. All rights are there."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
        return
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses, so that tests share a server."""
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def publisher_url(redis_url: str, prefix: str) -> Iterator[str]:
    """The same server with the least rights that a publisher needs."""
    with redis_user(redis_url, f"publisher-{prefix}", rights.of_a_publisher(Keys(prefix))) as url:
        yield url


@pytest.fixture
def gateway_url(redis_url: str, prefix: str) -> Iterator[str]:
    """The same server with the least rights that a node needs."""
    with redis_user(redis_url, f"gateway-{prefix}", rights.of_a_gateway(Keys(prefix))) as url:
        yield url


@pytest.fixture(scope="session")
def require_program() -> programs.RequireProgram:
    """``require_program("nginx")`` is the program's path, or skips the test."""
    return programs.require_program
