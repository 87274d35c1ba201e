"""``gateway check`` says ok where serving works, and elsewhere names what is missing. Each time on a real server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway import check as checking
from gateway import redis_acl
from gateway.check import check
from gateway.settings import Settings
from publisher.contract import rights
from publisher.contract.channels import DEFAULT_NAMESPACES
from publisher.contract.keys import Keys
from tests.processes.test_serve import run
from tests.support.api import KEYS
from tests.support.certificates import Authority
from tests.support.identity_provider import IdentityProvider
from tests.support.nodes import running_node
from tests.support.programs import RequireProgram
from tests.support.redis_cluster import PRIMARIES, RedisCluster, redis_cluster
from tests.support.redis_server import RedisServer, free_port, redis_server
from tests.support.redis_users import as_user, redis_user
from tests.support.sentinel_servers import NAME, SentinelServer
from tests.support.tokens import SECRET
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


async def checked(url: str, prefix: str = "rt1", **settings: Any) -> dict[str, Any]:
    """The report, as JSON tells it."""
    given: dict[str, Any] = {
        "redis_url": url,
        "redis_prefix": prefix,
        "jwt_secret": SECRET,
        "allowed_origins": ["https://app.example.org"],
        "events": ["connected"],
    }
    report = await check(Settings(**given | settings, redis_timeout_seconds=2))
    return dict(json.loads(json.dumps(report)))


async def problem(url: str, prefix: str = "rt1") -> str:
    """What is wrong, in one text."""
    report = await checked(url, prefix)
    assert not report["ok"]
    assert SECRET not in json.dumps(report)
    return " | ".join(report["errors"])


async def test_it_is_ok_where_serving_works_and_nothing_is_left(
    redis_url: str, prefix: str
) -> None:
    report = await checked(redis_url, prefix)
    assert (report["ok"], report["errors"]) == (True, [])
    assert report["redis"]["reachable"]
    with redis.Redis.from_url(redis_url) as server:
        assert list(server.scan_iter(f"{prefix}*")) == []


async def test_it_warns_where_nobody_has_said_which_pages_may_connect(
    redis_url: str, prefix: str
) -> None:
    before = (await checked(redis_url, prefix))["warnings"]
    report = await checked(redis_url, prefix, allowed_origins=[])
    assert report["ok"]
    [told] = set(report["warnings"]) - set(before)
    assert "GATEWAY_ALLOWED_ORIGINS" in told


async def test_it_warns_of_a_certificate_that_clients_refuse_soon_or_now(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    authority, day = Authority(tmp_path), timedelta(days=1)
    own = authority.sign("own", lasts=30 * day)
    given = {"tls_certificate": own.certificate, "tls_key": own.key}
    before = (await checked(redis_url, prefix, **given))["warnings"]
    for times, told in (
        ({"lasts": 3 * day}, r" ends on .*, in 3\.0 days: renew it"),
        ({"lasts": -day / 2}, " has ended on .*: renew it"),
        ({"begins": day, "lasts": 2 * day}, " is not valid before "),
    ):
        authority.sign("own", **times)
        report = await checked(redis_url, prefix, **given)
        assert report["ok"]
        [warning] = set(report["warnings"]) - set(before)
        assert re.match(re.escape(str(own.certificate)) + told, warning)


async def test_an_audit_log_that_serving_could_not_write_is_an_error(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    there = tmp_path / "there.log"
    there.touch()
    (tmp_path / "sub").mkdir()
    for good in ("stdout", "stderr", there, tmp_path / "new.log"):
        report = await checked(redis_url, prefix, audit_log=str(good))
        assert (report["ok"], report["errors"]) == (True, [])
    assert not (tmp_path / "new.log").exists()
    for bad, why in (
        (tmp_path / "sub", "Is a directory"),
        (tmp_path / "nowhere" / "a.log", "No such file or directory"),
        (there / "a.log", "No such file or directory"),
    ):
        [error] = (await checked(redis_url, prefix, audit_log=str(bad)))["errors"]
        assert error.startswith(f"GATEWAY_AUDIT_LOG: {bad}: {why}; ")
        code, _, told = await run(
            "serve",
            GATEWAY_REDIS_URL=redis_url,
            GATEWAY_JWT_SECRET=SECRET,
            GATEWAY_AUDIT_LOG=str(bad),
            GATEWAY_PORT="0",
            GATEWAY_INTERNAL_PORT="0",
        )
        assert code == 2
        assert f"GATEWAY_AUDIT_LOG: {bad}: " in told


async def test_it_warns_of_rules_that_gateways_announce_otherwise(
    redis_url: str, prefix: str
) -> None:
    ours = {"lessons": {"owner": "anyone"}, "new": {}}
    async with running_node(redis_url, prefix, namespaces=ours) as node:
        await until(node.gateway.ready)
        before = (await checked(redis_url, prefix, namespaces=ours))["warnings"]
        theirs = {"lessons": {"owner": "grant"}}
        report = await checked(redis_url, prefix, namespaces=theirs)
    assert report["ok"]
    [told] = set(report["warnings"]) - set(before)
    assert told.startswith("namespace 'lessons': gateways announce {")
    assert '"owner":"anyone"' in told
    assert '"owner":"grant"' in told


async def test_keys_that_let_nobody_in_are_warned_of(redis_url: str, prefix: str) -> None:
    keys = [{"secret": SECRET, "for": "channel"}]
    report = await checked(redis_url, prefix, jwt_secret=None, jwt_keys=keys)
    assert any(each.startswith("no key verifies") for each in report["warnings"])


async def test_it_disturbs_nobody(redis_url: str, prefix: str) -> None:
    async with running_node(redis_url, prefix) as node:
        await until(node.gateway.ready)
        with redis.Redis.from_url(redis_url) as server:

            def kept() -> dict[bytes, object]:
                return {
                    key: server.zrange(key, 0, -1) if server.type(key) == b"zset" else b""
                    for key in server.scan_iter(f"{prefix}*")
                }

            before, received = kept(), node.gateway.stats.messages_received
            assert (await checked(redis_url, prefix))["ok"]
            assert kept() == before
            assert node.gateway.stats.messages_received == received


async def test_a_second_system_on_another_database_is_fine(redis_url: str, prefix: str) -> None:
    async with running_node(redis_url, prefix) as node:
        await until(node.gateway.ready)
        report = await checked(f"{redis_url}/1", prefix)
        assert (report["ok"], report["errors"]) == (True, [])


async def test_a_read_only_replica(tmp_path: Path, redis_url: str) -> None:
    port = redis_url.rpartition(":")[2].partition("/")[0]
    with redis_server(tmp_path, "--replicaof", "127.0.0.1", port) as url:
        with redis.Redis.from_url(url) as replica:
            await until(lambda: replica.info("replication")["master_link_status"] == "up")
        told = await problem(url)
    assert "READONLY" in told
    assert "primary" in told


@pytest.mark.parametrize(
    ("rights", "missing"),
    [
        ("~rt1:* &rt1:* +@all -evalsha -eval", "evalsha"),
        ("~rt1:* +@all resetchannels", "channel"),
        ("~other:* &rt1:* +@all", "key"),
        ("~rt1:* &rt1:* +@all -zadd", "zadd"),
        ("~rt1:* &rt1:* +@all -subscribe", "subscribe"),
        ("~rt1:* &rt1:* +@all -publish", "publish"),
        ("~rt1:* &rt1:* +@all -hset", "hset"),
    ],
)
async def test_a_user_who_lacks_a_right(tmp_path: Path, rights: str, missing: str) -> None:
    with redis_server(tmp_path) as url:
        with redis.Redis.from_url(url) as server:
            server.execute_command("ACL", "SETUSER", "app", "on", ">pw", *rights.split())
        told = await problem(url.replace("redis://", "redis://app:pw@"))
    assert missing in told.lower()
    assert "right" in told
    assert "pw@" not in told


SERVERS = ["valkey of the package", "redis-server"]


@pytest.fixture(params=SERVERS)
def any_server(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    require_program: RequireProgram,
) -> Iterator[str]:
    """A server without users, of the kind that development mode brings, and of the installed kind."""
    if request.param == "redis-server":
        installed = Path(require_program("redis-server"))
        monkeypatch.setattr("tests.support.redis_server.server_binary", lambda: installed)
    with redis_server(tmp_path) as url:
        yield url


@pytest.mark.parametrize("database", [0, 3])
async def test_it_is_ok_under_the_least_rights_of_a_gateway(
    any_server: str, database: int, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{any_server}/{database}"
    with redis_user(any_server, "gateway", rules_of(0, url)) as of_user:
        report = await checked(f"{of_user}/{database}")
    assert (report["ok"], report["errors"]) == (True, [])
    assert report["redis"]["version"]
    about_files, about_backends = report["warnings"]
    assert "append-only" in about_files
    assert "+persist" in about_backends
    assert "user of their own" in about_backends
    assert not caplog.records
    with redis.Redis.from_url(any_server, db=database) as server:
        assert server.dbsize() == 0


async def test_who_tells_of_no_events_needs_no_rights_for_them(any_server: str) -> None:
    events = {f"+{str(each[0]).lower()}" for each in rights.to_tell(Keys())}
    rules = [each for each in rules_of(0, any_server) if each not in events]
    with redis_user(any_server, "gateway", rules) as url:
        assert (await checked(url, events=[]))["ok"]
        assert not (await checked(url))["ok"]


async def test_of_backends_users_nothing_is_said_where_there_is_one(
    any_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_user(any_server, "gateway", rules_of(0, any_server)) as url:
        for publishers, told in (
            (None, True),
            (url, True),
            (as_user(any_server, "backend"), False),
        ):
            if publishers is not None:
                monkeypatch.setenv("PUBLISHER_REDIS_URL", publishers)
            warnings = (await checked(url))["warnings"]
            assert any("user of their own" in each for each in warnings) == told


async def test_the_least_rights_of_a_backend_are_too_few_for_a_gateway(
    any_server: str,
) -> None:
    with redis_user(any_server, "backend", rules_of(1, any_server)) as url:
        told = await problem(url)
    for right in ("+strlen", "+hdel", "+zmscore", "hset", "subscribe"):
        assert right in told


def rules_of(number: int, url: str) -> list[str]:
    """What stands behind the password in a line of ``gateway acl``: in the gateways', or in the publishers'."""
    return redis_acl.lines(url, None, "rt1")[number].split()[4:]


LEAST = rules_of(0, "redis://h")


@pytest.mark.parametrize("right", [each for each in LEAST if each[0] in "+~&"])
async def test_every_right_that_a_gateway_lacks_is_named(redis_url: str, right: str) -> None:
    """So none of them is one too many."""
    kept = [rule for rule in LEAST if rule != right]
    with redis_user(redis_url, "lacking", kept) as url:
        if right == "+info":  # a node does without
            warnings = (await checked(url))["warnings"]
            assert any("may not use INFO" in each for each in warnings)
            return
        assert right in await problem(url)


OF_THE_API = [
    each
    for each in redis_acl.lines("redis://h", None, "rt1", api=True)[0].split()[4:]
    if each not in LEAST
]
API = {"api_port": 0, "api_keys": json.dumps(KEYS)}


@pytest.mark.parametrize("right", OF_THE_API)
async def test_every_right_that_a_gateway_with_the_http_api_lacks_is_named(
    redis_url: str, right: str
) -> None:
    """It needs what backends need, and is told so by an error; without the API that is a hint."""
    kept = [*LEAST, *(each for each in OF_THE_API if each != right)]
    with redis_user(redis_url, "lacking", kept) as url:
        (told,) = (await checked(url, **API))["errors"]
        assert (await checked(url))["errors"] == []
    assert right in told
    assert "the HTTP API" in told


async def test_a_gateway_with_the_http_api_needs_no_other_user(any_server: str) -> None:
    assert {"+persist", "+pexpireat"} <= set(OF_THE_API)
    with redis_user(any_server, "gateway", [*LEAST, *OF_THE_API]) as url:
        report = await checked(url, **API)
    assert report["errors"] == []
    assert not any("user of their own" in each for each in report["warnings"])


@pytest.mark.parametrize("number", [0, 1])
async def test_another_database_needs_one_right_more(redis_url: str, number: int) -> None:
    rules = rules_of(number, f"{redis_url}/3")
    assert "+select" in rules
    assert "+select" not in rules_of(number, redis_url)
    with redis_user(redis_url, "selects", [each for each in rules if each != "+select"]) as url:
        assert "select" in await problem(f"{url}/3")


async def test_a_wrong_password(tmp_path: Path) -> None:
    with redis_server(tmp_path) as url:
        with redis.Redis.from_url(url) as server:
            server.config_set("requirepass", "hidden")
        assert "password" in await problem(url)
        told = await problem(url.replace("redis://", "redis://:guess@"))
    assert "password" in told
    assert "guess" not in told


async def test_a_server_of_a_cluster(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--cluster-enabled", "yes") as url:
        told = await problem(url)
    assert "Cluster" in told


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path) as cluster:
        yield cluster


async def test_a_cluster_is_checked_at_each_of_its_primaries(cluster: RedisCluster) -> None:
    report = await checked(cluster.url)
    assert (report["ok"], report["errors"]) == (True, [])
    for each in cluster.servers:
        assert each.run("DBSIZE") == 0
    rules = rights.of_a_gateway(Keys(sharded=True))
    for each in cluster.servers:
        each.run("ACL", "SETUSER", "node", "on", ">pw", *rules)
    url = cluster.url_of(cluster.servers, "node:pw@")
    assert (await checked(url))["errors"] == []
    cluster.servers[1].run("ACL", "SETUSER", "node", "-spublish", "-zadd")
    cluster.servers[1].run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    (about_eviction,) = (
        each for each in (await checked(cluster.url))["warnings"] if "evict" in each
    )
    assert about_eviction.startswith(f"127.0.0.1:{cluster.servers[1].port}: ")


RIGHTS_IN_A_CLUSTER = rights.of_a_gateway(Keys(sharded=True))


async def test_a_right_that_one_primary_denies_is_named_with_that_primary(
    cluster: RedisCluster,
) -> None:
    url = cluster.url_of(cluster.servers, "node:pw@")
    tried = {each for each in RIGHTS_IN_A_CLUSTER if each[0] == "+"} - {"+info"}
    assert tried >= {
        "+asking",
        "+cluster|info",
        "+cluster|slots",
        "+spublish",
        "+ssubscribe",
        "+sunsubscribe",
    }
    for number, right in enumerate(sorted(tried)):
        one = cluster.servers[number % PRIMARIES]
        for each in cluster.servers:
            each.run("ACL", "SETUSER", "node", "reset", "on", ">pw", *RIGHTS_IN_A_CLUSTER)
        one.run("ACL", "SETUSER", "node", f"-{right[1:]}")
        told = await problem(url)
        assert f"127.0.0.1:{one.port}: the user lacks the rights {right}" in told


async def test_where_one_lost_primary_stops_all_that_is_warned_of(cluster: RedisCluster) -> None:
    def told(report: dict[str, Any]) -> list[str]:
        return [each for each in report["warnings"] if "full-coverage" in each]

    assert not told(await checked(cluster.url))
    for each in cluster.servers:
        each.run("CONFIG", "SET", "cluster-require-full-coverage", "yes")
    (warning,) = told(await checked(cluster.url))
    assert "stops all" in warning
    for each in cluster.servers:
        each.run("ACL", "SETUSER", "node", "on", ">pw", *RIGHTS_IN_A_CLUSTER)
    (warning,) = told(await checked(cluster.url_of(cluster.servers, "node:pw@")))
    assert "CONFIG GET" in warning


async def test_of_each_primary_it_is_told_whether_it_is_up_and_what_to_do_about_one_that_is_down(
    cluster: RedisCluster,
) -> None:
    primaries = cluster.servers[:PRIMARIES]
    up = {f"127.0.0.1:{each.port}": "up" for each in primaries}
    assert (await checked(cluster.url))["redis"]["servers"] == up
    away = primaries[1]
    cluster.replica_of(away).kill()
    away.kill()
    found = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "gateway", "check"],
        env={**os.environ, "GATEWAY_REDIS_URL": cluster.url, "GATEWAY_JWT_SECRET": SECRET},
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    report = json.loads(found.stdout)
    assert found.returncode == 1
    assert report["redis"]["reachable"]
    assert report["redis"]["version"]
    assert report["redis"]["servers"] == up | {f"127.0.0.1:{away.port}": "down"}
    (error,) = report["errors"]
    assert f"127.0.0.1:{away.port}" in error
    assert "replica" in error
    assert any("not tried" in warning for warning in report["warnings"])


async def test_a_cluster_none_of_whose_primaries_answers_is_not_reachable(
    cluster: RedisCluster,
) -> None:
    for each in cluster.servers[:PRIMARIES]:
        each.freeze()
    report = await checked(cluster.url)
    assert not report["redis"]["reachable"]
    assert set(report["redis"]["servers"].values()) == {"down"}
    assert len(report["errors"]) == PRIMARIES


async def test_a_single_server_is_no_cluster(redis_url: str) -> None:
    told = await problem(redis_url.replace("redis://", "redis+cluster://"))
    assert "no Redis Cluster" in told


async def test_scripts_that_are_forbidden(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--rename-command", "EVAL", "") as url:
        told = await problem(url)
    assert "EVAL" in told


async def test_no_memory_left(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--maxmemory", "1mb") as url:
        told = await problem(url)
    assert "maxmemory" in told


async def test_a_database_that_is_not_there(any_server: str) -> None:
    assert "no database 99" in await problem(f"{any_server}/99")


async def test_tls_to_a_server_that_does_not_speak_it(any_server: str) -> None:
    told = await problem(any_server.replace("redis://", "rediss://"))
    assert "TLS" in told
    assert "redis://" in told


async def test_nobody_answers() -> None:
    report = await checked(f"redis://127.0.0.1:{free_port()}")
    assert (report["ok"], report["redis"]) == (False, {"reachable": False})
    assert len(report["errors"]) == 1


async def test_a_server_that_hangs_is_waited_for_once(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        server.freeze()
        report = await checked(server.url)
    finally:
        server.stop()
    assert len(report["errors"]) == 1
    assert "in time" in report["errors"][0]


async def test_eviction_and_memory_without_a_file_are_warned_of(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--maxmemory-policy", "allkeys-lru") as url:
        report = await checked(url)
    assert report["ok"]
    assert any("noeviction" in warning for warning in report["warnings"])
    assert any("a restart loses the log" in warning for warning in report["warnings"])


async def test_an_installed_redis_is_fine_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require_program: RequireProgram
) -> None:
    installed = Path(require_program("redis-server"))
    monkeypatch.setattr("tests.support.redis_server.server_binary", lambda: installed)
    with redis_server(tmp_path) as url:
        report = await checked(url)
    assert (report["ok"], report["errors"]) == (True, [])
    assert report["redis"]["version"].startswith(("6.", "7.", "8."))


@pytest.mark.parametrize(
    ("info", "old"),
    [
        ({"redis_version": "6.2.14"}, True),
        ({"redis_version": "5.0.3"}, True),
        ({"redis_version": "7.0.0"}, False),
        ({"redis_version": "8.2.1"}, False),
        # Valkey says 7.2 there for the sake of old clients, and keydb has the version of its origin.
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, False),
        ({"redis_version": "6.3.4"}, True),
        ({"redis_version": "unstable"}, False),
        ({}, False),
    ],
)
def test_a_server_that_is_too_old_is_named(info: dict[str, str], old: bool) -> None:
    assert bool(checking.too_old(info)) == old


async def test_the_primary_that_sentinels_name(tmp_path: Path, prefix: str) -> None:
    with redis_server(tmp_path) as server:
        port = int(server.rpartition(":")[2])
        sentinel = SentinelServer(tmp_path / "sentinel", port, 1)
        sentinel.start()
        try:
            url = f"redis+sentinel://127.0.0.1:{sentinel.port}"
            await until(lambda: _is_ok(f"{url}/{NAME}", prefix))
            report = await checked(f"{url}/other", prefix)
        finally:
            sentinel.kill()
    assert not report["ok"]
    assert any("no primary named 'other'" in error for error in report["errors"])


async def test_sentinels_that_are_none_are_away_or_let_nobody_listen_are_warned_of(
    tmp_path: Path, prefix: str
) -> None:
    with redis_server(tmp_path) as server:
        port = int(server.rpartition(":")[2])
        sentinel = SentinelServer(tmp_path / "sentinel", port, 1)
        sentinel.start()
        try:
            one = f"127.0.0.1:{sentinel.port}"
            await until(lambda: _is_ok(f"redis+sentinel://{one}/{NAME}", prefix))
            assert not await _about_sentinels(one, prefix)
            away = f"127.0.0.1:{free_port()}"
            told = await _about_sentinels(f"{one},{away},127.0.0.1:{port}", prefix)
            assert [each.split(": ")[0] for each in told] == [
                f"sentinel {away}",
                f"sentinel 127.0.0.1:{port}",
            ]
            assert "is no sentinel" in told[1]
            with redis.Redis(port=sentinel.port) as admin:
                admin.execute_command("ACL", "SETUSER", "default", "-subscribe")
            (told_of,) = await _about_sentinels(one, prefix)
            assert told_of.startswith(f"sentinel {one}: ")
            assert "'subscribe'" in told_of
        finally:
            sentinel.kill()


async def _about_sentinels(hosts: str, prefix: str) -> list[str]:
    report = await checked(f"redis+sentinel://{hosts}/{NAME}", prefix)
    assert (report["ok"], report["errors"]) == (True, [])
    return [each for each in report["warnings"] if "sentinel" in each]


async def _is_ok(url: str, prefix: str) -> bool:
    return bool((await checked(url, prefix))["ok"])


# -- keys that an issuer publishes ----------------------------------------------------------------


async def test_it_says_what_an_issuer_publishes(redis_url: str, prefix: str) -> None:
    provider = IdentityProvider()
    provider.publish("a", "b")
    async with provider.running():
        given = {"jwt_jwks_url": provider.jwks_url, "jwt_issuer": "login", "jwt_audience": "us"}
        report = await checked(redis_url, prefix, **given)
        assert report["ok"]
        assert report["keys"] == [{"host": "127.0.0.1", "keys": 2, "algorithms": ["RS256"]}]
        assert provider.asked == ["/jwks"]
        provider.trouble = "redirects"
        report = await checked(redis_url, prefix, **given)
    assert report["errors"] == [
        "GATEWAY_JWT_JWKS_URL: keys of 127.0.0.1: a redirect to localhost, which is not followed"
    ]
    assert report["keys"] == []


async def test_serving_an_encrypted_namespace_without_keys_is_refused_where_check_says_so(
    redis_url: str, prefix: str
) -> None:
    encrypted = {"notifications": {"encrypted": True}}
    report = await checked(redis_url, prefix, namespaces=encrypted)
    (error,) = report["errors"]
    assert "GATEWAY_ENCRYPTION_KEYS" in error
    # What is left out stays: otherwise each user would be shut out of the channel of their own.
    assert report["namespaces"]["notifications"] == {
        **DEFAULT_NAMESPACES["notifications"].to_dict(),
        "encrypted": True,
    }
    for workers in ("1", "2"):
        code, _, told = await run(
            "serve",
            GATEWAY_REDIS_URL=redis_url,
            GATEWAY_JWT_SECRET=SECRET,
            GATEWAY_NAMESPACES=json.dumps(encrypted),
            GATEWAY_WORKERS=workers,
            GATEWAY_PORT="0",
            GATEWAY_INTERNAL_PORT="0",
        )
        assert code == 2
        assert error in told
