from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from tests.support import programs
from tests.support.redis_server import redis_server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server: the one TEST_REDIS_URL names, else one of this worker's own."""
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


@pytest.fixture(scope="session")
def require_program() -> programs.RequireProgram:
    """``require_program("nginx")`` is the program's path, or skips the test."""
    return programs.require_program
