from __future__ import annotations

import os
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from gateway import redis_acl
from tests.support import programs, topology
from tests.support.certificates import Authority, trusting
from tests.support.redis_users import as_user, user_of_line

# What an example takes says more about the machine than about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "one_server(why): the test is about what a single server does, and left out on other topologies",
    )
    config.addinivalue_line(
        "markers",
        "thorough(topology): the test has servers of its own of this topology, and runs with TOPOLOGY of that name",
    )
    config.addinivalue_line(
        "markers", "long: the test is too long for every change; `make test-all` runs it"
    )
    try:
        topology.chosen()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("one_server"):
        topology.require_one_server(*marker.args)
    for marker in item.iter_markers("thorough"):
        topology.require(*marker.args)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis, with all rights: the server TEST_REDIS_URL names, else what TOPOLOGY says, for this worker."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
        return
    with topology.running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def primary_url(redis_url: str) -> str:
    """The single server behind ``redis_url`` that has the data, for a test's own look at it."""
    return topology.primary_url(redis_url)


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses, so that tests share a server."""
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def publisher_url(redis_url: str, prefix: str) -> Iterator[str]:
    """The same Redis as the publishers' user that ``gateway acl`` prints."""
    url = as_user(redis_url, f"publisher-{prefix}")
    with user_of_line(redis_url, redis_acl.lines(None, url, prefix)[1]):
        yield url


@pytest.fixture
def gateway_url(redis_url: str, prefix: str) -> Iterator[str]:
    """The same Redis as the gateways' user that ``gateway acl`` prints."""
    url = as_user(redis_url, f"gateway-{prefix}")
    with user_of_line(redis_url, redis_acl.lines(url, None, prefix)[0]):
        yield url


@pytest.fixture(scope="session")
def require_program() -> programs.RequireProgram:
    """``require_program("nginx")`` is the program's path, or skips the test."""
    return programs.require_program


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs certificates that nobody else trusts."""
    return Authority(tmp_path)


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    """The side of a client that trusts it."""
    return trusting(authority)


@pytest.fixture
def own_tls(authority: Authority) -> dict[str, Any]:
    """The settings of TLS on the clients' port."""
    signed = authority.sign("localhost", addresses=("127.0.0.1",))
    return {"tls_certificate": signed.certificate, "tls_key": signed.key}
