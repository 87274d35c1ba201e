"""TLS to Redis and to a sentinel: certificates of both sides, and what is verified."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from gateway import redis_acl
from gateway.check import check
from gateway.settings import Settings
from publisher import AsyncPublisher, InvalidURL, Published, Publisher, Unavailable
from tests.support.certificates import Authority, Certificate
from tests.support.client import connected
from tests.support.nodes import running_node
from tests.support.programs import RequireProgram
from tests.support.redis_cluster import redis_cluster
from tests.support.redis_server import free_port, redis_server
from tests.support.redis_users import as_user, user_of_line
from tests.support.sentinel_servers import NAME, SentinelServer
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"


@dataclass
class Secured:
    """The ports of a server and of a sentinel that ask for a certificate of ours; ``elsewhere`` has another name."""

    port: int
    sentinel: int
    elsewhere: int
    authority: Path
    client: Certificate

    def options(self, authority: Path | None = None) -> str:
        return (
            f"ssl_ca_certs={authority or self.authority}"
            f"&ssl_certfile={self.client.certificate}&ssl_keyfile={self.client.key}"
        )

    @property
    def urls(self) -> list[str]:
        return [
            f"rediss://localhost:{self.port}?{self.options()}",
            f"rediss+sentinel://localhost:{self.sentinel}/{NAME}?{self.options()}",
        ]


@dataclass
class Certificates:
    authority: Authority
    here: Certificate


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    return Certificates(authority, authority.sign("localhost", addresses=("127.0.0.1",)))


@pytest.fixture(scope="module")
def secured(
    certificates: Certificates,
    tmp_path_factory: pytest.TempPathFactory,
    require_program: RequireProgram,
) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority, here = certificates.authority, certificates.here
    there = authority.sign("elsewhere.example")
    client = authority.sign("client.example")
    tls, other = free_port(), free_port()
    with pytest.MonkeyPatch.context() as patch:
        # Not every build of Valkey in the package speaks TLS.
        patch.setenv("TEST_REDIS_SERVER", require_program("redis-server"))
        for name in ("here", "there"):
            (folder / name).mkdir()
        with (
            redis_server(folder / "here", *_options(authority, here, tls)),
            redis_server(folder / "there", *_options(authority, there, other)),
        ):
            lines = [each.removeprefix("--") for each in _lines(authority, here)]
            sentinel = SentinelServer(
                folder / "sentinel", tls, 1, *lines, "tls-replication yes", tls=True
            )
            sentinel.start()
            try:
                yield Secured(tls, sentinel.port, other, authority.certificate, client)
            finally:
                sentinel.kill()


def _options(authority: Authority, own: Certificate, port: int) -> list[str]:
    words = [f"--tls-port {port}", *_lines(authority, own)]
    return [word for line in words for word in line.split()]


def _lines(authority: Authority, own: Certificate) -> list[str]:
    return [
        f"--tls-cert-file {own.certificate}",
        f"--tls-key-file {own.key}",
        f"--tls-ca-cert-file {authority.certificate}",
    ]


async def test_publishers_and_nodes_show_their_certificate_and_verify_the_others(
    secured: Secured, prefix: str
):
    for url in secured.urls:
        with Publisher.from_url(url, prefix=prefix) as publisher:
            publisher.publish(CHANNEL, 1)
        async with AsyncPublisher.from_url(url, prefix=prefix) as publisher:
            await publisher.publish(CHANNEL, 2)
        async with running_node(url, prefix) as node:
            await until(node.gateway.ready)


async def test_what_is_wrong_about_tls_is_told_with_what_to_do(secured: Secured, tmp_path: Path):
    async def told(url: str) -> str:
        report = await check(Settings(redis_url=url, jwt_secret=SECRET, redis_timeout_seconds=2))
        return " | ".join(report["errors"])

    stranger = Authority(tmp_path).sign("stranger")
    shown = f"ssl_certfile={stranger.certificate}&ssl_keyfile={stranger.key}"
    url = f"rediss://localhost:{secured.port}?ssl_ca_certs={secured.authority}"
    refused = await told(f"{url}&{shown}")
    assert "name one by ssl_certfile and ssl_keyfile" in refused
    assert "redis://" not in refused
    assert "use rediss://" in await told(f"redis://localhost:{secured.port}")


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
@pytest.mark.parametrize("place", ["localhost", "a,b/mymaster"], ids=["one server", "Sentinel"])
def test_a_file_of_tls_that_cannot_be_read_is_told_by_its_option(place: str, option: str):
    scheme = "rediss+sentinel" if "," in place else "rediss"
    with pytest.raises(InvalidURL, match=f"option {option} names cannot be read: No such file"):
        Publisher.from_url(f"{scheme}://:hidden@{place}?{option}=/nowhere/file.pem")


async def test_users_with_the_rights_that_gateway_acl_prints_are_served_over_tls(
    secured: Secured, prefix: str
):
    url = secured.urls[0]
    gateway, backend = (as_user(url, f"{name}-{prefix}") for name in ("gateway", "backend"))
    lines = redis_acl.lines(gateway, backend, prefix, "7.0")
    with contextlib.ExitStack() as stack:
        for line in lines:
            stack.enter_context(user_of_line(url, line))
        async with (
            running_node(gateway, prefix) as node,
            connected(node.url, make_token("u")) as client,
            AsyncPublisher.from_url(backend, prefix=prefix) as publisher,
        ):
            await client.subscribe(CHANNEL)
            await publisher.publish(CHANNEL, 1)
            assert await client.data(1) == [1]


async def test_a_cluster_is_reached_by_tls_at_each_of_its_servers(
    secured: Secured, certificates: Certificates, prefix: str, tmp_path: Path
):
    def options() -> list[str]:
        lines = _options(certificates.authority, certificates.here, free_port())
        return [*lines, "--tls-cluster", "yes", "--tls-replication", "yes"]

    with redis_cluster(tmp_path, options=options) as cluster:
        port = cluster.servers[0].run("CONFIG", "GET", "tls-port")[1]
        url = f"rediss+cluster://127.0.0.1:{port}?{secured.options()}"
        messages = [(f"run-results/{number}", number) for number in range(30)]
        with Publisher.from_url(url, prefix=prefix) as publisher:
            for outcome in publisher.publish_many(messages):
                assert isinstance(outcome, Published)
        async with AsyncPublisher.from_url(url, prefix=prefix) as publisher:
            await publisher.publish(CHANNEL, 2)
        async with running_node(url, prefix) as node:
            await until(node.gateway.ready)
            assert len(node.gateway.redis.hearing.servers()) == 3
            # It is ready with two of them.
            await until(lambda: all(node.gateway.redis.hearing.servers().values()))


async def test_an_authority_that_is_not_named_is_not_believed(
    publish_once, secured: Secured, tmp_path: Path
):
    stranger = Authority(tmp_path)
    for scheme, port, path in (
        ("rediss", secured.port, ""),
        ("rediss+sentinel", secured.sentinel, f"/{NAME}"),
    ):
        url = f"{scheme}://localhost:{port}{path}?{secured.options(stranger.certificate)}"
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            await publish_once(url, retries=0)


async def test_a_certificate_of_another_host_is_refused_unless_the_url_says_otherwise(
    publish_once, secured: Secured
):
    url = f"rediss://localhost:{secured.elsewhere}?{secured.options()}"
    with pytest.raises(Unavailable, match=r"(?i)hostname|certificate"):
        await publish_once(url, retries=0)
    await publish_once(f"{url}&ssl_check_hostname=false", retries=0)


async def test_who_shows_no_certificate_is_refused(publish_once, secured: Secured):
    with pytest.raises(Unavailable):
        await publish_once(
            f"rediss://localhost:{secured.port}?ssl_ca_certs={secured.authority}", retries=0
        )


async def test_a_clients_own_settings_of_tls_are_taken_over(secured: Secured, prefix: str):
    client = redis.Redis(
        host="localhost",
        port=secured.port,
        ssl=True,
        ssl_ca_certs=str(secured.authority),
        ssl_certfile=str(secured.client.certificate),
        ssl_keyfile=str(secured.client.key),
    )
    with client, Publisher(client, prefix=prefix) as publisher:
        publisher.publish(CHANNEL, 1)
