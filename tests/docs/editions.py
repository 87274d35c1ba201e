"""A page in English and in Chinese: what both must have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
CHINESE: Final = ".zh-CN.md"
_COMMENT: Final = {"js": "//", "javascript": "//", "python": "#", "sh": "#", "yaml": "#"}


@dataclass(frozen=True)
class Edition:
    """What is found in one edition of a page."""

    text: str

    @property
    def prose(self) -> str:
        """Everything but the blocks of code."""
        return re.sub(r"^( *)```.*?^\1```$", "", self.text, flags=re.DOTALL | re.MULTILINE)

    @property
    def levels(self) -> list[int]:
        """Of all headings, in order."""
        return [len(marks) for marks in re.findall(r"^(#+) ", self.prose, re.MULTILINE)]

    @property
    def anchors(self) -> list[str]:
        """By which links reach the headings below the title: those in front of them, or else GitHub's."""
        found = re.findall(r'(?:<a id="([^"]*)"></a>\n\n)?^##+ (.*)$', self.prose, re.MULTILINE)
        return [
            name or re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for name, heading in found
        ]

    @property
    def requirements(self) -> list[tuple[str, str]]:
        """The ids of all requirements, in order, each with its anchor."""
        return re.findall(r'^- <a id="([^"]+)"></a>\*\*([SC]-\d+)\*\*', self.prose, re.MULTILINE)

    @property
    def blocks(self) -> list[str]:
        """The blocks of code, without the comments in them."""
        return [
            "\n".join(_without_comment(line, _COMMENT.get(language)) for line in code.split("\n"))
            for language, code in re.findall(
                r"^ *```(\w*)\n(.*?)^ *```$", self.text, re.DOTALL | re.MULTILINE
            )
        ]

    @property
    def rows(self) -> list[list[str]]:
        """The names in code in each row of a table, sorted."""
        lines = re.findall(r"^\|(?! *-).*\|$", self.prose, re.MULTILINE)
        return [sorted(set(re.findall(r"`([^`]+)`", line))) for line in lines]


def _without_comment(line: str, mark: str | None) -> str:
    return re.sub(rf"(^|\s+){mark}\s.*$", "", line) if mark else line


def pairs() -> dict[str, tuple[Edition, Edition]]:
    """The English and the Chinese edition of each page that has both, by the name of the first."""
    found = sorted([*ROOT.glob(f"*{CHINESE}"), *(ROOT / "docs").glob(f"*{CHINESE}")])
    named = {path: path.with_name(path.name.removesuffix(CHINESE) + ".md") for path in found}
    return {
        english.relative_to(ROOT).as_posix(): (
            Edition(english.read_text("utf-8")),
            Edition(chinese.read_text("utf-8")),
        )
        for chinese, english in named.items()
    }
