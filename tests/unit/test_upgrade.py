"""What ``web/upgrade.py`` takes from aiohttp without aiohttp having promised it. Each piece is named here.

A version of aiohttp that lacks one of them, or means something else by it, fails here and not at a client.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

ROOT = Path(__file__).parents[2]
PRIVATE = {"_post_start", "_ws_protocol", "_writer"}


def private_names(source: str) -> set[str]:
    """Names with an underscore that a source takes from aiohttp: modules, and attributes of its classes."""
    tree = ast.parse(source)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiohttp"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found |= {name for name in names if name.startswith("_")}
        elif isinstance(node, ast.ClassDef) and any("web." in ast.unparse(b) for b in node.bases):
            mine = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            used = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
            theirs = set(dir(web.WebSocketResponse))
            found |= {n for n in (mine | used) & theirs if n[0] == "_" and not n.startswith("__")}
    return found


def test_one_file_touches_them() -> None:
    users = {
        path.relative_to(ROOT).as_posix(): names
        for path in (ROOT / "gateway").rglob("*.py")
        if (names := private_names(path.read_text("utf-8")))
    }
    assert users == {"gateway/web/upgrade.py": PRIVATE}


def test_a_private_module_would_be_found() -> None:
    assert private_names("from aiohttp._websocket.reader import WebSocketReader") == {"_websocket"}


def test_post_start_is_what_prepare_ends_with_and_gets_what_it_got() -> None:
    parameters = list(inspect.signature(web.WebSocketResponse._post_start).parameters)
    assert parameters == ["self", "request", "protocol", "writer"]
    assert "self._post_start(request, protocol, writer)" in inspect.getsource(
        web.WebSocketResponse.prepare
    ) + inspect.getsource(web.WebSocketResponse._start)


@pytest.mark.parametrize(
    ("attribute", "tells"), [("_ws_protocol", "ws_protocol"), ("_writer", "prepared")]
)
def test_what_post_start_sets_is_what_the_response_tells(attribute: str, tells: str) -> None:
    response = web.WebSocketResponse()
    assert not getattr(response, tells)
    setattr(response, attribute, cast(Any, "x"))
    assert getattr(response, tells)


@pytest.mark.parametrize("name", ["set_parser", "keep_alive", "connection_lost", "transport"])
def test_the_protocol_can_be_taken_leave_of(name: str) -> None:
    assert hasattr(RequestHandler, name)
