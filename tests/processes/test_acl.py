"""``gateway acl`` prints lines that a server loads as they are, and that are enough for everything and for nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway import redis_acl
from gateway.check import check
from gateway.settings import Settings
from publisher import AsyncPublisher
from publisher.errors import InvalidData
from tests.support.client import connected
from tests.support.nodes import running_node
from tests.support.programs import RequireProgram
from tests.support.redis_cluster import redis_cluster
from tests.support.redis_server import RedisServer
from tests.support.redis_users import denied
from tests.support.tokens import SECRET, make_token
from tests.support.topology import Looking, looking_at, to_all

ROOT = Path(__file__).parents[2]
ADMIN = "user default on nopass ~* &* +@all"


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``gateway acl``."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GATEWAY_", "PUBLISHER_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "gateway", "acl", *arguments],
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def with_login(url: str, login: str) -> str:
    return url.replace("://", f"://{login}@", 1)


def printed(url: str, version: str) -> list[str]:
    """What the command prints for a gateway and a publisher of this Redis."""
    done = command(
        *("--redis-version", version),
        GATEWAY_REDIS_URL=with_login(url, "node:pw-n%21"),
        PUBLISHER_REDIS_URL=with_login(url, "app:pw-a"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "pw-" not in done.stdout
    return done.stdout.splitlines()


async def served(url: str, admin: Looking) -> None:
    """Do all that gateways and publishers do, as these users, and see that Redis has refused nothing."""
    node_url, app_url = with_login(url, "node:pw-n%21"), with_login(url, "app:pw-a")
    report = await check(Settings(redis_url=node_url, jwt_secret=SECRET))
    assert (report["ok"], report["errors"]) == (True, [])
    assert report["redis"]["version"]
    assert not any("INFO" in each for each in report["warnings"])
    # That it tries what only backends need is why it was refused something until now.
    await asyncio.to_thread(to_all, admin, "ACL", "LOG", "RESET")
    async with (
        running_node(node_url, "rt1") as node,
        AsyncPublisher.from_url(app_url) as publisher,
        connected(node.url, make_token("u")) as client,
    ):
        await publisher.grant("run-results/s", "u")
        for channel in ("notifications/u", "run-results/s"):
            await client.subscribe(channel)
            await publisher.publish(channel, 1, idempotency_key="k")
            await publisher.publish(channel, 2, min_replicas=0)
            assert await client.data(2) == [1, 2]
        await publisher.revoke("run-results/s", "u")
        await client.expect(type="unsubscribed", reason="revoked")
        assert [each.data for each in await publisher.history("notifications/u")] == [1, 2]
        assert len(await publisher.connections("u")) == 1
        await publisher.ping()
        await publisher.revoke_token("jti", time.time() + 60)
        await publisher.revoke_tokens_before("other", time.time())
        await publisher.disconnect("u")
        await client.expect(code="disconnected")
        await node.gateway.redis.positions.flush()
    for name in ("node", "app"):
        assert await asyncio.to_thread(denied, admin, name) == set()


INSTALLED = "7.0"


@pytest.fixture(params=["valkey", INSTALLED])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(
    version: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    require_program: RequireProgram,
) -> Iterator[RedisServer]:
    """A server with an ACL file, of the kind that development mode brings, and of the installed kind."""
    if version == INSTALLED:
        installed = Path(require_program("redis-server"))
        monkeypatch.setattr("tests.support.redis_server.server_binary", lambda: installed)
    file = tmp_path / "users.acl"
    file.write_text(ADMIN)
    server = RedisServer(tmp_path, "--aclfile", str(file))
    server.start()
    yield server
    server.stop()


async def test_a_server_loads_them_and_they_are_enough(
    server: RedisServer, tmp_path: Path, version: str
) -> None:
    lines = await asyncio.to_thread(printed, server.url, version)
    (tmp_path / "users.acl").write_text("\n".join([ADMIN, *lines]))
    with redis.Redis.from_url(server.url) as admin:
        assert admin.execute_command("ACL", "LOAD")
        await served(server.url, admin)


def test_a_gateway_with_the_http_api_may_what_a_backend_may() -> None:
    """That it is enough is shown by tests/integration/test_api.py, whose gateways have these rights."""
    without, backend = command().stdout.splitlines()
    gateway, same = command("--api-port", "9400").stdout.splitlines()
    assert same == backend
    assert gateway == command(GATEWAY_API_PORT="9400").stdout.splitlines()[0]
    more = set(gateway.split()) - set(without.split())
    assert {"+persist", "+pexpireat"} <= more <= set(backend.split())


async def test_they_are_enough_in_a_cluster(tmp_path: Path) -> None:
    file = tmp_path / "users.acl"
    file.write_text(ADMIN)
    with redis_cluster(tmp_path, options=lambda: ("--aclfile", str(file))) as cluster:
        lines = await asyncio.to_thread(printed, cluster.url, "valkey")
        file.write_text("\n".join([ADMIN, *lines]))
        for each in cluster.servers:
            each.run("ACL", "LOAD")
        with looking_at(cluster.url) as admin:
            await served(cluster.url, admin)


async def test_without_urls_they_have_usual_names_and_are_not_loaded_before_there_is_a_password(
    server: RedisServer, tmp_path: Path
) -> None:
    done = await asyncio.to_thread(command)
    assert done.returncode == 0
    gateway, backend = done.stdout.splitlines()
    assert gateway.startswith(f"user gateway on {redis_acl.PLACEHOLDER} resetkeys ~rt1:* ")
    assert backend.startswith(f"user backend on {redis_acl.PLACEHOLDER} resetkeys ~rt1:* ")
    assert redis_acl.PLACEHOLDER in done.stderr
    (tmp_path / "users.acl").write_text(f"{ADMIN}\n{gateway}\n{backend}")
    with redis.Redis.from_url(server.url) as admin, pytest.raises(redis.ResponseError):
        admin.execute_command("ACL", "LOAD")


def test_a_url_with_a_password_is_no_option() -> None:
    done = command("--redis-url", "redis://gateway:hidden@localhost")
    assert done.returncode == 2
    assert "hidden" not in done.stdout + done.stderr


@pytest.mark.parametrize("wrong", ["@no-such-file", "redis://app:hidden@h:99999999", "http://h"])
def test_a_mistake_in_the_publishers_url_is_told_with_its_name(wrong: str) -> None:
    done = command(PUBLISHER_REDIS_URL=wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert "PUBLISHER_REDIS_URL" in done.stderr
    assert "hidden" not in done.stderr


@pytest.mark.parametrize(
    ("gateway", "publisher", "prefix"),
    [
        ("redis://app:a@h", "redis://app:b@h", "rt1"),
        ("redis://a%20b:c@h", None, "rt1"),
        ("redis://h", None, "rt 1"),
        ("redis://h", None, "r*"),
        ("redis://a:c@h", "redis://b:c@h/5", "rt1"),
    ],
    ids=[
        *("one user for both", "a name with a space", "a prefix with a space", "a pattern"),
        "two databases",
    ],
)
def test_what_an_acl_file_cannot_say_is_refused(
    gateway: str, publisher: str | None, prefix: str
) -> None:
    with pytest.raises(InvalidData):
        redis_acl.lines(gateway, publisher, prefix)


def test_a_password_is_told_by_its_hash_and_a_publisher_without_a_url_is_of_the_same_redis() -> (
    None
):
    gateway, backend = redis_acl.lines("rediss://g:p%40ss@h:1/3", None, "p")
    digest = hashlib.sha256(b"p@ss").hexdigest()
    assert gateway.startswith(f"user g on #{digest} resetkeys ")
    for line in (gateway, backend):
        assert {"~p:*", "&p@3:*", "+select"} <= set(line.split())
    assert "+spublish" not in gateway
    for line in redis_acl.lines(None, "redis+cluster://h", "p"):
        assert {"+spublish", "+asking", "+cluster|slots", "+cluster|info"} <= set(line.split())
        assert "+select" not in line.split()
    url = "redis+sentinel://n:pw@s1,s2/mymaster?sentinel_password=other"
    assert redis_acl.lines(url, None, "p")[0].startswith("user n on #30c952fab122c3f9")


@pytest.mark.parametrize("version", [None, "7.0", "7.0.15", "7.2", "8.2.1", "10.0", "valkey"])
def test_only_a_version_that_knows_a_right_is_given_it(version: str | None) -> None:
    """Redis 7.0 loads no line of a file with one that it does not know."""
    for line in redis_acl.lines(None, None, "rt1", version):
        assert ("+client|setinfo" in line) == (version not in (None, "7.0", "7.0.15"))


@pytest.mark.parametrize("version", ["seven", "7", "", "7.x", "Valkey", "6.2"])
def test_a_version_that_is_none_is_refused(version: str) -> None:
    done = command("--redis-version", version)
    assert (done.returncode, done.stdout) == (2, "")


BEFORE = [
    """resetkeys ~rt1:* resetchannels &rt1:* -@all +del +eval +evalsha +exists +expire +get +hdel +hgetall +hset +pexpire
    +ping +pttl +publish +select +set +subscribe +time +unsubscribe +zadd +zcard +zcount +zmscore +zrange +zrangebyscore
    +zrem +zremrangebyrank +zremrangebyscore +zrevrange +zscore""",
    """resetkeys ~rt1:* resetchannels &rt1:* -@all +eval +evalsha +expire +get +hgetall +mget +persist +pexpireat +ping
    +publish +select +set +time +wait +zadd +zrangebyscore +zrem +zremrangebyrank +zremrangebyscore +zrevrange +zscore""",
]
"""What docs/deployment.md has said before there was this command: of gateways, and of publishers."""


FOR_EVENTS = {
    f"+{each}"
    for each in [
        "hget",
        "hlen",
        "hrandfield",
        "xack",
        "xadd",
        "xautoclaim",
        "xclaim",
        "xgroup",
        "xinfo",
        "xreadgroup",
    ]
}


NEW = {
    "+exists",
    "+getrange",
    "+info",
    "+pexpire",
    "+pttl",
    "+scan",
    "+strlen",
    "+zcard",
    "+zcount",
    "+zrange",
    "+zscan",
}
"""INFO is for `gateway check` alone, which goes on without it. No backend of before takes a message back, asks for receipts, or
that a user is forgotten."""


def test_who_has_the_lines_of_before_needs_no_others_to_go_on() -> None:
    """All tests run under the printed lines, and so show that these are enough."""
    for line, before in zip(redis_acl.lines(None, None, "rt1"), BEFORE, strict=True):
        # Events are told where a setting says so.
        assert set(line.split()[4:]) - NEW - FOR_EVENTS <= set(before.split())


OF_0_1_0 = [
    """eval evalsha expire get hset info pexpire pttl publish subscribe time unsubscribe zadd zcard zmscore zrange zrangebyscore
    zrem zremrangebyscore zrevrange zscore""",
    """eval evalsha expire get hgetall mget persist pexpireat publish set time wait zadd zrange zrangebyscore zrem zremrangebyrank
    zremrangebyscore zrevrange zscore""",
]
"""What version 0.1.0 uses, in gateways and in backends. It printed no lines."""


def test_upgrading_names_each_right_that_the_version_before_did_not_need() -> None:
    text = (ROOT / "UPGRADING.md").read_text()
    told = re.findall(r"`((?:\+[a-z|]+ ?)+)`", text[text.index("- **Rights.**") :])[:2]
    added = [
        " ".join(sorted(set(line.split()[9:]) - {f"+{each}" for each in before.split()}))
        for line, before in zip(redis_acl.lines(None, None, "rt1"), OF_0_1_0, strict=True)
    ]
    assert told == added
