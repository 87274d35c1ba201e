"""The development server, each time a real one in a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
import uvloop
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.development import redis_server as embedded
from gateway.development.redis_server import EmbeddedRedis, EmbeddedRedisError, server_binary


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    """A folder, in which no server is left running whatever the test did."""
    # pytest's own folders are too long for a socket's path when a worker runs the test.
    place = tmp_path / "gw"
    yield place
    if place.exists():
        last = EmbeddedRedis(place)
        with contextlib.suppress(EmbeddedRedisError):
            await last.start()
        await last.stop()


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[str]:
    server = EmbeddedRedis(folder)
    url = await server.start()
    try:
        yield url
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[redis.asyncio.Redis]:
    connection = redis.asyncio.Redis.from_url(
        url, decode_responses=True, retry=Retry(NoBackoff(), 0)
    )
    async with connection:
        yield connection


async def pid_of(url: str) -> int:
    async with client(url) as connection:
        return (await connection.info("server"))["process_id"]


async def is_up(url: str) -> bool:
    async with client(url) as connection:
        try:
            return await connection.ping()
        except (redis.ConnectionError, OSError):
            return False


OWNER = """
import asyncio, pathlib, signal, sys
from gateway.development.redis_server import EmbeddedRedis

async def main():
    server = EmbeddedRedis(pathlib.Path(sys.argv[1]))
    loop = asyncio.get_running_loop()
    interrupted = asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    print(await server.start(), flush=True)
    await interrupted.wait()
    print("interrupted", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    await server.stop()

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def owner(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Another process that started the server, at the head of a process group as in a terminal."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # To the end of its output, so that no pipe is left to the garbage collector.
        await process.communicate()


async def test_a_restart_keeps_all_data(folder):
    async with running(folder) as url, client(url) as connection:
        # Written in the last moment: everysec alone would not have it on disk.
        await connection.mset({f"key-{n}": n for n in range(1000)})
    # Not killed: it has taken leave, the file synced to the disk.
    assert "bye bye" in (folder / "redis.log").read_text()
    async with running(folder) as url, client(url) as connection:
        assert await connection.dbsize() == 1000
        assert await connection.get("key-999") == "999"
        assert (await connection.config_get("append*"))["appendonly"] == "yes"
        assert (await connection.config_get("append*"))["appendfsync"] == "everysec"


async def test_only_its_user_can_reach_it(folder):
    async with running(folder) as url, client(url) as connection:
        assert url.startswith("unix://")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "redis.sock").stat().st_mode) == 0o700
        assert (await connection.config_get("port"))["port"] == "0"


async def test_its_url_is_in_the_folder_while_it_runs(folder):
    async with running(folder) as url:
        assert (folder / "redis.url").read_text().strip() == url
    assert not (folder / "redis.url").exists()
    assert not await is_up(url)


async def test_a_second_gateway_joins_and_leaves_it_running(folder):
    async with running(folder) as first:
        async with running(folder) as second:
            assert second == first
            assert await pid_of(second) == await pid_of(first)
        assert await is_up(first)
        assert (folder / "redis.url").exists()
    assert not await is_up(first)


async def test_the_server_stays_until_the_last_gateway_has_left(folder):
    first, second = EmbeddedRedis(folder), EmbeddedRedis(folder)
    url = await first.start()
    await second.start()
    await first.stop()
    assert await is_up(url)
    await second.stop()
    assert not await is_up(url)


async def test_gateways_that_start_and_leave_at_once_share_one_server(folder):
    servers = [EmbeddedRedis(folder) for _ in range(5)]
    urls = await asyncio.gather(*(server.start() for server in servers))
    pids = {await pid_of(url) for url in urls}
    assert len(pids) == 1
    await asyncio.gather(*(server.stop() for server in servers))
    assert not await is_up(urls[0])


async def test_what_a_killed_gateway_left_behind_is_used_and_then_stopped(folder):
    async with owner(folder) as (process, url):
        pid = await pid_of(url)
        process.kill()
        await process.wait()
    assert await is_up(url)

    async with running(folder) as found:
        assert await pid_of(found) == pid
    assert not await is_up(url)


async def test_ctrl_c_reaches_the_gateway_and_not_its_server(folder):
    async with owner(folder) as (process, url):
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert process.stdin is not None
        assert await process.stdout.readline() == b"interrupted\n"
        assert await is_up(url)

        process.stdin.write(b"drained\n")
        assert await process.wait() == 0
    assert not await is_up(url)


async def test_a_killed_server_is_replaced_at_the_next_start(folder):
    async with running(folder) as url:
        killed = await pid_of(url)
        os.kill(killed, signal.SIGKILL)
    async with running(folder) as url:
        assert await pid_of(url) != killed


async def test_a_server_that_dies_as_it_starts_is_reported_with_its_log(folder):
    async with running(folder) as url, client(url) as connection:
        await connection.set("key", "value")
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")

    with pytest.raises(EmbeddedRedisError, match=r"(?s)ended as it started.*manifest") as error:
        await EmbeddedRedis(folder).start()

    assert str(folder / "redis.log") in str(error.value)
    assert "Ready to accept connections" not in str(error.value), "the log of an earlier start"
    assert not (folder / "redis.url").exists()


async def test_a_server_that_does_not_answer_is_reported_and_ended(folder, monkeypatch):
    async def deaf(_self):
        return False

    monkeypatch.setattr(EmbeddedRedis, "_answers", deaf)
    monkeypatch.setattr(embedded, "_START_SECONDS", 0.5)
    with pytest.raises(EmbeddedRedisError, match="did not answer"):
        await EmbeddedRedis(folder).start()
    monkeypatch.undo()
    assert not await is_up(f"unix://{folder / 'redis.sock'}")


async def test_a_path_too_long_for_a_socket_gets_a_private_temporary_folder(folder):
    deep = folder / ("d" * 60) / ("e" * 60)
    async with running(deep) as url:
        socket = Path(url.removeprefix("unix://"))
        assert deep not in socket.parents
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        async with running(deep) as second:
            assert second == url
            assert await is_up(second)
    assert not socket.parent.exists()


async def test_a_folder_may_have_any_name(folder):
    odd = folder / 'it\'s a "test" 100% früh?#'
    async with running(odd) as url, client(url) as connection:
        await connection.set("key", "value")
    async with running(odd) as url, client(url) as connection:
        assert await connection.get("key") == "value"


async def test_a_folder_deleted_under_it_does_not_leave_the_server_behind(folder):
    server = EmbeddedRedis(folder)
    url = await server.start()
    pid = await pid_of(url)
    folder.rename(folder.with_name("deleted"))

    async with running(folder) as other:
        await server.stop()
        assert await pid_of(other) != pid, "the new folder's server is not the old one"
        assert not await is_up(f"unix://{folder.with_name('deleted') / 'redis.sock'}")


async def test_stopping_twice_or_before_the_start_does_nothing(folder):
    server = EmbeddedRedis(folder)
    await server.stop()
    await server.start()
    await server.stop()
    await server.stop()


def test_it_runs_on_uvloop(tmp_path):
    async def session():
        async with running(tmp_path / "gw") as url:
            assert await is_up(url)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(session())


def test_without_the_wheel_an_installed_server_is_used(monkeypatch, tmp_path):
    program = tmp_path / "redis-server"
    program.touch(mode=0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert server_binary() == program


def test_without_any_server_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedRedisError, match=r"'\.\[embedded\]'.*redis-server"):
        server_binary()
