"""The Chinese edition of a page has the same structure, anchors, code and names as the English one."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from tests.docs.editions import Edition, pairs

PAIRS = pairs()
page = pytest.mark.parametrize("name", PAIRS)


@page
def test_both_have_the_same_headings(name: str) -> None:
    english, chinese = PAIRS[name]
    assert english.levels == chinese.levels
    assert english.anchors == chinese.anchors


@page
def test_both_have_the_same_requirements(name: str) -> None:
    english, chinese = PAIRS[name]
    assert english.requirements == chinese.requirements


@page
def test_both_have_the_same_code_but_for_comments(name: str) -> None:
    english, chinese = PAIRS[name]
    assert english.blocks == chinese.blocks


@page
def test_both_have_the_same_names_in_each_row_of_their_tables(name: str) -> None:
    english, chinese = PAIRS[name]
    assert english.rows == chinese.rows


@page
def test_each_leads_to_the_other_in_its_first_lines(name: str) -> None:
    english, chinese = PAIRS[name]
    file = name.rpartition("/")[2]
    assert f"]({file.removesuffix('.md')}.zh-CN.md)" in english.text[:300]
    assert f"]({file})" in chinese.text[:300]


@page
def test_no_line_of_chinese_is_broken(name: str) -> None:
    """A browser would show a space there."""
    _, chinese = PAIRS[name]
    assert re.findall(r"^.*[^\n]\n(?![-*#|<!]|\d+\. ).+", chinese.prose, re.MULTILINE) == []


@page
def test_each_mark_of_emphasis_is_one(name: str) -> None:
    """Between Chinese characters and brackets a mark needs a space (CommonMark, "flanking")."""
    _, chinese = PAIRS[name]
    shown = MarkdownIt("commonmark").enable("table").render(chinese.prose)
    assert re.findall(r".{9}(?:\*\*|\*\uff08).{9}", shown) == []


def test_both_have_the_same_codes_with_the_same_carriers() -> None:
    entries = [
        re.findall(r"^### (\S+)\n\n\*(.+)\*\n\n.+\n\n\*\*.+\*\* .+", each.text, re.MULTILINE)
        for each in PAIRS["docs/errors.md"]
    ]
    names = [
        [(code, re.findall(r"`\w+`|HTTP|API|\d+", carrier)) for code, carrier in found]
        for found in entries
    ]
    assert len(names[0]) > 60
    for (one, here), (other, there) in zip(*names, strict=True):
        assert (one, sorted(here)) == (other, sorted(there))


def test_there_are_pages_in_both() -> None:
    assert {"README.md", "docs/protocol.md", "docs/errors.md"} <= set(PAIRS)
    assert len(PAIRS["docs/protocol.md"][0].requirements) > 50


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("```sh\nx    # one\n```", "```sh\nx    # 一\n```", True),
        ("```sh\nx '#1'\n```", "```sh\nx '#2'\n```", False),
        ("```json\n1\n```", "```json\n2\n```", False),
        ("```js\nx; // one\n```", "```js\ny; // one\n```", False),
    ],
)
def test_what_differs_is_found(one: str, other: str, same: bool) -> None:
    assert (Edition(one).blocks == Edition(other).blocks) == same
