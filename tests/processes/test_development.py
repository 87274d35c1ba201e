"""Development mode: what ``make run`` starts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from tests.support.client import connected
from tests.support.redis_server import free_port
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def development(
    folder: Path, *options: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Start it in an empty folder; yields the process and what it printed."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "PUBLISHER_"))
    }
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "--development", "--host", "127.0.0.1"),
            *("--port", str(free_port()), "--internal-port", str(free_port(2))),
            *options,
            cwd=folder,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    printed = ""
    try:
        async with asyncio.timeout(30):
            while "  Redis " not in printed or not printed.endswith("\n\n"):
                line = await process.stdout.readline()
                assert line, (folder / "log").read_text()
                printed += line.decode()
        yield process, printed
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), 20)


async def publish(folder: Path, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "publisher", *arguments),
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("PUBLISHER_")}
        | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_what_it_prints_works_and_a_restart_keeps_the_queue(tmp_path: Path) -> None:
    async with development(tmp_path) as (process, printed):
        match = re.search(r"(ws://localhost:\d+)\?token=(\S+)", printed)
        assert match is not None
        async with connected(match[1], match[2]) as client:
            await client.subscribe("notifications/user-123")
            await publish(tmp_path, "notify", "user-123", "--title", "Hello", "--message", "World")
            await client.expect(type="notifications", data={"title": "Hello", "message": "World"})
            await client.subscribe("run-results/demo")
        page = re.search(r"http://\S+/dev", printed)
        assert page is not None
        async with aiohttp.ClientSession() as session, session.get(page[0]) as answer:
            assert answer.status == 200
            assert "<title>" in await answer.text()
        await opened_in_a_browser(page[0].removesuffix("dev"), page[0])
        await publish(tmp_path, "publish", "run-results/demo", "1")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0

    async with development(tmp_path) as (_, printed):
        match = re.search(r"(ws://localhost:\d+)\?token=(\S+)", printed)
        assert match is not None
        async with connected(match[1], match[2]) as client:
            await client.subscribe("run-results/demo", since=0)
            assert await client.data(1) == [1]
    assert not (tmp_path / ".gateway" / "redis.url").exists()


async def opened_in_a_browser(address: str, page: str) -> None:
    """The address of the WebSocket leads a browser to the test page, and everybody else is told to speak WebSocket."""
    html = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    async with aiohttp.ClientSession() as session:
        async with session.get(address, headers=html) as answer:
            assert (answer.status, str(answer.url)) == (200, page)
        async with session.get(address) as answer:
            assert answer.status == 426
        async with session.ws_connect(address, headers=html) as socket:
            assert (await socket.receive_json())["code"] == "token_missing"


async def test_nothing_is_left_running(tmp_path: Path) -> None:
    async with development(tmp_path):
        server = int((tmp_path / ".gateway" / "redis.pid").read_text())
        os.kill(server, 0)

    def gone() -> bool:
        try:
            os.kill(server, 0)
        except ProcessLookupError:
            return True
        return False

    await until(gone)


async def test_it_says_where_the_http_api_is(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"shop": {"key": "k" * 32, "scopes": ["publish"]}}))
    options = ("--api-port", str(free_port()), "--api-keys", f"@{keys}")
    async with development(tmp_path, *options) as (_, printed), aiohttp.ClientSession() as session:
        match = re.search(r"HTTP API +(\S+)\n", printed)
        assert match is not None
        # Who has keys uses those, for the console too.
        assert "key=" not in printed
        assert not (tmp_path / ".gateway" / "api-key").exists()
        body = {"channel": "notifications/user-123", "data": 1}
        headers = {"Authorization": f"Bearer {'k' * 32}"}
        async with session.post(f"{match[1]}/v1/publish", json=body, headers=headers) as answer:
            assert answer.status == 200


async def test_without_keys_it_makes_one_for_the_api_and_the_console_of_each_worker(
    tmp_path: Path,
) -> None:
    options = ("--workers", "2", "--api-port", str(free_port()))
    async with development(tmp_path, *options) as (_, printed), aiohttp.ClientSession() as session:
        file = tmp_path / ".gateway" / "api-key"
        key = file.read_text().strip()
        assert file.stat().st_mode & 0o777 == 0o600
        assert re.findall(r"[#&]key=(\S+)", printed) == [key, key]
        assert key not in (tmp_path / "log").read_text()
        headers = {"Authorization": f"Bearer {key}"}
        ports = re.findall(r"(http://localhost:\d+)(?:/metrics)?\n", printed)
        assert len(ports) == 3
        for port in ports:
            async with session.get(f"{port}/v1/nodes", headers=headers) as answer:
                assert answer.status == 200


async def test_several_workers_share_one_redis_one_secret_and_one_banner(tmp_path: Path) -> None:
    async with development(tmp_path, "--workers", "2") as (process, printed):
        log = tmp_path / "log"
        await until(lambda: log.read_text().count("redis_reached") == 2)
        match = re.search(r"(ws://localhost:\d+)\?token=(\S+)", printed)
        assert match is not None
        assert printed.count("The gateway is running") == 1
        assert len(set(re.findall(r"http://localhost:\d+/metrics", printed))) == 2
        async with contextlib.AsyncExitStack() as stack:
            clients = []
            for _ in range(5):
                client = await stack.enter_async_context(connected(match[1], match[2]))
                await client.subscribe("notifications/user-123")
                clients.append(client)
            await publish(tmp_path, "notify", "user-123", "--title", "Hello", "--message", "World")
            for client in clients:
                await client.expect(
                    type="notifications", data={"title": "Hello", "message": "World"}
                )
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert process.stdout is not None
        assert b"gateway is running" not in await process.stdout.read()
    assert not (tmp_path / ".gateway" / "redis.url").exists()


async def test_the_page_and_the_websocket_are_below_the_path(tmp_path: Path) -> None:
    async with development(tmp_path, "--path", "realtime/") as (_, printed):
        socket = re.search(r"(ws://localhost:\d+/realtime)\?token=(\S+)", printed)
        page = re.search(r"http://localhost:\d+/realtime/dev", printed)
        assert socket is not None
        assert page is not None
        async with connected(socket[1], socket[2]):
            pass
        async with aiohttp.ClientSession() as session:
            async with session.get(page[0]) as answer:
                files = re.findall(r'(?:src|href)="(.*?)"', await answer.text())
            await opened_in_a_browser(page[0].removesuffix("/dev"), page[0])
            assert len(files) == 4
            for file in (*files, "dev/connection.js", "dev/entries.js", "dev/surroundings.json"):
                async with session.get(page[0].removesuffix("dev") + file) as answer:
                    assert answer.status == 200, file
