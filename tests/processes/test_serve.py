"""``gateway serve`` as an operator runs it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tomllib
from pathlib import Path

import aiohttp
import pytest
import redis.asyncio

from gateway.settings import Settings
from publisher import AsyncPublisher
from tests.support.client import Client, connected
from tests.support.commands_at_once import run_all
from tests.support.processes import gateway_process
from tests.support.redis_server import free_port
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


async def run(*arguments: str, cwd: Path | None = None, **environment: str) -> tuple[int, str, str]:
    """Run a ``gateway`` command to its end."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments),
        cwd=cwd,
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_it_in_order(
    redis_url: str, prefix: str, number: signal.Signals
) -> None:
    async with gateway_process(redis_url, prefix) as node:
        async with connected(node.url, make_token("u")) as client:
            node.process.send_signal(number)
            assert await client.expect_close() == (1001, "draining")
        assert await asyncio.wait_for(node.process.wait(), 10) == 0
        assert "Traceback" not in node.output
    async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
        assert await publisher.connections("u") == []


async def test_a_signal_ends_it_before_it_is_ready_too(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--development", "--port", "0"),
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "GATEWAY_REDIS_URL": f"redis://127.0.0.1:{free_port()}"},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    while b"subscriber_failed" not in await process.stderr.readline():
        pass
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_while_the_balancer_has_not_noticed_a_leaving_node_still_serves(
    redis_url: str, prefix: str
) -> None:
    async with gateway_process(redis_url, prefix, drain_delay_seconds=1) as node:
        async with connected(node.url, make_token("u")) as client:
            node.process.send_signal(signal.SIGTERM)
            await until(lambda: "drain_started" in node.output)
            assert not await node.is_ready()
            async with connected(node.url, make_token("u")) as late:
                await late.subscribe("notifications/u")
                assert await late.expect_close() == (1001, "draining")
            assert await client.expect_close() == (1001, "draining")
        assert await asyncio.wait_for(node.process.wait(), 10) == 0


async def test_connections_are_closed_one_after_the_other(redis_url: str, prefix: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(gateway_process(redis_url, prefix, drain_seconds=2))
        users = [f"u{number}" for number in range(200)]
        clients = [
            await stack.enter_async_context(connected(node.url, make_token(user))) for user in users
        ]
        loop = asyncio.get_running_loop()
        node.process.send_signal(signal.SIGTERM)

        async def closed_at(client: Client) -> float:
            assert await client.expect_close() == (1001, "draining")
            return loop.time()

        times = sorted(await asyncio.gather(*map(closed_at, clients)))
        # 200 in a second, though it might have taken two: in 20 groups, none of them all at once.
        assert 0.7 < times[-1] - times[0] < 1.8
        assert times[100] - times[0] > 0.3
        assert await asyncio.wait_for(node.process.wait(), 10) == 0


async def test_a_second_signal_ends_it_at_once(redis_url: str, prefix: str) -> None:
    async with (
        gateway_process(redis_url, prefix, drain_delay_seconds=60) as node,
        connected(node.url, make_token("u")),
    ):
        node.process.send_signal(signal.SIGTERM)
        await until(lambda: "drain_started" in node.output)
        node.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(node.process.wait(), 5) == -signal.SIGTERM


async def test_what_was_confirmed_survives_the_node(redis_url: str, prefix: str) -> None:
    async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
        async with gateway_process(redis_url, prefix) as node:
            async with connected(node.url, make_token("u")) as client:
                await client.subscribe("notifications/u")
                published = await publisher.notify("u", title="a", message="b")
                await client.expect(type="notifications", id=published.id)
                key = f"{prefix}:confirmed:{{notifications/u}}"
                async with redis.asyncio.Redis.from_url(redis_url) as admin:
                    await until(lambda: admin.zscore(key, "u"))
            assert await node.terminate() == 0
        async with gateway_process(redis_url, prefix) as node:
            async with connected(node.url, make_token("u")) as client:
                await client.subscribe("notifications/u")
                await client.sync()


async def test_no_token_is_ever_written(redis_url: str, prefix: str) -> None:
    token = make_token("u")
    async with gateway_process(redis_url, prefix, log_level="debug") as node:
        async with connected(node.url, token) as client:
            await client.send({"type": "refresh", "token": token})
            await client.sync()
        async with connected(node.url, protocols=("realtime", f"bearer.{token}")):
            pass
        await node.terminate()
        assert "connection_opened" in node.output
        assert token not in node.output
        assert SECRET not in node.output


async def test_settings_come_from_options_before_environment_before_file(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'jwt_secret = "{SECRET}"\nmax_connections_per_user = 1\nmax_connections = 1\n'
        f'redis_prefix = "{prefix}"\n[namespaces.lessons]\nowner = "anyone"\n'
    )
    assert tomllib.loads(config.read_text())["namespaces"]
    code, out, err = await run(
        *("check", "--config", str(config), "--max-connections", "3"),
        GATEWAY_REDIS_URL=redis_url,
        GATEWAY_MAX_CONNECTIONS_PER_USER="2",
    )
    assert code == 0, err
    assert json.loads(out)["namespaces"]["lessons"]["owner"] == "anyone"

    from gateway.cli import parser
    from gateway.options import load_settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATEWAY_MAX_CONNECTIONS_PER_USER", "2")
        patch.setenv("GATEWAY_CONFIG", str(config))
        options = parser().parse_args(["serve", "--max-connections", "3"])
        settings = load_settings(options)
    assert settings.max_connections == 3
    assert settings.max_connections_per_user == 2
    assert settings.redis_prefix == prefix


@pytest.mark.parametrize("command", ["serve", "check"])
async def test_help_lists_each_setting_with_what_it_means(command: str) -> None:
    code, out, err = await run(command, "--help")
    assert (code, err) == (0, "")
    told = " ".join(out.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in told
        assert field.description is not None
        assert field.description in told
    assert "None" not in told
    assert "null" not in told


async def test_the_help_of_token_begins_with_the_user_and_lists_only_what_makes_a_token() -> None:
    _, out, _ = await run("token", "--help")
    assert out.startswith("usage: gateway token [-h] --user ID [--channel NAME] [--ttl SECONDS]")
    assert set(re.findall(r"^  (--[a-z-]+)", out, re.MULTILINE)) == {
        *("--user", "--channel", "--ttl", "--config", "--data-folder", "--jwt-secret"),
        *("--jwt-algorithms", "--jwt-user-claim", "--jwt-audience", "--jwt-issuer", "--json"),
    }
    code, _, err = await run(
        *("token", "--user", "u", "--max-connections", "5"), GATEWAY_JWT_SECRET=SECRET
    )
    assert (code, err) == (0, "")


MISTAKES = {
    "no Redis": (["serve"], {"GATEWAY_JWT_SECRET": SECRET}, "GATEWAY_REDIS_URL"),
    "no key": (["serve"], {"GATEWAY_REDIS_URL": "redis://127.0.0.1:1"}, "GATEWAY_JWT_SECRET"),
    "a number that is none": (["serve", "--port", "many"], {}, "port"),
    "a number out of bounds": (["check"], {"GATEWAY_MAX_CONNECTIONS": "0"}, "max_connections"),
    "a file that is not there": (["serve", "--config", "no.toml"], {}, "no.toml"),
    "a namespace with an unknown rule": (
        ["check", "--namespaces", '{"x": {"owner": "nobody"}}'],
        {},
        "owner must be one of",
    ),
    "namespaces that are no JSON": (["check", "--namespaces", "{"], {}, "not JSON"),
    "a Redis URL without a scheme": (
        ["check"],
        {"GATEWAY_REDIS_URL": "localhost:6379"},
        "redis_url (GATEWAY_REDIS_URL): invalid Redis URL: it must begin with redis://",
    ),
    "a Redis URL with a bad port": (
        ["serve"],
        {"GATEWAY_REDIS_URL": "redis://:hidden@localhost:x"},
        "the port of the host must be a number from 1 to 65535",
    ),
    "a database of a Redis Cluster": (
        ["check"],
        {"GATEWAY_REDIS_URL": "redis+cluster://:hidden@one:6379,two:6379/1"},
        "a cluster has one database",
    ),
    "a URL of Sentinel without a name": (
        ["check"],
        {"GATEWAY_REDIS_URL": "redis+sentinel://:hidden@one,two:26379"},
        "the name of the primary is missing",
    ),
    "a password of sentinels among the arguments": (
        ["check", "--redis-url", "redis+sentinel://one/main?sentinel_password=hidden"],
        {},
        "every user of this machine could read a password in it",
    ),
    "a password that is not percent-encoded": (
        ["check"],
        {"GATEWAY_REDIS_URL": "redis://user:p@hidden#w@localhost:26379"},
        "must be percent-encoded",
    ),
    "words of another program": (
        ["check"],
        {"GATEWAY_PORT": "many"},
        "port (GATEWAY_PORT): must be an integer; for example GATEWAY_PORT=3001\n",
    ),
    "a misspelt variable beside another mistake": (
        ["check"],
        {"GATEWAY_PORT": "many", "GATEWAY_MAX_CONECTIONS": "5"},
        "GATEWAY_MAX_CONECTIONS is set, but there is no such setting",
    ),
    "a Redis URL with an unknown option": (
        ["serve"],
        {
            "GATEWAY_REDIS_URL": "redis://:hidden@localhost/0?tiemout=1",
            "GATEWAY_JWT_SECRET": SECRET,
        },
        "gateway: invalid Redis URL: the redis package has no option 'tiemout'",
    ),
    "a Redis URL with a database that is no number": (
        ["serve", "--workers", "2", "--port", "0", "--internal-port", "0"],
        {"GATEWAY_REDIS_URL": "redis://:hidden@localhost/first", "GATEWAY_JWT_SECRET": SECRET},
        "invalid Redis URL",
    ),
    "a secret among the arguments": (
        ["serve", "--jwt-secret", "hidden in plain sight, for everybody"],
        {},
        "--jwt-secret: every user of this machine could read this secret: set GATEWAY_JWT_SECRET",
    ),
    "a password among the arguments": (
        ["check", "--redis-url", "redis://user:hidden@localhost:6379"],
        {},
        "set GATEWAY_REDIS_URL, or give @FILE",
    ),
    "a password among the options of a URL among the arguments": (
        ["token", "--user", "u", "--redis-url=redis://localhost?password=hidden"],
        {},
        "set GATEWAY_REDIS_URL, or give @FILE",
    ),
    "a token for nobody": (
        ["token", "--user", ""],
        {"GATEWAY_JWT_SECRET": "hidden"},
        "--user must be the id of a user",
    ),
    "a token for what is no channel": (
        ["token", "--user", "u", "--channel", "foo"],
        {"GATEWAY_JWT_SECRET": "hidden"},
        "--channel 'foo' must be <namespace>/<id> or <namespace>/*",
    ),
    "a token of a key of the list": (
        ["token", "--user", "u"],
        {"GATEWAY_JWT_KEYS": '[{"secret": "hidden"}]'},
        "keys of GATEWAY_JWT_KEYS are not used here",
    ),
    "a secret in a file that is not there": (
        ["check"],
        {"GATEWAY_JWT_SECRET": "@hidden"},
        "jwt_secret (GATEWAY_JWT_SECRET): it begins with @ and so names a file, which cannot be read: No such file",
    ),
    "a secret that is too short": (
        ["serve"],
        {"GATEWAY_REDIS_URL": "redis://127.0.0.1:1", "GATEWAY_JWT_SECRET": "hidden"},
        "GATEWAY_JWT_SECRET is too short",
    ),
    "a secret that is too short, with workers": (
        ["serve", "--workers", "2", "--port", "0", "--internal-port", "0"],
        {"GATEWAY_REDIS_URL": "redis://127.0.0.1:1", "GATEWAY_JWT_SECRET": "a"},
        "GATEWAY_JWT_SECRET is too short",
    ),
    "the placeholder of the documentation": (
        ["serve"],
        {"GATEWAY_REDIS_URL": "redis://127.0.0.1:1", "GATEWAY_JWT_SECRET": "..."},
        "GATEWAY_JWT_SECRET is a placeholder",
    ),
    "an algorithm that the secret is too short for": (
        ["serve"],
        {
            "GATEWAY_REDIS_URL": "redis://127.0.0.1:1",
            "GATEWAY_JWT_SECRET": SECRET,
            "GATEWAY_JWT_ALGORITHMS": "HS512",
        },
        "HS512 needs a secret of 64 bytes",
    ),
    "an origin that can never match": (
        ["serve", "--allowed-origins", "https://a.example,app.example.org"],
        {},
        "allowed_origins (GATEWAY_ALLOWED_ORIGINS): 'app.example.org' can never match",
    ),
    "an algorithm foreign to the key": (
        ["serve"],
        {
            "GATEWAY_REDIS_URL": "redis://127.0.0.1:1",
            "GATEWAY_JWT_SECRET": SECRET,
            "GATEWAY_JWT_ALGORITHMS": "RS256",
        },
        "RS256",
    ),
}


@pytest.fixture(scope="session")  # other modules come in between
def ends() -> dict[str, tuple[int, str]]:
    """How each of the mistakes ends."""
    commands = [(arguments, environment) for arguments, environment, _ in MISTAKES.values()]
    return dict(zip(MISTAKES, run_all(commands), strict=True))


@pytest.mark.timeout(180)  # the first one waits for all
@pytest.mark.xdist_group("mistakes")  # so that they are made once
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_error_and_exit_2(
    mistake: str, ends: dict[str, tuple[int, str]]
) -> None:
    code, err = ends[mistake]
    assert code == 2
    assert MISTAKES[mistake][2] in err
    assert "Traceback" not in err
    assert SECRET not in err
    assert "hidden" not in err


async def test_a_port_in_use_is_one_clear_error(redis_url: str, prefix: str) -> None:
    async with gateway_process(redis_url, prefix) as node:
        code, _, err = await run(
            *("serve", "--port", str(node.port), "--internal-port", "0"),
            GATEWAY_REDIS_URL=redis_url,
            GATEWAY_REDIS_PREFIX=prefix,
            GATEWAY_JWT_SECRET=SECRET,
        )
    assert code == 2
    assert f"port {node.port}: it is in use; GATEWAY_PORT (or --port) chooses another port" in err
    assert "drain" not in err


async def test_who_starts_it_before_redis_reads_at_once_what_it_waits_for(tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "--development"),
            *("--port", str(free_port()), "--internal-port", "0"),
            cwd=tmp_path,
            env=os.environ
            | {
                "GATEWAY_REDIS_URL": f"redis://:hidden@127.0.0.1:{port}",
                "PYTHONPATH": str(ROOT),
            },
            stderr=output,
        )
    try:
        waiting = f"event=waiting_for_redis address=127.0.0.1:{port} reason="
        await until(lambda: waiting in log.read_text() or process.returncode is not None)
        assert "refused" in log.read_text()
        assert "GATEWAY_REDIS_URL is used; unset it" in log.read_text()
        assert "hidden" not in log.read_text()
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def test_check_of_development_mode_checks_what_it_would_bring(tmp_path: Path) -> None:
    code, out, err = await run("check", "--development", cwd=tmp_path)
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert (report["ok"], report["errors"], report["warnings"]) == (True, [], [])
    assert report["redis"]["reachable"]
    assert not (tmp_path / ".gateway" / "redis.url").exists()
    _, out, _ = await run("check", cwd=tmp_path)
    assert "--development" in out


async def test_check_tells_what_is_wrong(redis_url: str) -> None:
    code, _, err = await run("serve")
    assert "GATEWAY_REDIS_URL and GATEWAY_JWT_SECRET" in err
    code, out, _ = await run("check", GATEWAY_REDIS_URL=redis_url, GATEWAY_JWT_SECRET="short")
    report = json.loads(out)
    assert (code, report["ok"], report["redis"]["reachable"]) == (1, False, True)
    assert any("HS256 needs 32 bytes" in error for error in report["errors"])
    code, out, _ = await run(
        "check",
        GATEWAY_REDIS_URL=f"redis://:hidden@127.0.0.1:{free_port()}",
        GATEWAY_MAX_CONECTIONS="5",
    )
    report = json.loads(out)
    assert (code, report["ok"], report["redis"]["reachable"]) == (1, False, False)
    assert any("GATEWAY_JWT_SECRET" in error for error in report["errors"])
    assert any("GATEWAY_MAX_CONECTIONS" in warning for warning in report["warnings"])
    assert "hidden" not in out
    code, out, _ = await run("check", GATEWAY_REDIS_URL="redis://:hidden@localhost/0?tiemout=1")
    assert code == 1
    assert any("invalid Redis URL" in error for error in json.loads(out)["errors"])
    assert "hidden" not in out


async def test_the_help_of_check_has_its_exit_codes() -> None:
    _, out, _ = await run("check", "--help")
    assert "Exit codes: 0 ok, 1 the report has errors, 2 a setting is invalid" in " ".join(
        out.split()
    )


async def test_a_token_made_by_the_command_is_accepted(redis_url: str, prefix: str) -> None:
    code, token, _ = await run(
        *("token", "--user", "pupil", "--channel", "run-results/1", "--ttl", "60"),
        GATEWAY_JWT_SECRET=SECRET,
    )
    assert code == 0
    async with gateway_process(redis_url, prefix) as node:
        async with connected(node.url, token.strip()) as client:
            await client.subscribe("run-results/1")
            await client.subscribe("notifications/pupil")


async def test_a_token_needs_a_secret(tmp_path: Path) -> None:
    code, out, err = await run("token", "--user", "u", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "GATEWAY_JWT_SECRET" in err


async def test_without_redis_it_waits_refuses_with_503_and_then_serves(
    prefix: str, tmp_path: Path
) -> None:
    from tests.support.redis_server import redis_server

    port, gateway_port, internal = free_port(), free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--host", "127.0.0.1"),
        *("--port", str(gateway_port), "--internal-port", str(internal)),
        env=os.environ
        | {
            "GATEWAY_REDIS_URL": f"redis://127.0.0.1:{port}",
            "GATEWAY_JWT_SECRET": SECRET,
            "GATEWAY_REDIS_PREFIX": prefix,
        },
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def status(path: str) -> int:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{internal}{path}") as answer,
            ):
                return answer.status
        except aiohttp.ClientError:
            return 0

    async def is_status(path: str, expected: int) -> bool:
        return await status(path) == expected

    url = f"ws://127.0.0.1:{gateway_port}"
    try:
        await until(lambda: is_status("/healthz", 200))
        assert await status("/readyz") == 503
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with connected(url, make_token("u")):
                pass
        assert refused.value.status == 503
        with redis_server(tmp_path, port=port):
            await until(lambda: is_status("/readyz", 200))
            async with connected(url, make_token("u")) as client:
                await client.subscribe("notifications/u")
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def test_every_secret_may_be_in_a_file(redis_url: str, prefix: str, tmp_path: Path) -> None:
    secret, url = tmp_path / "secret", tmp_path / "url"
    secret.write_text(f"{SECRET}\n")
    url.write_text(f"{redis_url}\r\n")
    for arguments, variables in (
        ([], {"GATEWAY_JWT_SECRET": f"@{secret}", "GATEWAY_REDIS_URL": f"@{url}"}),
        (["--jwt-secret", f"@{secret}", "--redis-url", f"@{url}"], {}),
    ):
        code, out, err = await run(*("check", "--redis-prefix", prefix, *arguments), **variables)
        assert (code, json.loads(out)["errors"]) == (0, []), err
    async with gateway_process(f"@{url}", prefix, jwt_secret=f"@{secret}", workers=2) as node:
        async with connected(node.url, make_token("u")) as client:
            await client.subscribe("notifications/u")


async def test_ports_that_kubernetes_injects_do_not_keep_it_from_serving(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    port, internal = free_port(), free_port()
    config = tmp_path / "gateway.toml"
    config.write_text(f'port = {port}\ninternal_port = {internal}\nhost = "127.0.0.1"\n')
    injected = {
        "GATEWAY_PORT": "tcp://10.0.0.1:3001",
        "GATEWAY_INTERNAL_PORT": "tcp://10.0.0.2:9300",
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "GATEWAY_SERVICE_PORT_WS": "3001",
        "GATEWAY_PORT_3001_TCP_ADDR": "10.0.0.1",
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "--config", str(config)),
            env=os.environ
            | injected
            | {
                "GATEWAY_REDIS_URL": redis_url,
                "GATEWAY_REDIS_PREFIX": prefix,
                "GATEWAY_JWT_SECRET": SECRET,
                "GATEWAY_DRAIN_DELAY_SECONDS": "0",
            },
            stderr=output,
        )
    try:
        await until(lambda: "redis_reached" in log.read_text() or process.returncode is not None)
        assert process.returncode is None, log.read_text()

        async def serves() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                async with connected(f"ws://127.0.0.1:{port}", make_token("u")):
                    return True
            return False

        await until(serves)
        assert log.read_text().count("enableServiceLinks: false") == 1
        assert "no such setting" not in log.read_text()
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 15) == 0
