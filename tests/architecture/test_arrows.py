"""Imports point one way: publisher's contract ← core ← node ← {backplane, web} ← app ← cli."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.arrows import broken_rules, circles, modules

ROOT = Path(__file__).parents[2]


def test_no_arrow_turns() -> None:
    assert broken_rules(ROOT) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(ROOT) == []


def test_every_module_of_the_tree_was_looked_at() -> None:
    found = modules(ROOT)
    assert {"gateway.core.protocol", "gateway.node.hub", "gateway.cli", "publisher"} <= set(found)
    assert len(found) > 40


TREE = [
    "gateway/__init__.py",
    "gateway/core/__init__.py",
    "gateway/core/rules.py",
    "gateway/node/__init__.py",
    "gateway/node/hub.py",
    "gateway/backplane/__init__.py",
    "gateway/backplane/feed.py",
    "gateway/web/__init__.py",
    "gateway/web/socket.py",
    "gateway/development/__init__.py",
    "gateway/settings.py",
    "gateway/metrics.py",
    "gateway/logs.py",
    "gateway/development/redis_server.py",
    "gateway/app.py",
    "gateway/cli.py",
    "gateway/commands/serve.py",
    "publisher/__init__.py",
    "publisher/contract/__init__.py",
    "publisher/contract/message.py",
    "publisher/contract/scripts/__init__.py",
    "publisher/client.py",
    "publisher/errors.py",
]


def tree(root: Path, file: str, source: str) -> list[str]:
    """What is wrong with a tree in which only ``file`` says anything."""
    for name in TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / file).write_text(source)
    return broken_rules(root)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (
            "gateway/core/rules.py",
            "import re\nimport orjson\nfrom publisher.contract.message import Message",
        ),
        ("gateway/core/rules.py", "from gateway.core import protocol"),
        ("gateway/node/hub.py", "import asyncio\nfrom gateway.core.rules import x"),
        ("gateway/node/hub.py", "from publisher.errors import Unavailable"),
        ("gateway/backplane/feed.py", "import redis.asyncio\nfrom gateway.node import hub"),
        (
            "gateway/backplane/feed.py",
            "from publisher.contract import calls\nimport publisher.transport.pipeline",
        ),
        ("gateway/web/socket.py", "from aiohttp import web\nfrom gateway.node.hub import Hub"),
        ("gateway/app.py", "from gateway.backplane import feed\nfrom gateway.web import socket"),
        ("gateway/cli.py", "from gateway.commands import serve"),
        ("gateway/commands/serve.py", "from gateway.app import Gateway"),
        ("gateway/development/redis_server.py", "import redis.asyncio"),
        ("publisher/client.py", "import redis\nfrom publisher.contract.message import Message"),
    ],
)
def test_an_arrow_that_points_the_right_way_is_let_be(
    tmp_path: Path, file: str, source: str
) -> None:
    assert tree(tmp_path, file, source) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        *[
            ("gateway/core/rules.py", f"import {module}")
            for module in ("asyncio", "aiohttp", "redis", "time", "random", "os", "socket", "logging",
                           "secrets", "pathlib", "datetime", "threading", "importlib", "hiredis")
        ],
        ("gateway/core/rules.py", "from time import monotonic"),
        ("gateway/core/rules.py", "import os.path"),
        ("gateway/core/rules.py", "def f():\n    import time"),
        ("gateway/core/rules.py", "from typing import *\nif TYPE_CHECKING:\n    import redis"),
        ("gateway/core/rules.py", "from gateway.node.hub import Hub"),
        ("gateway/core/rules.py", "from gateway.node import hub"),
        ("gateway/core/rules.py", "from ..node import hub"),
        ("gateway/core/rules.py", "from gateway import node"),
        ("gateway/core/rules.py", "from .. import settings"),
        ("gateway/core/rules.py", "from publisher.client import Publisher"),
        ("gateway/core/rules.py", "from publisher import Publisher"),
        ("gateway/core/rules.py", "x = open('file')"),
        ("gateway/core/rules.py", "__import__('time')"),
        ("gateway/core/__init__.py", "from ..node import hub"),
        ("gateway/node/hub.py", "import redis.asyncio"),
        ("gateway/node/hub.py", "import aiohttp"),
        ("gateway/node/hub.py", "from hiredis import Reader"),
        ("gateway/node/hub.py", "import time"),
        ("gateway/node/hub.py", "from gateway.backplane.feed import Feed"),
        ("gateway/node/hub.py", "from gateway.web.socket import Socket"),
        ("gateway/node/hub.py", "from gateway import settings"),
        ("gateway/node/hub.py", "import publisher.transport.pipeline"),
        ("gateway/backplane/feed.py", "import aiohttp"),
        ("gateway/backplane/feed.py", "from gateway.web import socket"),
        ("gateway/backplane/feed.py", "from gateway.settings import Settings"),
        ("gateway/web/socket.py", "import redis"),
        ("gateway/web/socket.py", "from gateway.backplane.feed import Feed"),
        ("gateway/web/socket.py", "from ..backplane import feed"),
        ("gateway/web/socket.py", "from publisher import AsyncPublisher"),
        ("gateway/web/socket.py", "from gateway.settings import Settings"),
        ("gateway/settings.py", "from gateway.app import Gateway"),
        ("gateway/metrics.py", "from gateway.web.socket import Socket"),
        ("gateway/logs.py", "from gateway.settings import Settings"),
        ("gateway/development/redis_server.py", "from gateway.app import Gateway"),
        ("gateway/app.py", "from gateway.cli import main"),
        ("gateway/app.py", "from gateway.development.redis_server import EmbeddedRedis"),
        ("gateway/utilities.py", ""),
        ("publisher/contract/message.py", "import redis"),
        ("publisher/contract/message.py", "import time"),
        ("publisher/contract/message.py", "from publisher.client import Publisher"),
        ("publisher/contract/scripts/__init__.py", "import asyncio"),
        ("publisher/client.py", "import gateway"),
        ("publisher/client.py", "from gateway.core import rules"),
        ("publisher/client.py", "import aiohttp"),
    ],
)  # fmt: skip
def test_an_arrow_that_turns_is_found(tmp_path: Path, file: str, source: str) -> None:
    [problem, *_] = tree(tmp_path, file, source)
    assert problem.startswith(file)


@pytest.mark.parametrize(
    "inside", ["from gateway.core import rules", "if TYPE_CHECKING:\n    import gateway.core.rules"]
)
def test_a_circle_is_found(tmp_path: Path, inside: str) -> None:
    tree(tmp_path, "gateway/core/rules.py", "from gateway.core.words import x")
    (tmp_path / "gateway/core/words.py").write_text(inside)
    assert circles(tmp_path) == [
        "gateway.core.rules -> gateway.core.words",
        "gateway.core.words -> gateway.core.rules",
    ]
