"""The fixture ``realtime_gateway``, in a run of pytest of somebody else's."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.testing import host as hosting
from gateway.testing.host import CannotServe, Host
from gateway.testing.realtime_gateway import RealtimeGateway
from publisher import Publisher
from tests.support.tokens import SECRET
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
TESTING, RECEIVER = (
    (ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("testing", "receiver")
)
INI = """[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
ISOLATION = """
import pytest

@pytest.mark.parametrize("turn", [1, 2])
def test_no_test_sees_what_another_has_done(realtime_gateway, turn):
    publisher = realtime_gateway.publisher
    assert publisher.history("notifications/ann") == []
    assert not publisher.revoke("run-results/s", "ann")
    publisher.notify("ann", title="T", message="M")
    publisher.grant("run-results/s", "ann")
    assert len(publisher.nodes()) == 1
"""


def example(page: str, name: str) -> str:
    (found,) = re.findall(rf"<!-- tested: {name} -->\n```python\n(.*?)```", page, re.DOTALL)
    return found


def environment(**further: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    # What is set for a gateway of one's own is not meant.
    return {**kept, "PYTHONPATH": str(ROOT), "GATEWAY_PORT": "no port", **further}


def project(folder: Path, **tests: str) -> list[str]:
    """A project with these tests; how they are run."""
    (folder / "pytest.ini").write_text(INI)
    (folder / "conftest.py").write_text(example(TESTING, "conftest"))
    for name, text in tests.items():
        (folder / f"test_{name}.py").write_text(text)
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:schemathesis", "-p", "no:cacheprovider"]


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(TMPDIR=str(folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_examples_of_the_pages_pass(tmp_path: Path) -> None:
    command = project(
        tmp_path,
        fixture=example(TESTING, "fixture"),
        receiver=example(RECEIVER, "receiver tests"),
        isolation=ISOLATION,
    )
    assert "5 passed" in run(command, tmp_path)
    assert list(tmp_path.glob("rt-tests-*")) == []


@pytest.mark.long
def test_workers_side_by_side_have_gateways_of_their_own(tmp_path: Path) -> None:
    command = project(tmp_path, one=ISOLATION, two=ISOLATION, three=ISOLATION)
    assert "6 passed" in run([*command, "-n", "2"], tmp_path)
    assert list(tmp_path.glob("rt-tests-*")) == []


async def test_all_ends_with_pytest_also_where_it_is_killed(tmp_path: Path) -> None:
    command = project(
        tmp_path,
        kill="import os, signal\n\ndef test_kill(realtime_gateway):\n    os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    killed = await asyncio.create_subprocess_exec(
        *command,
        cwd=tmp_path,
        env=environment(TMPDIR=str(tmp_path)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert await killed.wait() == -signal.SIGKILL
    await until(lambda: not processes_that_name(tmp_path), 15)


def processes_that_name(folder: Path) -> list[int]:
    """Processes that were started with the folder in their command, or run in it."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            named = str(folder).encode() in (each / "cmdline").read_bytes()
            if named or (each / "cwd").readlink().is_relative_to(folder):
                found.append(int(each.name))
        except OSError:
            continue
    return found


def test_nothing_of_a_gateway_is_imported_before_a_test_needs_one() -> None:
    program = (
        "import sys, gateway.testing\n"
        "sys.exit(', '.join({'aiohttp', 'redis', 'pydantic', 'jwt', 'publisher'} & sys.modules.keys()) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "find_spec", lambda name: None if name == "aiohttp" else name)
    with Host() as host:
        said = str(host.serve({}))
    assert said.startswith("aiohttp is not installed; install the extra embedded: pip install ")


def test_settings_that_are_wrong_are_named_and_others_then_serve(redis_url: str) -> None:
    with Host() as host:
        for wrong, said in (
            ({"prot": 1}, "prot: there is no such setting; did you mean port?"),
            (
                {"GATEWAY_MAX_SUBSCRIPTIONS": 1},
                "without GATEWAY_):\n  GATEWAY_MAX_SUBSCRIPTIONS: there is no such setting; did you mean max_subscriptions?",
            ),
            (
                {"max_connections": "many"},
                "  max_connections: must be an integer; for example 20000",
            ),
            ({"max_subscriptions": 0}, "must be greater than 0; for example 100"),
            ({"namespaces": "x"}, '; for example {"rooms": {"owner": "grant"}}'),
            ({"redis_url": "http://x"}, "invalid Redis URL"),
        ):
            refused = host.serve({"redis_url": redis_url, **wrong})
            assert isinstance(refused, CannotServe)
            assert said in str(refused)
        settings = {"redis_url": redis_url, "jwt_secret": SECRET, "jwt_issuer": "us"}
        served = host.serve(settings)
        assert not isinstance(served, CannotServe)
        assert (served.redis_url, served.jwt_secret) == (redis_url, SECRET)
        gateway = RealtimeGateway(served, host, settings)
        assert gateway.token("ann", channels=["run-results/s"]).count(".") == 2
        with Publisher.from_url(redis_url, prefix=gateway.prefix) as publisher:
            assert len(publisher.nodes()) == 1


@pytest.mark.long  # it waits for the ten seconds
async def test_what_is_no_redis_is_named_before_long_and_without_a_password() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with Host() as host:
            began = time.monotonic()
            url = f"redis://u:hidden@127.0.0.1:{port}"
            refused = await asyncio.to_thread(host.serve, {"redis_url": url})
            assert time.monotonic() - began < 30
    assert isinstance(refused, CannotServe)
    assert f"Redis: 127.0.0.1:{port}: " in str(refused)
    assert "hidden" not in str(refused)


async def test_a_host_that_has_died_says_so() -> None:
    with Host() as host:
        assert not isinstance(host.serve({}), CannotServe)
        assert host._process is not None
        redis = Path("/proc") / (Path(host._folder) / "redis.pid").read_text().strip()
        assert redis.exists()
        host._process.kill()
        host._process.wait()
        assert "does not answer" in str(host.serve({}))
        # The next test has another one.
        refused = host.serve({"redis_url": "redis://127.0.0.1:1", "port": -5})
        assert "port" in str(refused)
        await until(lambda: not redis.exists())


def test_an_answer_that_nobody_has_read_is_taken_for_no_other(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        """What a time limit raises in a test, or Ctrl-C."""

    def interrupted(*_: object) -> None:
        raise Interrupted

    with Host() as host:
        settings = {"redis_url": redis_url, "jwt_secret": SECRET}
        assert not isinstance(host.serve(settings), CannotServe)
        with monkeypatch.context() as context, pytest.raises(Interrupted):
            context.setattr(hosting.select, "select", interrupted)
            host.token("ann", [], 60)
        served = host.serve(settings)
        assert not isinstance(served, CannotServe)
        # What fails in one test is told to it, and leaves the next one its gateway.
        host.end()
        with pytest.raises(CannotServe, match="has ended"):
            host.token("ann", [], 60)
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = host.serve({**settings, "port": other.getsockname()[1]})
        assert "cannot listen on 127.0.0.1 port" in str(taken)
        assert not isinstance(host.serve(settings), CannotServe)
