"""The JavaScript client as a page gets it: what a gateway answers, and the examples of docs/javascript-client.md."""

from __future__ import annotations

import gzip
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.web.client_files import FOLDER, built_files, integrity, version
from publisher import AsyncPublisher
from tests.browser.chromium import Browser
from tests.packaging.javascript_client import PAGE
from tests.support.processes import GatewayProcess
from tests.support.programs import require_program
from tests.support.tokens import make_token
from tests.support.waiting import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),  # one browser is enough for a small machine
]

CORE = FOLDER / "client.js"
FALLBACK = FOLDER / "client" / "fallback.js"
STORAGE = FOLDER / "client" / "storage.js"


def example(name: str) -> str:
    (found,) = re.findall(
        rf"^<!-- tested: {name} -->\n```\w+\n(.*?)^```$",
        PAGE.read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def http(gateway: GatewayProcess) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        gateway.url.replace("ws", "http", 1), auto_decompress=False
    ) as session:
        yield session


@pytest.mark.parametrize("path", built_files())
async def test_every_gateway_serves_it_to_all_origins(
    http: aiohttp.ClientSession, path: str
) -> None:
    content = built_files()[path].read_bytes()
    async with http.get(path, headers={"Accept-Encoding": "identity"}) as answer:
        assert (answer.status, await answer.read()) == (200, content)
        fields = answer.headers
    assert fields["Content-Type"] == "text/javascript; charset=utf-8"
    assert fields["Access-Control-Allow-Origin"] == "*"
    assert fields["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert fields["X-Content-Type-Options"] == "nosniff"
    assert fields["Cache-Control"].startswith("public, max-age=300")
    async with http.get(path, headers={"Accept-Encoding": "br, gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert gzip.decompress(await answer.read()) == content
    async with http.head(path) as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) > 0


async def test_what_a_browser_has_is_not_sent_again(http: aiohttp.ClientSession) -> None:
    named = version(CORE.read_bytes())
    for given in (f'"{named}"', f'W/"{named}"', f'"other", W/"{named}"', "*"):
        async with http.get("/client.js", headers={"If-None-Match": given}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
            # One for both encodings, so weak; and all that a cache renews what it has with.
            assert answer.headers["ETag"] == f'W/"{named}"'
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert answer.headers["Cache-Control"].startswith("public")
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
    for given in ('"another"', named, "", "W/", '"'):
        async with http.get("/client.js", headers={"If-None-Match": given}) as answer:
            assert answer.status == 200, given


async def test_who_takes_no_gzip_is_sent_none(http: aiohttp.ClientSession) -> None:
    for accepted in ("gzip;q=0", "*;q=0", "br", ""):
        async with http.get("/client.js", headers={"Accept-Encoding": accepted}) as answer:
            assert "Content-Encoding" not in answer.headers, accepted
            assert await answer.read() == CORE.read_bytes()
            assert answer.headers["Vary"] == "Accept-Encoding"


async def test_only_a_version_that_is_this_one_is_kept_for_long(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/client.js", params={"v": version(CORE.read_bytes())}) as answer:
        assert "immutable" in answer.headers["Cache-Control"]
    async with http.get("/client.js", params={"v": "older"}) as answer:
        # Not for a moment: it is another version's name.
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")


async def test_it_is_only_read(http: aiohttp.ClientSession) -> None:
    async with http.post("/client.js") as answer:
        assert answer.status == 405
    async with http.get("/client/") as answer:
        assert answer.status == 404
    async with http.get("/client/../client.js/../package.json") as answer:
        assert answer.status == 404


# -- in a page --------------------------------------------------------------------------------


@pytest.mark.parametrize("right", [True, False])
async def test_the_first_message_and_the_hash_of_the_documentation(
    browser: Browser,
    gateway: GatewayProcess,
    redis_url: str,
    shared_prefix: str,
    user: str,
    right: bool,
) -> None:
    text = example("integrity") + example("page")
    assert text.count("localhost:3001") == 6
    text = text.replace("localhost:3001", f"127.0.0.1:{gateway.port}").replace("user-123", user)
    # What is loaded on demand is checked, too.
    text = text.replace(integrity(STORAGE.read_bytes()), integrity(b"something else"))
    if not right:
        text = text.replace(integrity(CORE.read_bytes()), integrity(b"something else"))

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=f"<!doctype html>{text}", content_type="text/html")

    async def token(_request: web.Request) -> web.Response:
        return web.Response(text=make_token(user))

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/token", token)
    async with (
        TestServer(app, host="127.0.0.1") as server,
        AsyncPublisher.from_url(redis_url, prefix=shared_prefix) as publisher,
    ):
        shown = await browser.visit(f"http://127.0.0.1:{server.port}/")
        await publisher.notify(user, title="Hello", message="…")
        if right:
            await shown.wait("#notifications li", 1)
            assert await shown.text("#notifications li") == "Hello"
            for file, loads in ((FALLBACK, True), (STORAGE, False)):
                url = f"http://127.0.0.1:{gateway.port}/client/{file.name}"
                assert (
                    await shown.evaluate(f"import('{url}').then(() => true, () => false)") is loads
                )
        else:

            async def complained() -> bool:
                return any("integrity" in each for each in await shown.complaints())

            await until(complained)
        await shown.close()


GIVEN = """\
import { Realtime } from './client.js';

declare const getToken: () => Promise<string>;
declare function showState(state: string, reason: string | undefined): void;
declare function reload(channel: string): void;
declare function showError(code: string, message: string, channel: string | undefined): void;
declare function showResult(result: unknown, id: number | undefined): void;
declare function showNotification(notification: { title: string }): void;
"""


def compile_example(js: Path, folder: Path, text: str) -> None:
    for name in ("client.js", "client.d.ts"):
        (folder / name).write_bytes((FOLDER / name).read_bytes())
    (folder / "use.ts").write_text(text, "utf-8")
    options = "--strict --noEmit --target es2022 --module esnext --moduleResolution bundler --lib es2022,dom"
    done = subprocess.run(
        [
            require_program("node"),
            str(js / "node_modules" / "typescript" / "bin" / "tsc"),
            "use.ts",
            *options.split(),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.long
async def test_the_example_of_its_use_compiles_in_strict_typescript(
    js: Path, tmp_path: Path
) -> None:
    node = (
        example("node")
        .replace("import WebSocket from 'ws';", "")
        .replace("const rt", "const other")
    )
    more = example("more").replace("const rt", "const third")
    compile_example(js, tmp_path, f"{GIVEN}{node}{more}{example('use')}")
