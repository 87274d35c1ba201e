from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.deployment import running_world
from tests.faults.world import World

StartWorld = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def seed() -> int:
    """What the scenario's dice begin with: ``FAULTS_SEED``, else another each time."""
    return int(os.environ.get("FAULTS_SEED") or random.randrange(2**32))


@pytest.fixture
def world(tmp_path: Path, seed: int) -> StartWorld:
    """``async with world(nodes=2) as w`` is a deployment under load."""

    def start(**options: Any) -> AbstractAsyncContextManager[World]:
        return running_world(tmp_path, seed, **options)

    return start
