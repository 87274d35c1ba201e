"""``gateway serve --workers N`` as an operator runs it: several nodes on one port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.settings import Settings, UsageError
from gateway.supervisor import reserve_ports
from publisher import AsyncPublisher
from tests.processes.test_serve import ROOT, run
from tests.support.client import Client, connected, opened
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.programs import cannot_run
from tests.support.redis_server import free_port
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until

CHANNEL = "run-results/lesson"
USER_LIMIT = 5


def pids(node: GatewayProcess) -> list[int]:
    """The processes of the workers, the latest of each."""
    found = re.findall(r"worker_started worker=(\d+) pid=(\d+)", node.output)
    latest = {int(worker): int(pid) for worker, pid in found}
    return [pid for _, pid in sorted(latest.items())]


def is_gone(pid: int) -> bool:
    """Whether it has ended, also when nobody has asked for its status yet (proc(5), state ``Z``)."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def connections(node: GatewayProcess) -> list[int]:
    """How many each worker has."""
    found = []
    async with aiohttp.ClientSession() as session:
        for port in range(node.internal_port, node.internal_port + node.workers):
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                text = await answer.text()
            (count,) = re.findall(r"^gateway_connections (\S+)", text, re.MULTILINE)
            found.append(int(float(count)))
    return found


@contextlib.asynccontextmanager
async def clients_everywhere(node: GatewayProcess) -> AsyncIterator[list[Client]]:
    """Clients of as many users, subscribed to ``CHANNEL``, some of them on each worker."""
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        while not clients or 0 in await connections(node):
            token = make_token(f"u{len(clients)}", [CHANNEL])
            client = await stack.enter_async_context(connected(node.url, token))
            await client.subscribe(CHANNEL)
            clients.append(client)
            assert len(clients) < 100
        yield clients


async def expect_drain(clients: list[Client]) -> None:
    for client in clients:
        assert await client.expect_close() == (1001, "draining")


async def test_one_port_leads_to_all_workers_and_messages_reach_all_sockets(
    redis_url: str, prefix: str
) -> None:
    async with (
        gateway_process(redis_url, prefix, workers=3) as node,
        clients_everywhere(node) as clients,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        assert sum(await connections(node)) == len(clients)
        await publisher.publish_many([(CHANNEL, number) for number in range(50)])
        for client in clients:
            assert await client.data(50) == list(range(50))
        assert {f"worker={number}" for number in (1, 2, 3)} == {
            line.split()[-1] for line in node.output.splitlines() if " event=node_started " in line
        }


async def test_the_limit_of_a_user_holds_over_all_workers(redis_url: str, prefix: str) -> None:
    token = make_token("u")
    async with gateway_process(redis_url, prefix, workers=2) as node:
        for _ in range(50):
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(USER_LIMIT):
                    await stack.enter_async_context(connected(node.url, token))
                if 0 in await connections(node):
                    continue  # by chance all are on one worker
                for _ in range(8):
                    async with opened(node.url, token) as sixth:
                        await sixth.expect(type="error", code="connection_limit")
                return
        pytest.fail("the connections were never spread")


async def test_a_killed_worker_is_started_again_and_the_others_do_not_notice(
    redis_url: str, prefix: str
) -> None:
    async with (
        gateway_process(redis_url, prefix, workers=2) as node,
        clients_everywhere(node) as clients,
    ):
        killed = pids(node)[1]
        os.kill(killed, signal.SIGKILL)
        await until(lambda: f"worker_ended worker=2 status=-{int(signal.SIGKILL)}" in node.output)
        # The kernel sends nobody to the one that is away.
        async with connected(node.url, make_token("meanwhile")):
            pass
        await until(lambda: pids(node)[1] != killed)
        await until(node.is_ready)
        async with clients_everywhere(node):
            pass
        left = [client for client in clients if client.socket.close_code is None]
        assert 0 < len(left) < len(clients)
        for client in left:
            await client.sync()
        assert await node.terminate() == 0


async def test_the_port_stays_taken_while_no_worker_is_there(redis_url: str, prefix: str) -> None:
    async with gateway_process(redis_url, prefix, workers=2) as node:
        for pid in pids(node):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: node.output.count("worker_ended") == 2)
        for port in (node.port, node.internal_port, node.internal_port + 1):
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", port))
        await until(node.is_ready)


async def test_a_worker_that_is_told_to_end_drains_and_is_replaced(
    redis_url: str, prefix: str
) -> None:
    async with gateway_process(redis_url, prefix, workers=2) as node:
        first = pids(node)[0]
        os.kill(first, signal.SIGTERM)
        await until(lambda: "worker_ended worker=1 status=0" in node.output)
        await until(lambda: pids(node)[0] != first)
        await until(node.is_ready)
        assert await node.terminate() == 0


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        *(pytest.param(each, marks=pytest.mark.long) for each in (signal.SIGINT, signal.SIGHUP)),
    ],
)
async def test_a_signal_lets_all_workers_drain(
    redis_url: str, prefix: str, number: signal.Signals
) -> None:
    async with (
        gateway_process(redis_url, prefix, workers=2) as node,
        clients_everywhere(node) as clients,
    ):
        node.process.send_signal(number)
        await expect_drain(clients)
        assert await asyncio.wait_for(node.process.wait(), 10) == 0
        assert "Traceback" not in node.output
        assert all(map(is_gone, pids(node)))
    async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
        assert await publisher.connections("u0") == []


@pytest.mark.parametrize("supervisor_first", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_a_signal_that_reaches_all_processes_counts_once(
    redis_url: str, prefix: str, supervisor_first: bool
) -> None:
    async with (
        gateway_process(redis_url, prefix, workers=2, drain_delay_seconds=0.5) as node,
        clients_everywhere(node) as clients,
    ):
        told = [node.process.pid, *pids(node)]
        for pid in told if supervisor_first else reversed(told):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            if pid == node.process.pid:
                await until(lambda: node.output.count("drain_started") == 2)
        await expect_drain(clients)
        assert await asyncio.wait_for(node.process.wait(), 10) == 0


async def test_a_second_signal_ends_all_at_once(redis_url: str, prefix: str) -> None:
    async with (
        gateway_process(redis_url, prefix, workers=2, drain_delay_seconds=60) as node,
        clients_everywhere(node),
    ):
        node.process.send_signal(signal.SIGTERM)
        await until(lambda: node.output.count("drain_started") == 2)
        node.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(node.process.wait(), 5) == 128 + signal.SIGTERM
        assert all(map(is_gone, pids(node)))


@pytest.mark.long
async def test_a_worker_that_hangs_is_not_waited_for_without_end(
    redis_url: str, prefix: str
) -> None:
    async with gateway_process(redis_url, prefix, workers=2, drain_seconds=0) as node:
        hanging = pids(node)[1]
        os.kill(hanging, signal.SIGSTOP)
        node.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(node.process.wait(), 20) == 128 + signal.SIGKILL
        assert f"worker_hangs pid={hanging}" in node.output
        assert all(map(is_gone, pids(node)))


async def test_a_supervisor_that_dies_leaves_no_worker_behind(redis_url: str, prefix: str) -> None:
    async with (
        gateway_process(redis_url, prefix, workers=2) as node,
        clients_everywhere(node) as clients,
    ):
        await node.kill()
        await expect_drain(clients)
        await until(lambda: all(map(is_gone, pids(node))))
        with socket.create_server(("127.0.0.1", node.port)):
            pass


async def test_all_workers_have_the_settings_of_the_start(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('max_connections = 7\nnamespaces = { lessons = { owner = "anyone" } }\n')
    async with gateway_process(redis_url, prefix, workers=2, config=config) as node:
        config.write_text("max_connections = 0\n")
        killed = pids(node)[0]
        os.kill(killed, signal.SIGKILL)
        await until(lambda: pids(node)[0] != killed)
        await until(node.is_ready)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{node.internal_url}/metrics") as answer:
                assert "gateway_connections_limit 7.0" in await answer.text()
        assert "invalid settings" not in node.output


def settings(redis_url: str, prefix: str, **others: str) -> dict[str, str]:
    return {
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_REDIS_PREFIX": prefix,
        "GATEWAY_JWT_SECRET": SECRET,
        "GATEWAY_HOST": "127.0.0.1",
        **others,
    }


@pytest.mark.parametrize(
    ("workers", "others"),
    [(1, 1), (2, 2), *(pytest.param(*each, marks=pytest.mark.long) for each in ((1, 2), (2, 1)))],
)
async def test_a_port_in_use_is_one_clear_error(
    redis_url: str, prefix: str, workers: int, others: int
) -> None:
    async with gateway_process(redis_url, prefix, workers=others) as node:
        for option, port in (("port", node.port), ("internal-port", node.internal_port)):
            ports = {"port": "0", "internal-port": "0"} | {option: str(port)}
            code, _, err = await run(
                *("serve", "--workers", str(workers)),
                *(word for name, value in ports.items() for word in (f"--{name}", value)),
                **settings(redis_url, prefix),
            )
            assert code == 2
            variable = option.upper().replace("-", "_")
            assert err.count(f"port {port}: it is in use; GATEWAY_{variable}") == 1
            assert "Traceback" not in err
        assert await node.is_ready()


async def test_development_mode_takes_other_internal_ports_unless_one_was_asked_for() -> None:
    default = Settings.model_fields["internal_port"].default
    given = {"development": True, "workers": 2, "host": "127.0.0.1", "port": 0}
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # in use, whosever it is
            stack.enter_context(socket.create_server(("127.0.0.1", default + 1)))
        with pytest.raises(UsageError, match=f"port {default + 1}: it is in use"):
            asked = Settings(**given, internal_port=default + 1)
            await reserve_ports(asked, stack)
        first, second = await reserve_ports(Settings(**given), stack)
    assert first.port == second.port != 0
    assert len({first.internal_port, second.internal_port, default + 1, 0}) == 4


async def test_a_mistake_that_the_workers_find_is_told_once_and_ends_all(
    redis_url: str, prefix: str
) -> None:
    code, _, err = await run(
        *("serve", "--workers", "3", "--port", "0", "--internal-port", "0"),
        **settings(redis_url, prefix, GATEWAY_JWT_ALGORITHMS="RS256"),
    )
    assert code == 2
    assert err.count("gateway: ") == 1
    assert "RS256" in err
    assert "Traceback" not in err
    assert SECRET not in err


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize(
    ("port", "internal", "reason"),
    [
        ("0", "65534", "3 workers need as many internal ports"),
        ("4002", "4000", "GATEWAY_PORT 4002 is among the workers' internal ports, 4000 to 4002"),
    ],
)
async def test_internal_ports_that_there_are_not_are_one_clear_error(
    redis_url: str, prefix: str, command: str, port: str, internal: str, reason: str
) -> None:
    code, _, err = await run(
        *(command, "--workers", "3", "--port", port, "--internal-port", internal),
        **settings(redis_url, prefix),
    )
    assert code == 2
    assert reason in err
    assert "Traceback" not in err


async def test_a_worker_that_never_comes_up_ends_all_with_its_status(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'gateway.serve' in sys.orig_argv: os._exit(3)\n"
    )
    code, _, err = await run(
        *("serve", "--workers", "2", "--port", str(free_port()), "--internal-port", "0"),
        **settings(redis_url, prefix, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"),
    )
    assert code == 3
    assert err.count("worker_started worker=1") == 5
    assert "worker_unusable worker=1 status=3" in err


async def test_workers_serve_both_families_on_one_port(redis_url: str, prefix: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        cannot_run(f"this system has no IPv6: {error}")
    async with gateway_process(redis_url, prefix, workers=2, host="::") as node:
        for host in ("127.0.0.1", "[::1]"):
            async with connected(f"ws://{host}:{node.port}", make_token("u")) as client:
                await client.subscribe("notifications/u")
        assert f"address=[::]:{node.port} " in node.output
