"""Encrypted namespaces, from the publisher's side: what is written, who may write, and who can read it again."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from publisher import AsyncPublisher, InvalidData, Namespace, Outgoing, Owner, Published, Publisher
from publisher.contract.channels import DEFAULT_NAMESPACES, Retention
from publisher.contract.keys import Keys
from publisher.contract.message import decode
from publisher.errors import PublisherError
from tests.publisher.announcing import Announce
from tests.publisher.listening import listening
from tests.publisher.reply_cutter import ReplyCutter
from tests.support import topology

CHANNEL, LIVE, PLAIN = "lessons/a", "calls/a", "run-results/a"
SECRET = "nobody else may read this"
KEPT = Retention(1_000, 3_600)


def key(number: int) -> str:
    return f"k{number}:{base64.b64encode(bytes([number]) * 32).decode()}"


@pytest.fixture(autouse=True)
def namespaces(announce: Announce) -> None:
    announce(
        Namespace("lessons", Owner.GRANT, KEPT, encrypted=True),
        Namespace("calls", Owner.ANYONE, None, encrypted=True),
        *DEFAULT_NAMESPACES.values(),
    )


MakePublisher = Callable[..., Publisher]


@pytest.fixture
def with_keys(publisher_url: str, prefix: str) -> Iterator[MakePublisher]:
    with ExitStack() as stack:
        yield lambda *keys, url=publisher_url: stack.enter_context(
            Publisher.from_url(url, prefix=prefix, encryption_keys=",".join(keys))
        )


def entries(server: topology.Looking, keys: Keys, channel: str = CHANNEL) -> list[bytes]:
    return list(server.zrange(keys.log(channel), 0, -1))


def hides(entry: bytes) -> bool:
    return decode(entry).extension.startswith(b"e1.k1.") and SECRET.encode() not in entry


def test_neither_the_log_nor_a_live_channel_tells_what_was_published(
    with_keys: MakePublisher, server: redis.Redis, keys: Keys
):
    publisher = with_keys(key(1))
    with listening(server, keys.live(CHANNEL)) as pubsub:
        published = publisher.publish(CHANNEL, {"text": SECRET})
        heard = pubsub.get_message(timeout=10)
    (entry,) = entries(server, keys)
    assert heard
    assert heard["data"] == entry
    assert hides(entry)
    (found,) = publisher.history(CHANNEL)
    assert (found.id, found.data) == (published.id, {"text": SECRET})


def test_what_keeps_no_log_is_encrypted_too(
    with_keys: MakePublisher, server: redis.Redis, keys: Keys
):
    with listening(server, keys.live(LIVE)) as pubsub:
        with_keys(key(1)).publish(LIVE, SECRET)
        heard = pubsub.get_message(timeout=10)
    assert heard
    assert hides(heard["data"])
    assert not decode(heard["data"]).logged


def test_other_namespaces_stay_as_they_are(
    with_keys: MakePublisher, server: redis.Redis, keys: Keys
):
    with_keys(key(1)).publish(PLAIN, SECRET)
    (entry,) = entries(server, keys, PLAIN)
    assert SECRET.encode() in entry
    assert not decode(entry).extension


@pytest.mark.parametrize("channel", [CHANNEL, LIVE])
def test_without_keys_nothing_is_sent_and_nothing_read(
    publisher: Publisher, server: redis.Redis, keys: Keys, channel: str
):
    with pytest.raises(InvalidData, match="encryption_keys"):
        publisher.publish(channel, SECRET)
    with pytest.raises(InvalidData, match="encryption_keys"):
        publisher.history(channel)
    refused, accepted = publisher.publish_many([(channel, SECRET), (PLAIN, 1)])
    assert isinstance(refused, InvalidData)
    assert isinstance(accepted, Published)
    assert not entries(server, keys, channel)


async def test_the_asyncio_client_encrypts_and_decrypts_too(
    publisher_url: str, prefix: str, server: redis.Redis, keys: Keys
):
    async with (
        AsyncPublisher.from_url(publisher_url, prefix=prefix, encryption_keys=key(1)) as publisher,
        AsyncPublisher.from_url(publisher_url, prefix=prefix) as without,
    ):
        await publisher.publish(CHANNEL, SECRET)
        outcomes = await publisher.publish_many(
            [Outgoing(CHANNEL, SECRET, retention=KEPT), (PLAIN, 1)]
        )
        assert not [each for each in outcomes if isinstance(each, PublisherError)]
        assert [each.data for each in await publisher.history(CHANNEL)] == [SECRET, SECRET]
        with pytest.raises(InvalidData, match="encryption_keys"):
            await without.publish(CHANNEL, SECRET)
    assert all(map(hides, entries(server, keys)))


def test_the_first_key_encrypts_and_all_decrypt(
    with_keys: MakePublisher, server: redis.Redis, keys: Keys
):
    """The three steps of a rotation."""
    old, both, turned, new = key(1), (key(1), key(2)), (key(2), key(1)), key(2)
    for number, ring in enumerate(([old], both, turned, [new])):
        with_keys(*ring).publish(CHANNEL, number)
    used = [decode(entry).extension[:5] for entry in entries(server, keys)]
    assert used == [b"e1.k1", b"e1.k1", b"e1.k2", b"e1.k2"]
    assert [each.data for each in with_keys(*turned).history(CHANNEL)] == [0, 1, 2, 3]


def test_who_lacks_a_key_is_told_which_one_and_no_half_of_a_history(with_keys: MakePublisher):
    with_keys(key(1)).publish(CHANNEL, SECRET)
    with pytest.raises(InvalidData, match="k1"):
        with_keys(key(2)).history(CHANNEL)


def test_what_was_encrypted_stays_so_when_its_namespace_is_no_longer(
    with_keys: MakePublisher,
    publisher: Publisher,
    announce: Announce,
    server: topology.Looking,
    keys: Keys,
):
    with_keys(key(1)).publish(CHANNEL, SECRET)
    server.delete(keys.namespaces)  # as if nobody had announced it for a while
    announce(Namespace("lessons", Owner.GRANT, KEPT))
    with pytest.raises(InvalidData, match="encryption_keys"):
        publisher.history(CHANNEL)
    assert [each.data for each in with_keys(key(1)).history(CHANNEL)] == [SECRET]


def test_a_gateway_that_does_not_know_of_it_makes_no_publisher_write_plaintext(
    with_keys: MakePublisher, announce: Announce, server: topology.Looking, keys: Keys
):
    """An older gateway, or one that was forgotten, announces the namespace without it."""
    secretive = with_keys(key(1))
    secretive.publish(CHANNEL, SECRET)
    server.delete(keys.namespaces)
    announce(Namespace("lessons", Owner.GRANT, KEPT), Namespace("open", Owner.ANYONE, KEPT))
    secretive.publish("open/1", SECRET)  # it has read what is announced now
    secretive.publish(CHANNEL, SECRET)
    assert [hides(each) for each in entries(server, keys)] == [True, True]
    assert [hides(each) for each in entries(server, keys, "open/1")] == [False]


@pytest.mark.parametrize("idempotency_key", [None, "k"])
def test_a_retry_is_recognised_and_writes_the_message_once(
    cutter: ReplyCutter, with_keys: MakePublisher, idempotency_key: str | None
):
    publisher = with_keys(key(1), url=cutter.url)
    publisher.publish(PLAIN, 1)
    cutter.cut(b"EVALSHA")
    published = publisher.publish(CHANNEL, SECRET, idempotency_key=idempotency_key)
    assert cutter.cut_replies == 1
    assert not published.duplicate
    assert [each.id for each in publisher.history(CHANNEL)] == [published.id]


def test_a_key_of_another_call_finds_the_first_message(with_keys: MakePublisher):
    first = with_keys(key(1)).publish(CHANNEL, SECRET, idempotency_key="k")
    second = with_keys(key(2), key(1)).publish(CHANNEL, "again", idempotency_key="k")
    assert (second.id, second.duplicate) == (first.id, True)


IN_A_PROCESS = """
import json, sys
from publisher import Publisher
with Publisher.from_env() as publisher:
    published = publisher.publish(sys.argv[1], sys.argv[2], idempotency_key="k")
    print(json.dumps([published.id, published.duplicate]))
"""


def in_a_process(url: str, prefix: str, keys: str, data: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, CHANNEL, data],
        env={
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PUBLISHER_REDIS_URL": url,
            "PUBLISHER_REDIS_PREFIX": prefix,
            "PUBLISHER_ENCRYPTION_KEYS": keys,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_key_is_known_to_another_process(
    publisher_url: str, prefix: str, tmp_path: Path, with_keys: MakePublisher
):
    file = tmp_path / "ring"
    file.write_text(f"{key(2)},{key(1)}\n")
    first, duplicate = in_a_process(publisher_url, prefix, key(1), SECRET)
    assert not duplicate
    assert in_a_process(publisher_url, prefix, f"@{file}", "again") == [first, True]
    assert [each.data for each in with_keys(key(1)).history(CHANNEL)] == [SECRET]


def test_a_copy_of_a_publisher_has_its_keys_and_shows_none(
    publisher_url: str, prefix: str, with_keys: MakePublisher
):
    original = with_keys(key(1))
    original.publish(CHANNEL, SECRET)
    with pickle.loads(pickle.dumps(original)) as copy:
        assert [each.data for each in copy.history(CHANNEL)] == [SECRET]
    hidden = key(1).partition(":")[2]
    assert hidden[:8] not in repr(original._state)
    with pytest.raises(InvalidData) as caught:
        Publisher.from_url(publisher_url, encryption_keys=hidden)
    assert hidden[:8] not in str(caught.value)


def test_who_has_keys_writes_nothing_readable_while_the_rules_are_not_known(
    publisher_url: str, server: redis.Redis, keys: Keys, prefix: str
):
    """Redis has lost what the gateways have said, and one of its rules may be that this namespace is encrypted."""
    other = f"{prefix}:lost"
    with Publisher.from_url(publisher_url, prefix=other, encryption_keys=key(1)) as publisher:
        publisher.publish(PLAIN, SECRET)
        (entry,) = entries(server, topology.keys(other), PLAIN)
        assert hides(entry)
        assert [each.data for each in publisher.history(PLAIN)] == [SECRET]


def test_the_command_has_its_keys_from_the_environment(
    publisher_url: str, prefix: str, server: redis.Redis, keys: Keys, tmp_path: Path
):
    file = tmp_path / "ring"
    file.write_text(key(1))
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PUBLISHER_REDIS_URL": publisher_url,
        "PUBLISHER_REDIS_PREFIX": prefix,
    }

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "publisher", *arguments],
            env=environment | more,
            capture_output=True,
            text=True,
            check=False,
        )

    refused = run("publish", CHANNEL, json.dumps(SECRET))
    assert refused.returncode == 2
    assert "PUBLISHER_ENCRYPTION_KEYS" in refused.stderr
    ring = {"PUBLISHER_ENCRYPTION_KEYS": f"@{file}"}
    assert run("publish", CHANNEL, json.dumps(SECRET), **ring).returncode == 0
    assert json.loads(run("history", CHANNEL, **ring).stdout)["data"] == SECRET
    assert all(map(hides, entries(server, keys)))
    missing = run("history", CHANNEL, PUBLISHER_ENCRYPTION_KEYS="@no-such-file")
    assert missing.returncode == 2
    assert "PUBLISHER_ENCRYPTION_KEYS" in missing.stderr
