"""The front-end example of the README runs as it stands, in both languages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser.backend import Backend
from tests.browser.conftest import Start
from tests.browser.shapes import NOTIFICATION
from tests.support.processes import GatewayProcess
from tests.support.tokens import make_token

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
ADDRESS = "ws://localhost:3001"


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
async def test_what_the_readme_shows_hears_both_channels(
    readme: str,
    gateway: GatewayProcess,
    programs: Start,
    backend: Backend,
    user: str,
    session: str,
    tmp_path: Path,
) -> None:
    text = (ROOT / readme).read_text("utf-8")
    (example,) = re.findall(r"<!-- tested: frontend -->\n```js\n(.*?)```", text, re.DOTALL)
    assert example.count(ADDRESS) == 1
    module = tmp_path / "readme.mjs"
    module.write_text(
        "export function start({ address, token, sessionId, showResult, showNotification }) {\n"
        f"{example.replace(ADDRESS, '${address}')}}}\n",
        "utf-8",
    )
    # The example must not depend on being in time: this is published before anybody is there, and the session is granted too late.
    await backend.notify(user, **NOTIFICATION)
    token = make_token(user)
    client = await programs("readme-client.mjs", str(module), gateway.url, token, session)
    data: dict[str, Any] = {}
    while len(data) < 2:
        said = await client.line()
        if said["event"] == "error":
            assert said["code"] == "forbidden"
            await backend.run(session, user, "print(6 * 7)")
        if said["event"] in ("run-result", "notification"):
            data[said["event"]] = said["data"]
    assert data["run-result"]["stdout"] == "42\n"
    assert data["notification"]["title"] == NOTIFICATION["title"]
