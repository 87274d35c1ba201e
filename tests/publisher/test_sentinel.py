"""Publishing to the primary that real sentinels name."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

from publisher import AsyncPublisher, Publisher, Rejected, Unavailable
from tests.support.redis_server import free_port, redis_server
from tests.support.sentinel_servers import NAME, SentinelServer

CHANNEL = "notifications/u"
PASSWORD = "of the sentinels"
SECRET = "of the server"


class Watched:
    """A server with a user of its own, and two sentinels that know it."""

    def __init__(self, folder: Path, url: str) -> None:
        port = urlsplit(url).port
        assert port is not None
        lines = f'requirepass "{PASSWORD}"', f'sentinel sentinel-pass "{PASSWORD}"'
        self.sentinels = [
            SentinelServer(folder / f"sentinel-{number}", port, 1, *lines) for number in range(2)
        ]
        self.url = url

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", each.port) for each in self.sentinels]

    def url_with(self, *, login: str = f"app:{SECRET}", name: str = NAME, query: str = "") -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        query = query or f"sentinel_password={PASSWORD}"
        return f"redis+sentinel://{login}@{hosts}/{name}?{query}".replace(" ", "%20")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    with redis_server(folder) as url, redis.Redis.from_url(url) as server:
        server.acl_setuser(
            "app",
            enabled=True,
            passwords=[f"+{SECRET}"],
            commands=["+@all"],
            keys=["*"],
            channels=["*"],
        )
        watched = Watched(folder, url)
        try:
            for sentinel in watched.sentinels:
                sentinel.start()
                _wait_for(sentinel)
            yield watched
        finally:
            for sentinel in watched.sentinels:
                sentinel.kill()


def _wait_for(sentinel: SentinelServer) -> None:
    deadline = time.monotonic() + 20
    with redis.Redis(port=sentinel.port, password=PASSWORD) as client:
        while True:
            with contextlib.suppress(redis.RedisError):
                if client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME):
                    return
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_blocking_publisher_finds_the_primary(watched: Watched, prefix: str):
    with Publisher.from_url(watched.url_with(), prefix=prefix) as publisher:
        publisher.publish(CHANNEL, 1)
        with pickle.loads(pickle.dumps(publisher)) as copy:
            copy.publish(CHANNEL, 2)
            assert [each.data for each in copy.history(CHANNEL)] == [1, 2]


async def test_an_asyncio_publisher_finds_the_primary(watched: Watched, prefix: str):
    async with AsyncPublisher.from_url(watched.url_with(), prefix=prefix) as publisher:
        await publisher.publish(CHANNEL, 1)
        async with pickle.loads(pickle.dumps(publisher)) as copy:
            await asyncio.gather(*(copy.publish(CHANNEL, number) for number in range(2, 5)))
            assert [each.data for each in await copy.history(CHANNEL)] == [1, 2, 3, 4]


def test_a_blocking_client_of_sentinels_master_for_is_taken(watched: Watched, prefix: str):
    sentinel = redis.sentinel.Sentinel(
        watched.addresses, sentinel_kwargs={"password": PASSWORD}, socket_timeout=5
    )
    with Publisher(
        sentinel.master_for(NAME, username="app", password=SECRET), prefix=prefix
    ) as publisher:
        publisher.publish(CHANNEL, 1)


class Rotating(redis.CredentialProvider):
    """As those of the clouds: a password for each connection."""

    def __init__(self) -> None:
        self.asked = 0

    def get_credentials(self) -> tuple[str, str]:
        self.asked += 1
        return "app", SECRET


async def test_an_asyncio_client_and_its_provider_of_passwords_are_taken(
    watched: Watched, prefix: str
):
    provider = Rotating()
    sentinel = redis.asyncio.sentinel.Sentinel(
        watched.addresses, sentinel_kwargs={"password": PASSWORD}
    )
    client = sentinel.master_for(NAME, credential_provider=provider)
    async with AsyncPublisher(client, prefix=prefix) as publisher:
        await publisher.publish(CHANNEL, 1)
    assert provider.asked
    await client.aclose()


async def test_what_the_sentinels_do_not_accept_is_told_without_a_password(
    publish_once, watched: Watched
):
    for query in ("sentinel_password=hidden", "client_name=x"):
        with pytest.raises(
            Rejected, match=r"sentinel 127\.0\.0\.1.*(authentication|password)"
        ) as caught:
            await publish_once(watched.url_with(query=query), give_up_after=0.2)
        assert "hidden" not in str(caught.value)
        assert SECRET not in str(caught.value)


async def test_what_the_server_does_not_accept_is_told_without_a_password(
    publish_once, watched: Watched
):
    with pytest.raises(Rejected, match="authentication failed") as caught:
        await publish_once(watched.url_with(login="app:hidden"), give_up_after=0.2)
    assert "hidden" not in str(caught.value)


async def test_a_name_that_no_sentinel_knows_is_told(publish_once, watched: Watched):
    with pytest.raises(Unavailable, match="no primary named 'other'") as caught:
        await publish_once(watched.url_with(name="other"), give_up_after=0.2)
    assert caught.value.retryable


async def test_a_url_that_names_the_wrong_kind_of_server_says_so(publish_once, watched: Watched):
    place = f"127.0.0.1:{urlsplit(watched.url).port}"
    with pytest.raises(
        Rejected, match=rf"sentinel {place}: it is no sentinel: .*26379, or .*redis://"
    ):
        await publish_once(f"redis+sentinel://{place}/{NAME}", give_up_after=0.2)
    place = f":{quote(PASSWORD)}@127.0.0.1:{watched.sentinels[0].port}"
    for scheme in ("redis", "redis+cluster"):
        with pytest.raises(Rejected, match=r"is a sentinel: name that by redis\+sentinel://"):
            await publish_once(f"{scheme}://{place}", give_up_after=0.2)


async def test_sentinels_that_are_away_are_passed_over(publish_once, watched: Watched):
    url = watched.url_with()
    await publish_once(
        url.replace(f"127.0.0.1:{watched.sentinels[0].port}", f"127.0.0.1:{free_port()}"),
        give_up_after=0.2,
    )


async def test_where_no_sentinel_answers_a_call_gives_up_after_its_time(publish_once):
    with pytest.raises(Unavailable, match=r"sentinel 127\.0\.0\.1.*Error 111"):
        await publish_once(
            f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/{NAME}",
            give_up_after=0.2,
        )
