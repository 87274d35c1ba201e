"""``docs/protocol.md`` as a specification: its requirements are told apart, and its examples are what is sent."""

from __future__ import annotations

import re

from tests.docs.test_documentation import PROTOCOL

REQUIREMENTS = dict(
    re.findall(
        r'^- <a id="[sc]-\d{3}"></a>\*\*([SC]-\d{3})\*\* (.*?)(?=\n- |\n\n|\Z)',
        PROTOCOL,
        re.DOTALL | re.MULTILINE,
    )
)
"""Each requirement by its id."""
WORDS = re.compile(r"\b(MUST NOT|MUST|SHOULD NOT|SHOULD|MAY)\b")


def test_every_requirement_has_an_anchor_of_its_own_name() -> None:
    named = re.findall(r'<a id="([\w-]+)"></a>\*\*([\w-]+)\*\*', PROTOCOL)
    assert len(named) > 70
    assert [anchor for anchor, _ in named] == [name.lower() for _, name in named]
    assert len({name for _, name in named}) == len(named) == len(REQUIREMENTS)


def test_requirements_stand_in_their_order() -> None:
    for side in "SC":
        names = [name for name in REQUIREMENTS if name.startswith(side)]
        assert names == sorted(names)


def test_every_requirement_says_who_must() -> None:
    for name, text in REQUIREMENTS.items():
        assert WORDS.search(text), name
        assert "client" in text or name.startswith("S"), name


def test_the_words_of_requirements_stand_in_requirements_only() -> None:
    body = PROTOCOL.partition("## Connecting")[2]
    rest = re.sub(r'^- <a id="[sc]-.*?(?=\n- |\n\n|\Z)', "", body, flags=re.DOTALL | re.MULTILINE)
    assert WORDS.findall(rest) == []
