"""What docs/recipes.md has for React, Vue and Svelte: type-checked, and mounted in a browser."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.browser.backend import Backend
from tests.browser.chromium import Browser
from tests.support.processes import GatewayProcess
from tests.support.programs import require_program
from tests.support.tokens import make_token

pytestmark = pytest.mark.xdist_group("chromium")  # one browser is enough for a small machine

ROOT = Path(__file__).parents[2]
RECIPES = (ROOT / "docs" / "recipes.md").read_text("utf-8")
CLIENT = ROOT / "gateway" / "web" / "static" / "client"
ADDRESS = "wss://realtime.example.com"
MODULES = ("realtime.ts", "useChannel.ts", "useMessages.ts", "messages.ts")
COMPONENTS = {
    "react": "Notifications.tsx",
    "vue": "Notifications.vue",
    "svelte": "Notifications.svelte",
}

MOUNTED = {
    "react": """\
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Notifications } from './Notifications';
const root = createRoot(target);
root.render(<StrictMode><Notifications user={user} /></StrictMode>);
const leave = () => root.unmount();
""",
    "vue": """\
import { createApp } from 'vue';
import Notifications from './Notifications.vue';
const app = createApp(Notifications, { user });
app.mount(target);
const leave = () => app.unmount();
""",
    "svelte": """\
import { mount, unmount } from 'svelte';
import Notifications from './Notifications.svelte';
const mounted = mount(Notifications, { target, props: { user } });
const leave = () => unmount(mounted);
""",
}

# Before anything else: what the page sends is noted.
AROUND = """\
const sent = [];
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (text) {{
  const message = JSON.parse(text);
  if (message.type.endsWith('subscribe')) sent.push(message.type);
  send.call(this, text);
}};
const target = document.getElementById('app');
const user = '{user}';
// Mounted on an open connection, where each subscribe is sent at once.
await new Promise((done) => {{
  realtime.addEventListener('state', ({{ detail }}) => detail.state === 'open' && done());
}});
"""

LINES_OF_CODE = 40


def recipe(name: str) -> str:
    (found,) = re.findall(
        rf"<!-- tested: {re.escape(name)} -->\n```\w+\n(.*?)```", RECIPES, re.DOTALL
    )
    return str(found)


@pytest.fixture
def project(js: Path, tmp_path: Path) -> Path:
    """A project that has all recipes, and the packages that they import."""
    packages = tmp_path / "node_modules"
    packages.mkdir()
    for each in (js / "node_modules").iterdir():
        (packages / each.name).symlink_to(each)
    (packages / "realtime-gateway-client").symlink_to(CLIENT)
    for name in MODULES:
        (tmp_path / name).write_text(recipe(name), "utf-8")
    for name, file in COMPONENTS.items():
        (tmp_path / file).write_text(recipe(name), "utf-8")
    return tmp_path


@pytest.mark.parametrize("name", MODULES)
def test_each_is_short(name: str) -> None:
    assert len(recipe(name).splitlines()) < LINES_OF_CODE


@pytest.mark.long
def test_they_compile_in_strict_typescript(js: Path, project: Path) -> None:
    node = require_program("node")
    # What must be an error: the types reach from the channel to the component.
    (project / "mistakes.ts").write_text(
        "import { useMessages } from './useMessages';\n"
        "const messages = useMessages<{ title: string }>('notifications/user-1');\n"
        "// @ts-expect-error - there is no such member\n"
        "messages.value[0]?.data.subject;\n"
    )
    done = subprocess.run(
        [
            *(node, str(js / "node_modules" / "typescript" / "bin" / "tsc")),
            *(*MODULES, COMPONENTS["react"], "mistakes.ts"),
            *("--strict", "--noEmit", "--jsx", "react-jsx", "--skipLibCheck"),
            *("--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"),
            *("--lib", "es2022,dom"),
        ],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(params=sorted(MOUNTED))
def bundle(
    request: pytest.FixtureRequest, js: Path, project: Path, gateway: GatewayProcess, user: str
) -> Path:
    """A page's program, with the component of a framework."""
    realtime = project / "realtime.ts"
    assert realtime.read_text().count(ADDRESS) == 1
    realtime.write_text(realtime.read_text().replace(ADDRESS, gateway.url))
    entry = project / "entry.tsx"
    expose = "Object.assign(window, { sent, leave, realtime });\n"
    entry.write_text(
        f"import {{ realtime }} from './realtime';\n"
        f"{AROUND.format(user=user)}{MOUNTED[request.param]}{expose}"
    )
    node = require_program("node")
    made = project / "page.js"
    command = [node, str(js / "build-page.mjs"), str(entry), str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


@pytest_asyncio.fixture(loop_scope="session")
async def page(bundle: Path, user: str) -> AsyncIterator[str]:
    """The address of the page."""
    html = "<!doctype html><link rel=icon href=data:,><div id=app></div><script type=module src=page.js></script>"
    app = web.Application()

    async def index(_: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    async def script(_: web.Request) -> web.FileResponse:
        return web.FileResponse(bundle)

    async def token(_: web.Request) -> web.Response:
        return web.Response(text=make_token(user))

    app.add_routes([web.get("/", index), web.get("/page.js", script), web.get("/token", token)])
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@pytest.mark.asyncio(loop_scope="session")
async def test_a_component_shows_messages_and_leaves_the_channel_with_its_end(
    browser: Browser, page: str, backend: Backend, user: str
) -> None:
    tab = await browser.visit(page)
    await backend.notify(user, title="First", message="")
    await tab.wait("#app li", 1)
    await backend.notify(user, title="Second", message="")
    await tab.wait("#app li", 2)
    assert await tab.texts("#app li") == ["First", "Second"]
    assert await tab.evaluate("sent") == ["subscribe"]
    await tab.evaluate("leave()")
    await tab.evaluate(
        "new Promise((done) => setInterval(() => sent.at(-1) === 'unsubscribe' && done(), 10))"
    )
    assert await tab.evaluate("sent") == ["subscribe", "unsubscribe"]
    assert await tab.evaluate("realtime.state") == "open"
    await tab.close()
