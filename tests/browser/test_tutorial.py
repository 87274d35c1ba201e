"""docs/tutorial.md step by step, as a reader does it, in a browser."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.chromium import Browser, Page
from tests.processes.test_development import development
from tests.support.redis_server import free_port

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),  # one browser is enough for a small machine
]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
_START_SECONDS = 20


def shown(name: str) -> str:
    """The block behind ``<!-- tutorial: name -->``."""
    (found,) = re.findall(rf"<!-- tutorial: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


class Reader:
    """Somebody who follows the page: the folder ``bell`` in a checkout, with ports that are free."""

    def __init__(self, checkout: Path) -> None:
        self.folder = checkout / "bell"
        self.gateway = free_port()
        self.backend = free_port()
        self.folder.mkdir()
        programs = checkout / ".venv"
        programs.mkdir()
        (programs / "bin").symlink_to(Path(sys.executable).parent)
        for name in ("server.py", "bell.html"):
            (self.folder / name).write_text(self.here(shown(name)), "utf-8")

    def here(self, text: str) -> str:
        """With the ports of this test."""
        return text.replace("localhost:3001", f"localhost:{self.gateway}").replace(
            "8000", str(self.backend)
        )

    async def shell(self, commands: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *("sh", "-ec", self.here(commands)),
            cwd=self.folder,
            env={k: v for k, v in os.environ.items() if not k.startswith("PUBLISHER_")}
            | {"PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.DEVNULL,
        )

    async def ring(self, *orders: str) -> None:
        """Let orders be paid, by the commands of the page; those of the page unless given."""
        commands = shown("ring")
        if orders:
            (first, *_) = commands.splitlines()
            commands = "\n".join(first.replace("orders/7", f"orders/{each}") for each in orders)
        assert await (await self.shell(commands)).wait() == 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The backend, started as the page says."""
        # Without `&`, so that it can be ended.
        process = await self.shell(f"exec env {shown('start').rstrip().removesuffix('&')}")
        try:
            async with asyncio.timeout(_START_SECONDS):
                while True:
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", self.backend)
                        writer.close()
                        break
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
            yield
        finally:
            process.terminate()
            await process.wait()


async def count(page: Page, wanted: int) -> None:
    """Wait until the bell says so."""
    try:
        await page.wait(f"#count:text-is('{wanted}')")
    except AssertionError:
        # A client that finds no gateway waits longer from try to try.
        await page.wait(f"#count:text-is('{wanted}')")


@pytest.mark.timeout(150)  # a gateway drains, and a page comes back
async def test_the_bell_counts_what_is_unread_whatever_is_restarted(
    browser: Browser, tmp_path: Path
) -> None:
    reader = Reader(tmp_path)
    address = f"http://localhost:{reader.backend}/"
    options = ("--port", str(reader.gateway), "--drain-delay-seconds", "0")
    async with development(tmp_path, *options), reader.serving():
        page = await browser.visit(address)
        await count(page, 0)
        await reader.ring()
        await count(page, 2)
        await page.evaluate("location.reload()")
        await count(page, 2)
        await page.close()
        await reader.ring("7", "9")  # the first is a repeat
        page = await browser.visit(address)
        await count(page, 3)
    # The gateway and the backend start again, and the page, which was there all the time, comes back.
    async with development(tmp_path, *options), reader.serving():
        await count(page, 3)
        await reader.ring("10")
        await count(page, 4)
        await page.click("#bell")
        await count(page, 0)
        assert await page.texts("#list li") == [f"Order {n} is paid" for n in (10, 9, 8, 7)]
        await page.evaluate("location.reload()")
        await reader.ring("11")
        await count(page, 1)
        await page.close()
