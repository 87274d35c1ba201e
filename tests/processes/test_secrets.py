"""A secret is nowhere but where it has to be: not in what a gateway writes, serves or starts, nor in what is left of one that crashes."""

from __future__ import annotations

import base64
import gc
import json
import os
import resource
import secrets
import signal
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from pydantic import SecretStr

from gateway.development import redis_server
from publisher.contract import rights
from tests.processes.test_serve import run
from tests.processes.test_workers import pids
from tests.support import topology
from tests.support.client import connected, opened
from tests.support.nodes import running_node
from tests.support.processes import gateway_process
from tests.support.redis_users import redis_user
from tests.support.waiting import until

PASSWORD = secrets.token_hex(20)
KEY = secrets.token_hex(32)
FORMER_KEY = secrets.token_hex(33)
KEYS = json.dumps([{"kid": "former", "secret": FORMER_KEY}])
SEALS = base64.b64encode(secrets.token_bytes(32)).decode()
RING = f"k1:{SEALS}"
PIECE = 8
"""Characters in a row that would tell too much."""


def shown(text: str) -> set[str]:
    """The parts of a secret that stand in a text."""
    pieces = {
        each[start : start + PIECE]
        for each in (PASSWORD, KEY, FORMER_KEY, SEALS)
        for start in range(len(each) - PIECE)
    }
    return {piece for piece in pieces if piece in text}


def read(pid: int, name: str) -> str:
    """What others can read of a process (proc(5))."""
    return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")


def make_token(**claims: Any) -> str:
    return jwt.encode({"sub": "u", "exp": int(time.time()) + 3600, **claims}, KEY, "HS256")


@pytest.fixture
def user(prefix: str) -> str:
    """The name of the gateway's user in Redis."""
    return f"secret-{prefix}"


@pytest.fixture
def secret_url(redis_url: str, prefix: str, user: str) -> Iterator[str]:
    """A Redis with a password that nobody may see."""
    given = rights.of_a_gateway(topology.keys(prefix))
    with redis_user(redis_url, user, given, PASSWORD) as url:
        yield url


@pytest.fixture
def cores_allowed() -> Iterator[None]:
    """Whoever starts a gateway here would let it write a core dump."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


async def test_what_a_gateway_starts_is_given_no_secret_and_no_title_shows_one(
    secret_url: str, prefix: str
) -> None:
    async with gateway_process(
        secret_url, prefix, workers=2, jwt_secret=KEY, jwt_keys=KEYS, encryption_keys=RING
    ) as node:
        # What is looked for would be found.
        assert shown(read(node.process.pid, "environ"))
        for pid in pids(node):
            assert "PATH=" in read(pid, "environ")
            assert not shown(read(pid, "environ"))
        for pid in (node.process.pid, *pids(node)):
            assert not shown(read(pid, "cmdline") + read(pid, "comm"))


async def test_the_redis_of_development_mode_is_given_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server that shows a title writes it over its environment, where it could be read otherwise.
    program, given = tmp_path / "server", tmp_path / "environment"
    program.write_text(f'#!/bin/sh\nenv > {given}\nexec {redis_server.server_binary()} "$@"\n')
    program.chmod(0o700)
    monkeypatch.setattr(redis_server, "server_binary", lambda: program)
    monkeypatch.setenv("GATEWAY_JWT_SECRET", KEY)
    server = redis_server.EmbeddedRedis(tmp_path / "data")
    await server.start()
    await server.stop()
    assert "PATH=" in given.read_text()
    assert not shown(given.read_text())


@pytest.mark.usefixtures("cores_allowed")
async def test_a_crash_leaves_no_secret_behind(
    secret_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    async with gateway_process(
        secret_url, prefix, workers=2, jwt_secret=KEY, jwt_keys=KEYS, encryption_keys=RING
    ) as node:
        for pid in (node.process.pid, *pids(node)):
            (limit,) = [each for each in read(pid, "limits").splitlines() if "core file" in each]
            assert limit.split()[4] == "0"
        os.kill(pids(node)[0], signal.SIGABRT)
        await until(lambda: "worker_ended worker=1" in node.output)
        assert "Fatal Python error: Aborted" in node.output
        assert not shown(node.output)


async def test_what_a_gateway_writes_and_serves_shows_no_secret(
    secret_url: str, redis_url: str, prefix: str, user: str
) -> None:
    async with gateway_process(
        secret_url, prefix, log_level="debug", jwt_secret=KEY, jwt_keys=KEYS, encryption_keys=RING
    ) as node:
        async with connected(node.url, make_token()) as client:
            await client.send({"type": "refresh", "token": make_token(exp=1)})
            await client.expect(code="token_expired")
        async with opened(node.url, make_token(aud="others")) as client:
            await client.expect(code="token_invalid")
        with topology.looking_at(redis_url) as admin:
            topology.to_all(admin, "ACL", "SETUSER", user, "resetpass")
            topology.to_all(admin, "CLIENT", "KILL", "USER", user)
        await until(lambda: "authentication failed" in node.output)
        pages = [(await node.get(each))[1] for each in ("/metrics", "/readyz", "/healthz")]
        await node.terminate()
        assert "connection_opened" in node.output
        assert not shown(node.output + "".join(pages))


@pytest.mark.parametrize(
    "variables",
    [
        {"GATEWAY_REDIS_URL": f"redis://user:{PASSWORD}@localhost:99999999/0"},
        {"GATEWAY_REDIS_URL": f"redis://user:{PASSWORD}@localhost/0?no_such_option=1"},
        {"GATEWAY_REDIS_URL": f"redis://user:{PASSWORD}/@localhost"},
        {"GATEWAY_REDIS_URL": f"redis://:{PASSWORD}@localhost", "GATEWAY_JWT_ALGORITHMS": "RS256"},
        {"GATEWAY_REDIS_URL": f"redis://:{PASSWORD}@localhost", "GATEWAY_JWT_SECRET": KEY[:20]},
        {"GATEWAY_REDIS_URL": "redis://localhost", "GATEWAY_JWT_KEYS": KEYS[:-1]},
        {"GATEWAY_REDIS_URL": "redis://localhost", "GATEWAY_JWT_KEYS": KEYS[1:-1]},
        {
            "GATEWAY_REDIS_URL": "redis://localhost",
            "GATEWAY_JWT_KEYS": KEYS.replace("kid", FORMER_KEY),
        },
        {
            "GATEWAY_REDIS_URL": "redis://localhost",
            "GATEWAY_JWT_KEYS": f'[{{"secret": "{FORMER_KEY[:20]}"}}]',
        },
        {"GATEWAY_ENCRYPTION_KEYS": SEALS},
        {"GATEWAY_ENCRYPTION_KEYS": f"{RING},{RING}"},
    ],
)
async def test_a_mistake_in_the_configuration_is_told_without_a_secret(
    variables: dict[str, str],
) -> None:
    code, out, err = await run("serve", **{"GATEWAY_JWT_SECRET": KEY, **variables})
    assert code == 2
    assert any(line.startswith("gateway: ") for line in err.splitlines())
    assert not shown(out + err)


OURS = {"gateway", "publisher", "redis", "jwt", "pydantic"}


def reachable(root: object) -> Iterator[object]:
    """All that an object is made of, whatever holds it; not the code, which leads to everything there is."""
    code = (types.ModuleType, type, types.FunctionType, types.CodeType, types.FrameType)
    seen, left = {id(root)}, [root]
    while left:
        each = left.pop()
        yield each
        further = gc.get_referents(each)
        if isinstance(each, types.MethodType):
            further = [each.__self__]
        for other in list(further):
            if isinstance(other, types.FunctionType):
                further += [
                    cell.cell_contents
                    for cell in other.__closure__ or ()
                    if cell != types.CellType()
                ]
        for other in further:
            if id(other) not in seen and not isinstance(other, code):
                seen.add(id(other))
                left.append(other)


async def test_no_part_of_a_node_shows_a_secret_where_it_is_printed(
    secret_url: str, prefix: str
) -> None:
    given = {"jwt_secret": KEY, "jwt_keys": KEYS, "encryption_keys": RING}
    settings: dict[str, Any] = {name: SecretStr(value) for name, value in given.items()}
    async with (
        running_node(secret_url, prefix, **settings) as node,
        connected(node.url, make_token()) as client,
    ):
        await client.subscribe("notifications/u")
        kinds = set()
        for each in reachable(node.gateway):
            if type(each).__module__.partition(".")[0] in OURS:
                kinds.add(type(each).__qualname__)
                assert not shown(f"{each!r} {each!s}"), type(each)
        assert {"Settings", "Key", "KeyRing", "Connector", "TokenVerifier", "Hub"} <= kinds
