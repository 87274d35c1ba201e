from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.support.nginx import Nginx, nginx_before
from tests.support.programs import RequireProgram

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="session")
def dockerfile() -> list[str]:
    """The instructions, one a line."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.fixture
def nginx(tmp_path: Path, require_program: RequireProgram) -> Callable[..., Nginx]:
    """``nginx(*ports)`` is an nginx in front of gateways at these ports."""
    program = require_program("nginx")
    return lambda *ports: nginx_before(program, tmp_path / "nginx", *ports)


@pytest.fixture
def balanced(nginx: Callable[..., Nginx]) -> Callable[..., AbstractAsyncContextManager[Nginx]]:
    """The same, running until the block ends."""

    @contextlib.asynccontextmanager
    async def run(*ports: int) -> AsyncIterator[Nginx]:
        balancer = nginx(*ports)
        async with balancer.running():
            yield balancer

    return run
