"""What happens when Redis is away, or its answer is."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator

import pytest
import redis

from publisher import (
    AsyncPublisher,
    InvalidURL,
    Namespace,
    Published,
    Publisher,
    Rejected,
    Unavailable,
)
from publisher.contract.keys import Keys
from publisher.transport.failures import meaning
from tests.publisher.listening import listening
from tests.publisher.reply_cutter import ReplyCutter
from tests.publisher.test_publishing import CHANNEL, announce


@pytest.fixture
def cut_publisher(cutter: ReplyCutter, prefix: str) -> Iterator[Publisher]:
    """A publisher whose next replies can be cut; scripts and namespaces are known already."""
    with Publisher.from_url(cutter.url, prefix=prefix) as publisher:
        publisher.publish("run-results/other", 0)
        yield publisher


def test_a_publish_whose_reply_is_lost_leaves_one_copy(
    cut_publisher: Publisher, cutter: ReplyCutter
):
    cutter.cut(b"EVAL", times=2)
    published = cut_publisher.publish(CHANNEL, "once")
    assert cutter.cut_replies == 2
    entries = cut_publisher.history(CHANNEL)
    assert [(entry.id, entry.data) for entry in entries] == [(published.id, "once")]
    assert not published.duplicate


async def test_the_asyncio_client_leaves_one_copy_too(
    cut_publisher: Publisher, cutter: ReplyCutter, prefix: str
):
    async with AsyncPublisher.from_url(cutter.url, prefix=prefix) as publisher:
        await publisher.publish("run-results/other", 1)
        cutter.cut(b"EVAL", times=2)
        published = await publisher.publish(CHANNEL, "once")
        assert cutter.cut_replies == 2
        assert [entry.id for entry in await publisher.history(CHANNEL)] == [published.id]


def test_ones_own_lost_reply_is_no_duplicate_of_a_key(
    cut_publisher: Publisher, cutter: ReplyCutter
):
    cutter.cut(b"EVAL")
    first = cut_publisher.publish(CHANNEL, "once", idempotency_key="k")
    assert cutter.cut_replies == 1
    assert not first.duplicate
    again = cut_publisher.publish(CHANNEL, "once", idempotency_key="k")
    assert again == Published(first.id, CHANNEL, duplicate=True)


def test_many_whose_reply_is_lost_leave_one_copy_each(
    cut_publisher: Publisher, cutter: ReplyCutter
):
    cutter.cut(b"EVAL")
    outcomes = cut_publisher.publish_many((CHANNEL, n) for n in range(20))
    assert cutter.cut_replies == 1
    ids = [each.id for each in outcomes if isinstance(each, Published)]
    assert [entry.id for entry in cut_publisher.history(CHANNEL)] == ids
    assert len(ids) == 20


def test_an_unlogged_message_whose_reply_is_lost_is_not_repeated(
    cut_publisher: Publisher, cutter: ReplyCutter, server: redis.Redis, keys: Keys
):
    announce(server, keys, Namespace("ticker", retention=None))
    with listening(server, keys.live("ticker/x")) as pubsub:
        cutter.cut(b"PUBLISH")
        with pytest.raises(Unavailable) as caught:
            cut_publisher.publish("ticker/x", 1)
        assert caught.value.maybe_sent
        server.publish(keys.live("ticker/x"), "last")
        heard = [pubsub.get_message(timeout=10) for _ in range(2)]
    assert [message and message["data"][-4:] for message in heard][1] == b"last"


def test_when_every_reply_is_lost_the_message_may_have_been_sent_and_was_once(
    cut_publisher: Publisher, cutter: ReplyCutter
):
    cutter.cut(b"EVAL", times=4)
    with pytest.raises(Unavailable) as caught:
        cut_publisher.publish(CHANNEL, "once")
    assert caught.value.maybe_sent
    assert caught.value.retryable
    assert len(cut_publisher.history(CHANNEL)) == 1


def test_without_retries_the_first_lost_reply_is_raised(cutter: ReplyCutter, prefix: str):
    with Publisher.from_url(cutter.url, prefix=prefix, retries=0) as publisher:
        publisher.publish("run-results/other", 0)
        cutter.cut(b"EVAL")
        with pytest.raises(Unavailable):
            publisher.publish(CHANNEL, 1)


def test_a_lost_reply_to_the_namespaces_leaves_no_doubt(cutter: ReplyCutter, prefix: str):
    with Publisher.from_url(cutter.url, prefix=prefix, retries=0) as publisher:
        cutter.cut(b"HGETALL")
        with pytest.raises(Unavailable) as caught:
            publisher.publish(CHANNEL, 1)
    assert not caught.value.maybe_sent


def test_where_nobody_listens_the_message_was_certainly_not_sent(nobody: str):
    with Publisher.from_url(nobody) as publisher, pytest.raises(Unavailable) as caught:
        publisher.publish(CHANNEL, 1)
    assert not caught.value.maybe_sent
    assert isinstance(caught.value.__cause__, redis.ConnectionError)


async def test_the_asyncio_client_says_so_too(nobody: str):
    async with AsyncPublisher.from_url(nobody) as publisher:
        with pytest.raises(Unavailable) as caught:
            await publisher.publish(CHANNEL, 1)
        outcomes = await publisher.publish_many([(CHANNEL, 1), ("nonsense", 2)])
    assert not caught.value.maybe_sent
    assert [each.maybe_sent for each in outcomes if isinstance(each, Unavailable)] == [False]


def test_a_server_that_says_nothing_is_given_up_after_the_timeout(silent: str):
    start = time.monotonic()
    with (
        Publisher.from_url(silent, timeout=0.05, retries=1) as publisher,
        pytest.raises(Unavailable, match="no answer in time"),
    ):
        publisher.grant(CHANNEL, "u")
    assert time.monotonic() - start < 5


async def test_the_asyncio_client_gives_it_up_too(silent: str):
    async with AsyncPublisher.from_url(silent, timeout=0.05, retries=1) as publisher:
        with pytest.raises(Unavailable, match="no connection in time"):
            await publisher.grant(CHANNEL, "u")


def test_a_wrong_type_is_rejected_and_not_repeated(
    publisher: Publisher, server: redis.Redis, keys: Keys, caplog: pytest.LogCaptureFixture
):
    server.set(keys.log(CHANNEL), "not a log")
    with pytest.raises(Rejected, match="WRONGTYPE"):
        publisher.publish(CHANNEL, 1)
    assert not caplog.records


def test_what_is_logged_of_failed_tries_is_a_warning_to_the_librarys_logger(
    nobody: str, caplog: pytest.LogCaptureFixture
):
    with Publisher.from_url(nobody, retries=1) as publisher, pytest.raises(Unavailable):
        publisher.grant(CHANNEL, "u")
    [record] = caplog.records
    assert record.name.startswith("publisher.")
    assert record.levelno == logging.WARNING


SECRET = "s3cr3t"

UNREADABLE = [
    f"http://u:{SECRET}@localhost/0",
    f"redis://u:{SECRET}/x@localhost:6379/0",
    f"redis://u:{SECRET}@localhost:port/0",
    f"redis://u:{SECRET}@localhost/0?colour=blue",
    f"redis://u:{SECRET}#w@localhost/0",
    f"redis://u:p@{SECRET}#w@localhost:6379",
    f"redis://u:p@{SECRET}@localhost:6379",
    f"redis://u:12/{SECRET}@localhost:6379",
    f"redis://u:12?{SECRET}@localhost:6379",
    f"redis://localhost:6379/0#{SECRET}",
    f"unix://:p#{SECRET}@/run/redis.sock",
    f"unix://:12/{SECRET}@/run/redis.sock",
    f"unix://u/{SECRET}@/run/redis.sock",
    f"redis://u:{SECRET}@localhost/first",
    f"rediss://u:{SECRET}@localhost/0x1",
    f"redis://u:{SECRET}@localhost/0?socket_timeout=soon",
    "",
]


@pytest.mark.parametrize("client", [Publisher, AsyncPublisher])
@pytest.mark.parametrize("url", UNREADABLE)
def test_a_url_that_cannot_be_read_is_not_repeated_in_the_error(
    client: type[Publisher | AsyncPublisher], url: str
):
    with pytest.raises(InvalidURL) as caught:
        client.from_url(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:p%40ss%23w%2F%3F@localhost:6379/1",
        "redis://localhost/?db=1",
        "unix://u:p%40ss@/run/redis.sock?db=1",
        "unix:///run/redis@host/redis.sock",
        "rediss://[::1]:6379/2?ssl_cert_reqs=none",
    ],
)
def test_a_url_whose_parts_are_percent_encoded_is_taken(url: str):
    Publisher.from_url(url).close()


def _is_of_the_package(part: object) -> bool:
    """Whether the redis package shows the part; its version 6 shows the password in it."""
    return type(part).__module__.startswith("redis.")


def test_the_password_is_in_no_error_log_or_repr(
    redis_url: str, nobody: str, caplog: pytest.LogCaptureFixture
):
    for url in (redis_url, nobody):
        with Publisher.from_url(url.replace("://", f"://user:{SECRET}@")) as publisher:
            with pytest.raises(Unavailable) as caught:
                publisher.publish(CHANNEL, 1)
            shown = [
                repr(publisher),
                *[repr(part) for part in vars(publisher).values() if not _is_of_the_package(part)],
                *traceback.format_exception(caught.value),
            ]
        assert SECRET not in "".join(shown)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("said", "what_to_do"),
    [
        (
            "ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:11.",
            "`gateway acl`",
        ),
        (
            "NOPERM this user has no permissions to run the 'select' command",
            "another database only",
        ),
        (
            "NOPERM this user has no permissions to run the 'zadd' command",
            "give the Redis user this right",
        ),
        ("MOVED 1 127.0.0.1:1", "name it by redis+cluster://"),
    ],
)
def test_what_to_do_about_an_error_of_redis_is_said(said: str, what_to_do: str):
    told = meaning(redis.ResponseError(said))
    assert told.reason.startswith(said)
    assert what_to_do in told.reason.removeprefix(said)
