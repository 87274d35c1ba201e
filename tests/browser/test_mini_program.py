"""The recipe for mini programs of WeChat runs as it stands, where there is little of what a browser has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.backend import Backend
from tests.browser.conftest import Start
from tests.support.processes import GatewayProcess
from tests.support.tokens import make_token

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
NAME = "wechat"
CLIENT = ROOT / "gateway" / "web" / "static" / "client" / "client.js"


async def test_a_mini_program_hears_what_was_missed_and_comes_back(
    gateway: GatewayProcess, programs: Start, backend: Backend, user: str, tmp_path: Path
) -> None:
    recipes = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    (recipe,) = re.findall(rf"<!-- tested: {NAME} -->\n```js\n(.*?)```", recipes, re.DOTALL)
    module = tmp_path / "realtime.js"
    module.write_text(recipe, "utf-8")
    await backend.notify(user, title="missed", message="")
    client = await programs(
        "mini-program.mjs",
        str(module),
        str(CLIENT),
        gateway.url,
        make_token(user),
        f"notifications/{user}",
    )
    assert (await client.event("data"))["data"]["title"] == "missed"
    await backend.notify(user, title="live", message="")
    assert (await client.event("data"))["data"]["title"] == "live"
