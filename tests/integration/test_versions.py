"""A rolling upgrade: nodes and publishers of version 0.1.0 and of this one serve the same clients on one Redis."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis

from publisher import AsyncPublisher, Namespace
from publisher.contract.keys import Keys
from tests.processes.test_serve import run
from tests.support.client import connected
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.programs import cannot_run
from tests.support.tokens import make_token
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.one_server("the version before knows no sentinels")

BEFORE = "c80b118"
"""The last commit of version 0.1.0."""

HERE = Path(__file__).parents[2]
CHANNEL = "notifications/u"

PUBLISHER = """
import json, sys
from publisher import Publisher
publisher = Publisher.from_url(sys.argv[1], prefix=sys.argv[2])
for line in sys.stdin:
    method, arguments = json.loads(line)
    result = getattr(publisher, method)(**arguments)
    print(json.dumps([result.id, result.duplicate] if method == "publish" else result), flush=True)
"""


@pytest.fixture(scope="module")
def version_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the version before."""
    return tree_of(BEFORE, tmp_path_factory)


@pytest.fixture(scope="module")
def one_message_a_call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the last commit whose publishes share no calls."""
    return tree_of("68dd0b9", tmp_path_factory)


def tree_of(commit: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the repository's own history holds."""
    try:
        archive = subprocess.run(
            ["git", "archive", commit, "gateway", "publisher"],
            cwd=HERE,
            capture_output=True,
            check=True,
        ).stdout
    except FileNotFoundError:
        cannot_run("there is no git to read the version before from")
    except subprocess.CalledProcessError as error:
        cannot_run(f"the version before is not in this clone: {error.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tree:
        tree.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def before_encryption(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the last commit that encrypts nothing."""
    return tree_of("bf9723b", tmp_path_factory)


@pytest.fixture
def trees(version_before: Path) -> dict[str, Path]:
    return {"old": version_before, "new": HERE}


@contextlib.asynccontextmanager
async def nodes_of_both(
    redis_url: str, prefix: str, trees: dict[str, Path], **settings: Any
) -> AsyncIterator[tuple[GatewayProcess, GatewayProcess]]:
    """A node of the version before, and one of this."""
    async with (
        gateway_process(redis_url, prefix, code=trees["old"], **settings) as old,
        gateway_process(redis_url, prefix, code=trees["new"], **settings) as new,
    ):
        yield old, new


class PublisherProcess:
    """A program that publishes with the library of one version."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def call(self, method: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, arguments]).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        assert line, "the publisher has ended"
        return json.loads(line)

    async def publish(self, data: Any, **options: Any) -> Any:
        return await self.call("publish", channel=CHANNEL, data=data, **options)


@contextlib.asynccontextmanager
async def publisher_process(
    code: Path, redis_url: str, prefix: str
) -> AsyncIterator[PublisherProcess]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PUBLISHER, redis_url, prefix),
        cwd=code,
        env={"PYTHONPATH": str(code)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield PublisherProcess(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def confirmed(redis_url: str, prefix: str) -> int:
    with redis.Redis.from_url(redis_url) as server:
        return int(server.zscore(Keys(prefix).confirmed(CHANNEL), "u") or 0)


@pytest.mark.parametrize("serving", ["old", "new"])
@pytest.mark.parametrize("before", ["version_before", "one_message_a_call"])
async def test_publishers_of_both_write_one_log_that_both_read(
    redis_url: str, prefix: str, request: pytest.FixtureRequest, before: str, serving: str
) -> None:
    trees = {"old": request.getfixturevalue(before), "new": HERE}
    async with (
        gateway_process(redis_url, prefix, code=trees[serving]) as node,
        publisher_process(trees["old"], redis_url, prefix) as old,
        publisher_process(trees["new"], redis_url, prefix) as new,
        connected(node.url, make_token("u")) as client,
    ):
        await client.subscribe(CHANNEL)
        sent = [number for number in range(20) for _ in range(2)]
        ids = [
            (await publisher.publish(number))[0] for number in range(20) for publisher in (old, new)
        ]
        assert ids == sorted(set(ids))
        assert await client.data(40) == sent
        assert (await client.subscribe(CHANNEL, since=ids[0]))["recovered"] is True
        assert await client.data(39) == sent[1:]
        with redis.Redis.from_url(redis_url) as server:
            assert server.ttl(Keys(prefix).log(CHANNEL)) > 0


def test_the_version_before_is_another(version_before: Path) -> None:
    assert not (version_before / "publisher" / "contract").exists()


@pytest.mark.parametrize("publishing", ["old", "new"])
@pytest.mark.parametrize("serving", ["old", "new"])
async def test_what_is_published_live_and_missed_is_delivered_once(
    redis_url: str, prefix: str, trees: dict[str, Path], serving: str, publishing: str
) -> None:
    async with (
        gateway_process(redis_url, prefix, code=trees[serving], confirm_interval_seconds=0.1) as n,
        publisher_process(trees[publishing], redis_url, prefix) as publisher,
    ):
        async with connected(n.url, make_token("u")) as client:
            await client.subscribe(CHANNEL)
            live, _ = await publisher.publish("live")
            await client.expect(type="notifications", data="live", id=live)
            await until(lambda: confirmed(redis_url, prefix) == live)
            await publisher.call("grant", channel="run-results/s", user="u")
            await client.subscribe("run-results/s")
            assert await publisher.call("revoke", channel="run-results/s", user="u")
            await client.expect(type="unsubscribed", channel="run-results/s")
        await publisher.publish("missed")
        first = await publisher.publish("with a key", idempotency_key="k")
        assert await publisher.publish("again", idempotency_key="k") == [first[0], True]
        async with connected(n.url, make_token("u")) as client:
            await client.subscribe(CHANNEL)
            assert await client.data(2) == ["missed", "with a key"]
            await client.sync()


async def test_both_versions_of_nodes_and_publishers_at_a_time(
    redis_url: str, prefix: str, trees: dict[str, Path]
) -> None:
    async with (
        nodes_of_both(redis_url, prefix, trees, confirm_interval_seconds=0.1) as (old, new),
        publisher_process(trees["old"], redis_url, prefix) as old_publisher,
        publisher_process(trees["new"], redis_url, prefix) as new_publisher,
    ):
        async with (
            connected(old.url, make_token("u")) as at_old,
            connected(new.url, make_token("u")) as at_new,
        ):
            for client in (at_old, at_new):
                await client.subscribe(CHANNEL)
            sent = []
            for number in range(5):
                sent.append(await old_publisher.publish([number, "old"]))
                sent.append(await new_publisher.publish([number, "new"]))
            for client in (at_old, at_new):
                ids = [(await client.receive())["id"] for _ in sent]
                assert ids == [id_ for id_, _ in sent]
            await until(lambda: confirmed(redis_url, prefix) == sent[-1][0])
        await new_publisher.publish("missed")
        async with connected(old.url, make_token("u")) as client:
            await client.subscribe(CHANNEL)
            assert await client.data(1) == ["missed"]
            await client.sync()


async def test_a_key_of_the_new_version_is_known_to_the_old_one(
    redis_url: str, prefix: str, trees: dict[str, Path]
) -> None:
    """Not the other way round: see UPGRADING.md."""
    async with (
        publisher_process(trees["old"], redis_url, prefix) as old,
        publisher_process(trees["new"], redis_url, prefix) as new,
    ):
        first, _ = await new.publish(1, idempotency_key="k")
        assert await old.publish(1, idempotency_key="k") == [first, True]


async def test_a_node_of_the_version_before_refuses_the_new_names_and_loses_nothing_by_it(
    redis_url: str, prefix: str, trees: dict[str, Path]
) -> None:
    user, channel = "auth0|7", "notifications/auth0|7"
    async with (
        nodes_of_both(redis_url, prefix, trees) as (old, new),
        publisher_process(trees["new"], redis_url, prefix) as publisher,
    ):
        await publisher.call("publish", channel=channel, data="kept")
        async with connected(old.url, make_token(user)) as client:
            await client.send({"type": "subscribe", "channel": channel})
            await client.expect(type="error", code="invalid_channel")
            await client.sync()
        async with connected(new.url, make_token(user)) as client:
            await client.subscribe(channel)
            assert await client.data(1) == ["kept"]


async def test_what_the_version_before_granted_to_everybody_stays_everybodys(
    redis_url: str, prefix: str, trees: dict[str, Path]
) -> None:
    channel = "run-results/s"
    async with (
        nodes_of_both(redis_url, prefix, trees) as (old, new),
        publisher_process(trees["old"], redis_url, prefix) as publisher,
        connected(old.url, make_token("u")) as at_old,
        connected(new.url, make_token("u")) as at_new,
    ):
        await publisher.call("grant", channel=channel, user="*")
        for client in (at_old, at_new):
            await client.subscribe(channel)
        assert await publisher.call("revoke", channel=channel, user="*")
        for client in (at_old, at_new):
            await client.expect(type="unsubscribed", channel=channel, reason="revoked")


async def test_a_user_called_asterisk_is_nobody_else_on_a_node_of_the_version_before_either(
    redis_url: str, prefix: str, trees: dict[str, Path]
) -> None:
    channel = "run-results/s"
    async with (
        nodes_of_both(redis_url, prefix, trees) as (old, new),
        publisher_process(trees["new"], redis_url, prefix) as publisher,
        connected(old.url, make_token("u")) as other,
        connected(new.url, make_token("*")) as named,
    ):
        await publisher.call("grant", channel=channel, user="*")
        await other.send({"type": "subscribe", "channel": channel})
        await other.expect(type="error", code="forbidden")
        await named.subscribe(channel)
        assert await publisher.call("revoke", channel=channel, user="*")
        await named.expect(type="unsubscribed", channel=channel, reason="revoked")
        await other.sync()


async def test_a_node_that_knows_no_encryption_stops_and_a_new_one_goes_on(
    redis_url: str, prefix: str, before_encryption: Path
) -> None:
    ring = f"k1:{base64.b64encode(bytes(range(32))).decode()}"
    encrypted = {"notifications": {"owner": "user", "encrypted": True}}
    async with (
        gateway_process(redis_url, prefix, code=before_encryption) as old,
        gateway_process(
            redis_url, prefix, namespaces=json.dumps(encrypted), encryption_keys=ring
        ) as new,
        AsyncPublisher.from_url(redis_url, prefix=prefix, encryption_keys=ring) as publisher,
    ):
        async with connected(old.url, make_token("u")) as client:
            await client.subscribe(CHANNEL)
            # As it is once the old node has ended: until then its announcement comes in between.
            publisher._operations._preflight.namespaces = {
                "notifications": Namespace.from_dict("notifications", encrypted["notifications"])
            }
            publisher._operations._preflight._learnt_at = float("inf")
            sealed = await publisher.publish(CHANNEL, 2)
            await until(lambda: "extension_unknown" in old.output)
            await client.sync()
        async with connected(new.url, make_token("u")) as client:
            await client.subscribe(CHANNEL)
            while (await client.receive())["id"] != sealed.id:
                pass
        assert confirmed(redis_url, prefix) <= sealed.id


async def test_what_takes_messages_back_is_a_loss_to_a_node_of_the_version_before(
    redis_url: str, prefix: str, version_before: Path
) -> None:
    """So UPGRADING.md lets backends wait for the last gateway."""
    async with (
        gateway_process(redis_url, prefix, code=version_before) as old,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        async with connected(old.url, make_token("u")) as client:
            await client.subscribe(CHANNEL)
            for number in range(2):
                sent = await publisher.publish(CHANNEL, number, ttl=1)
                await client.expect(data=number, id=sent.id)
            await client.sync()
            await until(lambda: confirmed(redis_url, prefix) >= sent.id)
        taken_out = await publisher.publish(CHANNEL, "deleted")
        await publisher.publish(CHANNEL, "older", collapse_key="k")
        kept = await publisher.publish(CHANNEL, "newer", collapse_key="k")
        assert await publisher.delete(CHANNEL, taken_out.id)
        async with connected(old.url, make_token("u")) as client:
            assert (await client.subscribe(CHANNEL))["recovered"] is False
            await client.expect(data="newer", id=kept.id)


async def test_a_node_of_the_version_before_is_listed_and_does_not_hear_that_it_shall_drain(
    redis_url: str, prefix: str, version_before: Path
) -> None:
    async with gateway_process(redis_url, prefix, code=version_before) as old:
        where = {"GATEWAY_REDIS_URL": redis_url, "GATEWAY_REDIS_PREFIX": prefix}
        code, out, _ = await run("top", "--json", **where)
        (node,) = json.loads(out)["nodes"]
        assert (code, node["report"]) == (0, None)
        code, _, err = await run("drain", node["name"], "--wait", "0.5", **where)
        assert code == 1
        assert "older than 0.2" in err
        assert old.process.returncode is None
