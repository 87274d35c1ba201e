"""A constructor that needs half of the house says that the cut is wrong ."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.test_house_style import SOURCES, name_of

MOST_PARAMETERS = 8
MOST_COLLABORATORS = 6
LARGER = {
    "gateway/api/asking.py:Endpoint": "a row of a table: each field is one of its columns",
    "gateway/node/confirmation.py:_Progress": "how far something is: each field begins at nothing",
    "gateway/node/stats.py:Stats": "counters, each of which begins at 0",
    "gateway/planning/load.py:Load": "numbers that a plan is asked for: each is an option of the command",
    "gateway/node/catchup.py:Catchup": "joining, coming back and repairing in one loop, with what each of them needs",
    "publisher/contract/events.py:Event": "a record: each field is one of the event",
    "publisher/contract/node_report.py:NodeReport": "a record: each field is one of the report",
    "publisher/testing/records.py:PublishedMessage": "a record: each field is one of the message",
    "publisher/testing/publishers.py:AsyncRecordingPublisher": "what its model takes",
    "publisher/testing/publishers.py:RecordingPublisher": "what its model takes",
    "publisher/async_client.py:AsyncPublisher": "what its users may set, a keyword each",
    "publisher/client.py:Publisher": "what its users may set, a keyword each",
}
"""Why these may take more."""


def constructors(tree: ast.Module) -> Iterator[tuple[str, list[ast.expr | None]]]:
    """Each class that is constructed from parts, and the annotations of its parameters."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for each in node.body:
            if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                arguments = [*each.args.posonlyargs, *each.args.args, *each.args.kwonlyargs]
                yield node.name, [argument.annotation for argument in arguments[1:]]
                break
        else:
            if any("dataclass" in ast.unparse(each) for each in node.decorator_list):
                yield node.name, [e.annotation for e in node.body if isinstance(e, ast.AnnAssign)]


def too_large(sources: dict[str, str]) -> dict[str, str]:
    """Constructors that take too much, by file and class."""
    trees = {name: ast.parse(source) for name, source in sources.items()}
    ours = {
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {}
    for name, tree in trees.items():
        for owner, parameters in constructors(tree):
            collaborators = sum(
                bool(ours & set(ast.unparse(each).split(" | ")))
                for each in parameters
                if each is not None
            )
            if len(parameters) > MOST_PARAMETERS or collaborators > MOST_COLLABORATORS:
                found[f"{name}:{owner}"] = f"{len(parameters)}, {collaborators} of them ours"
    return found


def test_no_constructor_needs_half_of_the_house() -> None:
    sources = {name_of(path): path.read_text("utf-8") for path in SOURCES}
    assert sorted(too_large(sources)) == sorted(LARGER)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("class A:\n    def __init__(self, a: A, b: A, c: A, d: A, e: A, f: A): ...", False),
        ("class A:\n    def __init__(self, a: A, b: A, c: A, d: A, e: A, f: A, *, g: A | None): ...", True),
        ("class A:\n    def __init__(self, a: int, b: int, c: int, d: int, e: int, f: int, g: A, h: A): ...", False),
        ("class A:\n    def __init__(self, a, b, c, d, e, f, g, h, i): ...", True),
        ("@dataclass(slots=True)\nclass A:\n" + "".join(f"    {x}: A\n" for x in "abcdefg"), True),
        ("class A:\n" + "".join(f"    {x}: A\n" for x in "abcdefg"), False),
    ],
)  # fmt: skip
def test_a_constructor_that_takes_too_much_is_found(source: str, found: bool) -> None:
    assert bool(too_large({"x.py": source})) == found
