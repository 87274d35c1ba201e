"""Clients of valkey-py: the publisher connects as they do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from publisher import AsyncPublisher, InvalidData, Published, Publisher
from publisher.transport.topology import topology_of
from tests.support.programs import require_module
from tests.support.redis_cluster import RedisCluster, redis_cluster

CHANNEL = "notifications/u"


@pytest.fixture
def valkey() -> Any:
    require_module("valkey.asyncio.sentinel")
    return require_module("valkey")


@pytest.fixture
def packages(valkey: Any) -> list[tuple[Any, Any]]:
    """Each half of valkey-py, with its twin."""
    return [(valkey, redis), (valkey.asyncio, redis.asyncio)]


async def test_both_kinds_of_client_are_taken_and_left_open(
    valkey: Any, primary_url: str, prefix: str
):
    with valkey.Valkey.from_url(primary_url, decode_responses=True) as client:
        with Publisher(client, prefix=prefix) as publisher:
            publisher.publish(CHANNEL, "é")
        assert client.ping()
    async with valkey.asyncio.Valkey.from_url(primary_url) as client:
        async with AsyncPublisher(client, prefix=prefix) as awaited:
            assert [each.data for each in await awaited.history(CHANNEL)] == ["é"]
        assert await client.ping()


def test_the_other_kind_of_client_is_refused(valkey: Any):
    with pytest.raises(InvalidData, match=r"takes a client, redis\.Redis"):
        Publisher(valkey.asyncio.Valkey())
    with pytest.raises(InvalidData, match=r"takes a client, redis\.asyncio\.Redis"):
        AsyncPublisher(valkey.Valkey())
    with pytest.raises(InvalidData, match=r"valkey\.client\.Pipeline; pass the client"):
        Publisher(valkey.Valkey().pipeline())


def test_what_says_where_a_server_is_and_who_comes_is_taken_over(packages: list[tuple[Any, Any]]):
    for package, twin in packages:
        client = package.Valkey(
            host="one",
            port=6380,
            db=3,
            username="app",
            password="p",
            ssl=True,
            ssl_ca_certs="/etc/ca.pem",
            ssl_check_hostname=True,
        )
        topology = topology_of(client)
        assert (topology.address, topology.servers.database) == ("one:6380", 3)
        assert topology.servers.tls
        connection = topology.servers()
        assert type(connection) is twin.SSLConnection
        assert (connection.username, connection.password) == ("app", "p")
        assert connection.check_hostname
        path = topology_of(package.Valkey(unix_socket_path="/run/redis.sock")).address
        assert path == "/run/redis.sock"


def test_clients_of_sentinel_are_read_as_those_of_redis_py(packages: list[tuple[Any, Any]]):
    for package, twin in packages:
        sentinel = package.sentinel.Sentinel(
            [("one", 26379), ("two", 26380)], sentinel_kwargs={"password": "s"}, password="p"
        )
        topology = topology_of(sentinel.master_for("main", db=4))
        assert topology.address == "main@one:26379,two:26380"
        assert topology.servers.database == 4
        assert type(topology.servers()) is twin.Connection
        assert topology.sentinels is not None
        assert topology.sentinels.sentinels[0]().password == "s"
        with pytest.raises(InvalidData, match="master_for"):
            topology_of(sentinel.slave_for("main"))


class Rotating:
    """A provider of passwords."""

    def get_credentials(self) -> tuple[str, str]:
        return "app", "pw"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path) as cluster:
        yield cluster


async def test_clients_of_a_cluster_and_their_providers_of_passwords_are_taken(
    valkey: Any, cluster: RedisCluster, prefix: str
):
    for each in cluster.servers:
        each.run("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all")
    place: dict[str, Any] = {"host": "127.0.0.1", "port": cluster.servers[0].port}
    messages = [(f"run-results/{number}", number) for number in range(30)]
    client = valkey.ValkeyCluster(**place, credential_provider=Rotating())
    with Publisher(client, prefix=prefix) as publisher:
        assert all(isinstance(each, Published) for each in publisher.publish_many(messages))
    client.close()
    awaited = valkey.asyncio.ValkeyCluster(**place, username="app", password="pw")
    async with AsyncPublisher(awaited, prefix=prefix) as later:
        assert all(isinstance(each, Published) for each in await later.publish_many(messages))
    await awaited.aclose()
