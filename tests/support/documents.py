"""The parts of pages that programs write: between markers, so that the next run replaces them."""

from __future__ import annotations

import re


def fill(page: str, program: str, part: str, text: str) -> str:
    """The page with ``text`` between each ``<!-- program: part -->`` and the ``<!-- program: end -->`` behind it."""
    between = rf"(<!-- {program}: {part} -->\n).*?(<!-- {program}: end -->)"
    return re.sub(between, lambda found: f"{found[1]}{text}\n{found[2]}", page, flags=re.DOTALL)
