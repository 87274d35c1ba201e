"""The code in docs/frontend.md, made into modules that can be run."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "docs" / "frontend.md"

# What the example's reader has, and where the example's gateway is.
_GIVEN = "getToken, sessionId, userId, showResult, showNotification, reload, showError, showEnded, showLogin"
_ADDRESS = "'ws://localhost:3001'"


def examples() -> tuple[str, str, str]:
    """The client, an example of its use, and what to add in a page."""
    client, use, page = re.findall(
        r"^```js\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert use.count(_ADDRESS) == 1
    return client, use, page


def make_module(folder: Path) -> Path:
    """Write a module that holds the client, ``start()`` for the example, and ``watchPage(client)``."""
    client, use, page = examples()
    module = folder / "documented.mjs"
    module.write_text(
        f"{client}\nexport function start({{ address, {_GIVEN} }}) {{\n"
        f"{use.replace(_ADDRESS, 'address')}\nreturn client;\n}}\n"
        f"export function watchPage(client) {{\n{page}}}\n",
        "utf-8",
    )
    return module
