"""What is asked of every file: documented, of readable length, named for what it does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import publisher
from tests.architecture.arrows import modules

ROOT = Path(__file__).parents[2]
SOURCES = sorted(modules(ROOT).values())

MAX_LINES = 400

UNDOCUMENTED = {
    "publisher/contract/keys.py": "the table at its head says what each key is",
    "publisher/contract/scripts/__init__.py": "each script's head does",
}


def undocumented(tree: ast.Module, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and name of each public module, class and function that has no docstring.

    What begins with ``_`` is not public, nor what is inside a function; an ``@overload`` is documented
    with what it overloads, the bare methods of a protocol with the protocol, and an ``__init__.py`` may
    be empty.
    """
    if not ast.get_docstring(tree) and not (is_package and not tree.body):
        yield 1, "the module"
    yield from _inside(tree, "")


def _inside(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[int, str]]:
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if child.name.startswith("_") or "overload" in map(_last_name, child.decorator_list):
            continue
        if not ast.get_docstring(child) and not (_is_protocol(node) and _is_bare(child)):
            yield child.lineno, prefix + child.name
        if isinstance(child, ast.ClassDef):
            yield from _inside(child, f"{prefix}{child.name}.")


def _is_protocol(node: ast.Module | ast.ClassDef) -> bool:
    return isinstance(node, ast.ClassDef) and "Protocol" in map(_last_name, node.bases)


def _is_bare(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether its body is nothing but ``...``."""
    return [ast.unparse(each) for each in node.body] == ["..."]


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_everything_public_is_documented(path: Path) -> None:
    if name_of(path) in UNDOCUMENTED:
        return
    tree = ast.parse(path.read_text("utf-8"))
    assert list(undocumented(tree, is_package=path.name == "__init__.py")) == []


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("x = 1", ["the module"]),
        ('"""M."""\ndef f(): ...', ["f"]),
        ('"""M."""\nasync def f(): ...', ["f"]),
        ('"""M."""\nclass C:\n    "C."\n    def m(self): ...\n    def _p(self): ...', ["C.m"]),
        ('"""M."""\nclass C:\n    def __init__(self): ...', ["C"]),
        ('"""M."""\ndef _p(): ...\nclass _P:\n    def m(self): ...', []),
        ('"""M."""\n@overload\ndef f(): ...\n@typing.overload\ndef f(): ...', []),
        ('"""M."""\nclass P(Protocol):\n    "P."\n    def m(self): ...', []),
        ('"""M."""\nclass P(Protocol):\n    def m(self): ...', ["P"]),
        ('"""M."""\ndef f():\n    "F."\n    def inner(): ...', []),
    ],
)
def test_what_is_undocumented_is_found(source: str, missing: list[str]) -> None:
    assert [name for _, name in undocumented(ast.parse(source))] == missing


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_is_no_longer_than_can_be_read(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= MAX_LINES


@pytest.mark.parametrize("name", UNDOCUMENTED)
def test_an_exception_is_made_for_a_file_that_is_there(name: str) -> None:
    assert (ROOT / name).is_file()


def test_no_file_is_named_for_holding_this_and_that() -> None:
    names = {"utils", "util", "common", "helpers", "misc"}
    folders = ("gateway", "publisher", "tests", "deploy")
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.stem.lower() in names and "node_modules" not in path.parts
    ]
    assert found == []


def test_the_public_names_of_the_publisher_are_pinned() -> None:
    assert sorted(publisher.__all__) == [
        "AsyncEvents",
        "AsyncPublisher",
        "Connection",
        "EVERYBODY",
        "Entry",
        "Event",
        "Events",
        "Everybody",
        "GrantWithoutEffect",
        "InvalidChannel",
        "InvalidData",
        "InvalidInput",
        "InvalidNamespace",
        "InvalidURL",
        "MessageTooLarge",
        "Namespace",
        "NoRedis",
        "Node",
        "NodeReport",
        "NotReplicated",
        "Outgoing",
        "Owner",
        "Presence",
        "Published",
        "Publisher",
        "PublisherError",
        "Receipt",
        "Rejected",
        "Retention",
        "Scheduled",
        "Unavailable",
        "UnknownNamespace",
    ]
    assert all(hasattr(publisher, name) for name in publisher.__all__)


def raised_in_except_star(tree: ast.AST) -> list[int]:
    """The lines of each ``raise`` in an ``except*``: before Python 3.11.4 a group comes out of it, and not what is raised."""
    handlers = [
        handler
        for node in ast.walk(tree)
        if isinstance(node, ast.TryStar)
        for handler in node.handlers
    ]
    return [
        each.lineno
        for handler in handlers
        for each in ast.walk(handler)
        if isinstance(each, ast.Raise)
    ]


def test_nothing_is_raised_where_an_old_python_would_wrap_it() -> None:
    assert raised_in_except_star(ast.parse("try: ...\nexcept* OSError:\n  if a: raise B")) == [3]
    found = {path: raised_in_except_star(ast.parse(path.read_text("utf-8"))) for path in SOURCES}
    assert {name_of(path): lines for path, lines in found.items() if lines} == {}
