"""A gateway that systemd has started: real processes, a receiver of what they tell, and a parent that holds the port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.service_manager import ServiceManager, passed_socket
from gateway.settings import UsageError
from tests.processes.test_serve import run
from tests.processes.test_workers import pids
from tests.support.client import connected
from tests.support.processes import gateway_process
from tests.support.programs import RequireProgram
from tests.support.redis_server import free_port
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until

SERVICES = ("gateway.service", "gateway-webhooks.service")
UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
EXPOSURE = 1.5
"""What `systemd-analyze security` says at most: 0 is all shut, 10 all open."""


class Receiver:
    """Listens as a service manager does."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)
        self.told: list[str] = []

    def fill(self) -> None:
        """Have no room for more, for now."""
        address = self._socket.getsockname()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    other.sendto(b"X=1", address)

    def has(self, line: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.told += self._socket.recv(4096).decode().splitlines()
        return line in self.told

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def notified(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Receiver]]:
    """The address, and who listens there."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@notify-{tmp_path}"
    receiver = Receiver(address)
    yield address, receiver
    receiver.close()


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """The clients' port, as the socket unit holds it."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield listener


def address_of(held: socket.socket) -> str:
    return f"ws://127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("workers", [1, 2])
async def test_it_says_when_it_is_ready_alive_and_leaving(
    redis_url: str, prefix: str, notified: tuple[str, Receiver], workers: int
) -> None:
    address, receiver = notified
    told = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"}
    receiver.fill()
    async with gateway_process(redis_url, prefix, workers=workers, environment=told) as node:
        await until(lambda: receiver.has("READY=1"))
        assert not receiver.has("STOPPING=1")
        seen = receiver.told.count("WATCHDOG=1")
        await until(lambda: receiver.has("") or receiver.told.count("WATCHDOG=1") > seen + 2)
        assert await node.terminate() == 0
        assert receiver.has("STOPPING=1")
    # Workers have nothing to tell.
    assert receiver.told.count("READY=1") == receiver.told.count("STOPPING=1") == 1


async def test_it_is_not_ready_before_redis_is(notified: tuple[str, Receiver]) -> None:
    address, receiver = notified
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--port", "0", "--internal-port", "0"),
        env=os.environ
        | {
            "NOTIFY_SOCKET": address,
            "GATEWAY_REDIS_URL": f"redis://127.0.0.1:{free_port()}",
            "GATEWAY_JWT_SECRET": SECRET,
            "GATEWAY_DRAIN_DELAY_SECONDS": "0",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    while b"subscriber_failed" not in await process.stderr.readline():
        pass
    assert receiver.has("STATUS=not ready: waiting for Redis, see /readyz")
    assert not receiver.has("READY=1")
    process.terminate()
    await process.communicate()
    assert receiver.has("STOPPING=1")
    assert not receiver.has("READY=1")


async def test_nobody_who_does_not_listen_disturbs_it(redis_url: str, prefix: str) -> None:
    told = {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "100000"}
    async with gateway_process(redis_url, prefix, environment=told) as node:
        await until(lambda: "event=service_manager_deaf" in node.output)
        assert await node.terminate() == 0
        assert node.output.count("service_manager_deaf") == 1


# -- the socket -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_a_restart_refuses_no_connection(
    redis_url: str, prefix: str, held: socket.socket, workers: int
) -> None:
    served = 0
    ended = asyncio.Event()

    async def come_and_go(number: int) -> None:
        nonlocal served
        while not ended.is_set():
            async with connected(address_of(held), make_token(f"user-{number}")):
                served += 1

    async def serve_until(goal: int) -> None:
        settings = {"passed": held, "workers": workers, "drain_delay_seconds": 0.5}
        async with gateway_process(redis_url, prefix, **settings) as node:
            await until(lambda: served > goal)
            assert await node.terminate() == 0

    async with asyncio.TaskGroup() as crowd:
        for number in range(8):
            crowd.create_task(come_and_go(number))
        for _ in range(3):
            await serve_until(served + 40)
        ended.set()
        # For those who wait in the socket now.
        await serve_until(served + 7)


async def test_workers_accept_on_the_one_socket_and_a_new_one_too(
    redis_url: str, prefix: str, held: socket.socket
) -> None:
    async with gateway_process(redis_url, prefix, workers=2, passed=held) as node:
        for pid in pids(node):
            os.kill(pid, signal.SIGKILL)
        # They wait until a worker is back.
        async with connected(address_of(held), make_token("u")) as client:
            await client.sync()
        assert await node.terminate() == 0


async def test_the_sockets_address_counts_and_not_the_settings(
    redis_url: str, prefix: str, held: socket.socket
) -> None:
    async with gateway_process(redis_url, prefix, passed=held) as node:
        assert f"address=127.0.0.1:{held.getsockname()[1]} " in node.output
        with pytest.raises(OSError, match="Connect"):
            await asyncio.open_connection("127.0.0.1", node.port)


def test_what_is_for_another_process_is_left_alone() -> None:
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x", "OTHER": "y"}
    assert passed_socket(environ, os.getpid()) is None
    assert environ == {"OTHER": "y"}


def test_two_sockets_are_refused() -> None:
    me = os.getpid()
    with pytest.raises(UsageError, match="hands over 2 sockets"):
        passed_socket({"LISTEN_FDS": "2", "LISTEN_PID": str(me)}, me)


async def test_a_socket_that_does_not_listen_is_refused(redis_url: str, prefix: str) -> None:
    with socket.socket() as idle:
        with pytest.raises(RuntimeError, match="ended with 2") as failed:
            async with gateway_process(redis_url, prefix, passed=idle):
                pass
    assert "must listen on a TCP port" in "".join(failed.value.__notes__)


def test_a_watchdog_of_another_process_is_not_fed() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    assert ServiceManager.from_environment(environ, os.getpid())._watchdog_seconds is None
    assert environ == {}


# -- the units --------------------------------------------------------------------------------


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units as they are, but for where the gateway is installed."""
    gateway = Path(sys.executable).parent / "gateway"
    for name in (*SERVICES, "gateway.socket"):
        text = (UNITS / name).read_text().replace("/opt/realtime-gateway/bin/gateway", str(gateway))
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in (*SERVICES, "gateway.socket")]


def analyze(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=30
    )


def test_systemd_understands_the_units(units: list[str], require_program: RequireProgram) -> None:
    done = analyze(require_program("systemd-analyze"), "verify", *units)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", range(len(SERVICES)), ids=SERVICES)
def test_the_service_may_do_little(
    units: list[str], require_program: RequireProgram, number: int
) -> None:
    done = analyze(
        *(require_program("systemd-analyze"), "security", "--offline=true", "--no-pager"),
        units[number],
    )
    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(level) <= EXPOSURE


def settings_of(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", (UNITS / unit).read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_the_service_has_more_time_than_its_drain_takes() -> None:
    service = settings_of("gateway.service")
    environment = dict(each.split("=", 1) for each in service["Environment"])
    drain = sum(
        float(environment[f"GATEWAY_DRAIN_{part}"]) for part in ("DELAY_SECONDS", "SECONDS")
    )
    assert float(service["TimeoutStopSec"][0]) >= drain + 10


CREDENTIALS = {
    "redis-url": f"redis://127.0.0.1:{free_port()}",
    "jwt-secret": SECRET,
    "api-keys": json.dumps({"backend": {"key": "k" * 32, "scopes": ["publish"]}}),
    "webhook-secret": "whsec_" + "s" * 32,
    "webhook-url": "https://backend.example.com/hooks",
}


def loaded(folder: Path, *units: str) -> dict[str, str]:
    """The variables of a service and its drop-ins, with the credentials that systemd would load in ``folder``."""
    given = [settings_of(unit) for unit in units]
    for each in given:
        for credential in each["LoadCredential"]:
            name = credential.partition(":")[0]
            (folder / name).write_text(CREDENTIALS[name])
    lines = [line for each in given for line in each["Environment"]]
    return dict(line.replace("%d", str(folder)).split("=", 1) for line in lines)


@pytest.mark.parametrize("units", [("gateway.service",), ("gateway.service", "gateway-api.conf")])
async def test_the_settings_of_the_service_are_enough_to_serve(
    tmp_path: Path, units: tuple[str, ...]
) -> None:
    """``check`` knows them all and misses none; only Redis is not there."""
    code, out, err = await run("check", **loaded(tmp_path, *units))
    assert (code, err) == (1, "")
    (error,) = json.loads(out)["errors"]
    assert error.startswith("Redis: ")


def test_systemd_understands_the_drop_in(
    units: list[str], require_program: RequireProgram, tmp_path: Path
) -> None:
    folder = tmp_path / "gateway.service.d"
    folder.mkdir()
    (folder / "api.conf").write_text((UNITS / "gateway-api.conf").read_text())
    done = analyze(require_program("systemd-analyze"), "verify", *units)
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "api.conf").write_text("[Service]\nLoadCredentail=a:/b\n")
    assert "LoadCredentail" in analyze(require_program("systemd-analyze"), "verify", *units).stderr


async def test_the_command_of_the_webhooks_begins_to_send_with_what_the_unit_gives_it(
    tmp_path: Path, redis_url: str, prefix: str
) -> None:
    service = "gateway-webhooks.service"
    environment = loaded(tmp_path, service)
    (tmp_path / "redis-url").write_text(redis_url)
    command = settings_of(service)["ExecStart"][0]
    _, *arguments = command.replace("%d", str(tmp_path)).split()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments),
        env=os.environ | environment | {"GATEWAY_REDIS_PREFIX": prefix},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    assert b"webhooks_started" in await process.stderr.readline()
    process.terminate()
    await process.communicate()
    assert process.returncode == 0


def test_all_services_are_hardened_in_the_same_way() -> None:
    ours, theirs = ((UNITS / name).read_text() for name in SERVICES)
    begin = "# A user of its own"
    assert ours[ours.index(begin) :] == theirs[theirs.index(begin) :]
