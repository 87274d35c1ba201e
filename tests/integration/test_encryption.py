"""Encrypted namespaces, seen from outside: what Redis knows, how keys are rotated, and what a node without a key does."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from gateway.app import Gateway
from gateway.check import check
from gateway.settings import Settings, UsageError
from publisher import AsyncPublisher, Namespace
from publisher.contract.sealing import KeyRing
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node, running_node
from tests.support.redis_server import RedisServer
from tests.support.tokens import SECRET, make_token
from tests.support.topology import CLUSTER, chosen, keys
from tests.support.waiting import until

HIDDEN = "the words that nobody but the user may read"
CHANNEL, LIVE = "lessons/a", "calls/a"
KEPT = {"max_messages": 10_000, "max_age_seconds": 3600}


def rules(*, encrypted: bool = True) -> dict[str, Any]:
    return {
        "lessons": {"owner": "anyone", "retention": KEPT, "encrypted": encrypted},
        "calls": {"owner": "anyone", "retention": None, "encrypted": encrypted},
    }


def ring(*numbers: int) -> str:
    return ",".join(f"k{each}:{base64.b64encode(bytes([each]) * 32).decode()}" for each in numbers)


@pytest.fixture
async def start(start_node: StartNode) -> Callable[..., Awaitable[Node]]:
    """Starts nodes with these keys."""

    async def start(*numbers: int, **settings: Any) -> Node:
        return await start_node(encryption_keys=ring(*numbers), namespaces=rules(), **settings)

    return start


MakePublisher = Callable[..., Awaitable[AsyncPublisher]]


@pytest.fixture
async def publisher_with(publisher_url: str, prefix: str) -> AsyncIterator[MakePublisher]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(*numbers: int) -> AsyncPublisher:
            return await stack.enter_async_context(
                AsyncPublisher.from_url(
                    publisher_url, prefix=prefix, encryption_keys=ring(*numbers)
                )
            )

        yield make


# -- what is in Redis -------------------------------------------------------------------------


class Monitored:
    """What a server is sent, as ``MONITOR`` shows it."""

    def __init__(self, url: str) -> None:
        self.lines: list[str] = []
        self._client = redis.Redis.from_url(url)
        self._monitor = self._client.monitor()
        self._monitor.__enter__()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while "the end" not in self._monitor_line():
            pass

    def _monitor_line(self) -> str:
        line = str(self._monitor.next_command()["command"])
        self.lines.append(line)
        return line

    def end(self) -> None:
        """Read up to here."""
        self._client.echo("the end")
        self._thread.join()
        self._monitor.__exit__(None, None, None)
        self._client.close()


def traces(hidden: bytes) -> Iterator[bytes]:
    """What would show that ``hidden`` is somewhere: itself, in hex, and in base64 wherever it begins there."""
    yield hidden
    yield hidden.hex().encode()
    yield hidden.hex().upper().encode()
    for start in range(3):
        # The characters at the ends depend on what stands beside.
        yield base64.b64encode(b"x" * start + hidden)[4 * (start > 0) + 4 : -4]


def contents(folder: Path) -> list[bytes]:
    return [each.read_bytes() for each in folder.rglob("*") if each.is_file()]


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "as a proof of the search"])
async def test_a_dump_of_redis_tells_nothing(tmp_path: Path, encrypted: bool) -> None:
    # Compressed, it could hide the words from this search, and from nobody else.
    server = RedisServer(tmp_path, "--appendonly", "yes", "--rdbcompression", "no")
    await asyncio.to_thread(server.start)
    monitored = await asyncio.to_thread(Monitored, server.url)
    try:
        async with (
            running_node(
                server.url,
                "rt1",
                namespaces=rules(encrypted=encrypted),
                encryption_keys=ring(1),
            ) as node,
            AsyncPublisher.from_url(server.url, encryption_keys=ring(1)) as publisher,
        ):
            async with connected(node.url, make_token("u")) as client:
                for channel in (CHANNEL, LIVE):
                    await client.subscribe(channel)
                for channel in (CHANNEL, LIVE):
                    await publisher.publish(channel, HIDDEN)
                await publisher.publish(CHANNEL, [HIDDEN], idempotency_key="k")
                await publisher.publish_many([(CHANNEL, {"text": HIDDEN})] * 3)
                heard = await client.data(6)
                assert heard == [HIDDEN, HIDDEN, [HIDDEN], *[{"text": HIDDEN}] * 3]
            await publisher.publish(CHANNEL, HIDDEN)
            async with connected(node.url, make_token("u")) as client:
                await client.subscribe(CHANNEL, since=0)
                assert len(await client.data(6)) == 6
            assert len(await publisher.history(CHANNEL)) == 6
            assert node.gateway.stats.decryption_failures == 0
    finally:
        await asyncio.to_thread(monitored.end)
        with redis.Redis.from_url(server.url) as admin:
            admin.save()
        await asyncio.to_thread(server.stop)
    files = await asyncio.to_thread(contents, tmp_path)
    sent = "\n".join(monitored.lines).encode()
    assert b"rt1:log:{lessons/a}" in sent
    assert any(each.startswith((b"REDIS0", b"VALKEY")) for each in files)
    found = [trace for trace in traces(HIDDEN.encode()) for text in (sent, *files) if trace in text]
    assert bool(found) != encrypted


def test_the_search_would_find_it_in_any_of_these_forms() -> None:
    hidden = HIDDEN.encode()
    for around in (b"", b"y", b"yy"):
        text = base64.b64encode(around + hidden + b"more")
        assert any(trace in text for trace in traces(hidden))


# -- keys that change -------------------------------------------------------------------------


class Stream:
    """Publishes numbers to a channel until it is ended; its publisher may be changed meanwhile."""

    def __init__(self, publisher: AsyncPublisher) -> None:
        self.publisher = publisher
        self.count = 0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self.publisher.publish(CHANNEL, self.count)
            self.count += 1
            await asyncio.sleep(0.001)

    async def some(self) -> None:
        """Return once more have gone out."""
        goal = self.count + 30
        await until(lambda: self.count >= goal or self._task.done())
        assert not self._task.done(), self._task

    async def end(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


class Reader:
    """A client that takes numbers, and goes on at another node where it has left off."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._last = 0

    @contextlib.asynccontextmanager
    async def at(self, node: Node) -> AsyncIterator[None]:
        async with connected(node.url, make_token("u")) as client:
            answer = await client.subscribe(CHANNEL, since=self._last)
            assert answer["recovered"] is True
            reading = asyncio.create_task(self._read(client))
            try:
                yield
            finally:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reading

    async def _read(self, client: Any) -> None:
        while True:
            message = await client.receive()
            self.numbers.append(message["data"])
            self._last = message["id"]

    async def up_to(self, number: int) -> None:
        await until(lambda: self.numbers and self.numbers[-1] >= number)


async def test_keys_are_rotated_under_load_and_no_message_is_missed(
    start: Callable[..., Awaitable[Node]], publisher_with: MakePublisher
) -> None:
    old = await start(1)
    stream, reader = Stream(await publisher_with(1)), Reader()
    try:
        async with reader.at(old):
            await stream.some()
        # The new key at the end, first at the gateways, then at the publishers.
        both = await start(1, 2)
        async with reader.at(both):
            await stream.some()
            stream.publisher = await publisher_with(1, 2)
            await stream.some()
            # To the front at the publishers.
            stream.publisher = await publisher_with(2, 1)
            await stream.some()
            await reader.up_to(stream.count - 1)
            turned = stream.count
            await reader.up_to(turned)
        # And the old one is taken away.
        stream.publisher = await publisher_with(2)
        new = await start(2)
        async with reader.at(new):
            await stream.some()
            await stream.end()
            await reader.up_to(stream.count - 1)
    finally:
        await stream.end()
    assert reader.numbers == list(range(stream.count))
    for node in (old, both, new):
        assert node.gateway.stats.decryption_failures == 0
        assert node.gateway.stats.losses_reported == 0


async def test_a_node_without_the_key_stops_before_the_message_and_one_with_it_goes_on(
    start: Callable[..., Awaitable[Node]],
    publisher_with: MakePublisher,
    publisher: AsyncPublisher,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = await start(1)
    first, second = await publisher_with(1), await publisher_with(2)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        known = await first.publish(CHANNEL, "known")
        assert await client.data(1) == ["known"]
        unknown = await second.publish(CHANNEL, "unknown")
        await first.publish(CHANNEL, "behind it")
        ended = {"type": "unsubscribed", "channel": CHANNEL, "reason": "internal_error"}
        assert await client.receive() == ended
        await client.send({"type": "ack", "channel": CHANNEL, "id": unknown.id + 1})
        # The connection goes on, and so does the channel once the message can be opened.
        await client.send({"type": "subscribe", "channel": CHANNEL})
        await client.expect(type="error", code="internal_error", channel=CHANNEL)
        await client.sync()
    async with connected(node.url, make_token("u")) as client:
        await client.send({"type": "subscribe", "channel": CHANNEL, "since": known.id})
        await client.expect(type="error", code="internal_error", channel=CHANNEL)
    await node.gateway.redis.positions.flush()
    confirmed = await publisher._client.zscore(keys(prefix).confirmed(CHANNEL), "u")
    assert (confirmed or 0) < unknown.id
    assert node.gateway.stats.losses_reported == 0
    told = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert [each.partition(" id=")[0] for each in told] == [f"decryption_failed channel={CHANNEL}"]
    assert " key=k2." in told[0]
    _, metrics = await node.get("/metrics")
    assert (
        f"gateway_decryption_failures_total {node.gateway.stats.decryption_failures:.1f}" in metrics
    )
    with_both = await start(1, 2)
    async with connected(with_both.url, make_token("u")) as client:
        await client.subscribe(CHANNEL, since=known.id)
        assert await client.data(2) == ["unknown", "behind it"]
        await second.publish(CHANNEL, "live")
        assert await client.data(1) == ["live"]


async def test_what_no_key_opens_is_taken_out_as_the_docs_say_and_what_is_behind_it_follows(
    start: Callable[..., Awaitable[Node]],
    publisher_with: MakePublisher,
    publisher: AsyncPublisher,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    node, own = await start(1), await publisher_with(1)
    known = await own.publish(CHANNEL, "known")
    await (await publisher_with(2)).publish(CHANNEL, "of a ring that is lost")
    await own.publish(CHANNEL, "behind it")
    async with connected(node.url, make_token("u")) as client:
        await client.send({"type": "subscribe", "channel": CHANNEL, "since": known.id})
        await client.expect(type="error", code="internal_error", channel=CHANNEL)
        [told] = [each for each in caplog.messages if each.startswith("decryption_failed")]
        id_ = told.partition(" id=")[2].partition(" ")[0]
        log = keys(prefix).log(CHANNEL)
        assert log == f"{prefix}:log:{{{CHANNEL}}}"
        assert await publisher._client.zremrangebyscore(log, id_, id_) == 1
        answer = await client.subscribe(CHANNEL, since=known.id)
        assert answer["recovered"] is False
        assert await client.data(1) == ["behind it"]


def opens(node: Node, *numbers: int) -> None:
    """Give a node these keys, as a restart would that its clients do not notice."""
    node.gateway.hub._opener._ring = KeyRing.parse(ring(*numbers))


@pytest.mark.parametrize("live", [True, False], ids=["live", "read from the log"])
async def test_who_is_told_subscribes_again_and_misses_nothing_once_the_key_is_there(
    start: Callable[..., Awaitable[Node]], publisher_with: MakePublisher, live: bool
) -> None:
    node = await start(1)
    first, second = await publisher_with(1), await publisher_with(2)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await first.publish(CHANNEL, 0)
        assert await client.data(1) == [0]
        channel = node.gateway.hub.channels[CHANNEL]
        if not live:
            # As if it had not come.
            del node.gateway.hub.channels[CHANNEL]
        await second.publish(CHANNEL, 1)
        if not live:
            await client.subscribe(LIVE)
            await first.publish(LIVE, "behind it")
            assert await client.data(1) == ["behind it"]
            node.gateway.hub.channels[CHANNEL] = channel
        await first.publish(CHANNEL, 2)
        await client.expect(type="unsubscribed", channel=CHANNEL, reason="internal_error")
        assert not channel.members
        opens(node, 1, 2)
        await client.subscribe(CHANNEL)
        assert await client.data(2) == [1, 2]
        await second.publish(CHANNEL, 3)
        assert await client.data(1) == [3]


async def test_the_second_publish_with_a_key_reaches_nobody_whatever_key_encrypts(
    start: Callable[..., Awaitable[Node]], publisher_with: MakePublisher
) -> None:
    node = await start(1, 2)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        first = await (await publisher_with(1)).publish(CHANNEL, "once", idempotency_key="k")
        second = await (await publisher_with(2)).publish(CHANNEL, "again", idempotency_key="k")
        assert (second.id, second.duplicate) == (first.id, True)
        assert await client.data(1) == ["once"]
        await client.sync()


async def test_a_slow_client_and_a_gap_are_caught_up_from_the_log(
    start: Callable[..., Awaitable[Node]], publisher_with: MakePublisher
) -> None:
    node = await start(1)
    publisher = await publisher_with(1)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 0)
        assert await client.data(1) == [0]
        # As if the next one had not come.
        channel = node.gateway.hub.channels.pop(CHANNEL)
        await publisher.publish(CHANNEL, 1)
        await until(lambda: publisher.history(CHANNEL))
        node.gateway.hub.channels[CHANNEL] = channel
        await publisher.publish(CHANNEL, 2)
        assert await client.data(2) == [1, 2]
        assert node.gateway.stats.gaps == 1


async def test_what_was_published_before_a_namespace_was_encrypted_is_delivered_and_told(
    start: Callable[..., Awaitable[Node]],
    start_node: StartNode,
    publisher_with: MakePublisher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = await start_node(namespaces=rules(encrypted=False))
    async with connected(before.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await (await publisher_with(1)).publish(CHANNEL, "plain")
        assert await client.data(1) == ["plain"]
    node = await start(1)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL, since=0)
        assert await client.data(1) == ["plain"]
        await (await publisher_with(1)).publish(CHANNEL, "sealed")
        assert await client.data(1) == ["sealed"]
    told = [each for each in caplog.messages if each.startswith("plaintext_in_encrypted")]
    assert len(told) == 1


async def test_what_somebody_else_writes_there_is_delivered_live_and_told(
    start: Callable[..., Awaitable[Node]],
    publisher: AsyncPublisher,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    command = "SPUBLISH" if chosen() == CLUSTER else "PUBLISH"
    node = await start(1)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(LIVE)
        await publisher._client.execute_command(command, keys(prefix).live(LIVE), "1::n:2")
        assert await client.data(1) == [2]
    told = [each for each in caplog.messages if each.startswith("plaintext_in_encrypted")]
    assert [each.partition(" id=")[0] for each in told] == [
        f"plaintext_in_encrypted_namespace channel={LIVE}"
    ]


async def test_a_node_tells_of_rules_that_another_one_announces_otherwise_and_of_its_like_never(
    start_node: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = await start_node(namespaces=rules(encrypted=False))
    nodes = [wrong, *[await start_node(namespaces=rules(), encryption_keys=ring(1)) for _ in "ab"]]

    def told() -> list[str]:
        for each in nodes:
            each.gateway.redis.announcing.at_once()
        return [each for each in caplog.messages if each.startswith("namespace_differs")]

    def of(name: str, own: bool) -> str:
        given, other = (
            orjson.dumps(Namespace.from_dict(name, rules(encrypted=each)[name]).to_dict()).decode()
            for each in (own, not own)
        )
        return f"namespace_differs name={name} own={given} announced={other}"

    # Before it, those that encrypt may have found what the other one had announced alone.
    wanted = {of(name, own=False) for name in rules()}
    await until(lambda: wanted <= {each.partition(" advice=")[0] for each in told()})
    found = {each.partition(" advice=")[0] for each in told()}
    assert found <= wanted | {of(name, own=True) for name in rules()}


# -- without keys -----------------------------------------------------------------------------


def settings(**given: Any) -> Settings:
    return Settings(redis_url="redis://127.0.0.1:1", jwt_secret=SECRET, **given)


async def test_a_gateway_of_an_encrypted_namespace_does_not_start_without_keys() -> None:
    without = settings(namespaces=rules())
    with pytest.raises(UsageError, match="GATEWAY_ENCRYPTION_KEYS"):
        Gateway(without)
    assert any("GATEWAY_ENCRYPTION_KEYS" in each for each in (await check(without))["errors"])
    report = await check(settings(namespaces=rules(), encryption_keys=ring(1)))
    assert not any("GATEWAY_ENCRYPTION_KEYS" in each for each in report["errors"])
    assert report["namespaces"]["lessons"]["encrypted"] is True
    assert "encrypted" not in report["namespaces"]["notifications"]


@pytest.mark.parametrize("wrong", ["", "k1", ring(1).partition(":")[2], f"{ring(1)},{ring(1)}"])
def test_what_is_no_ring_is_refused_without_telling_it(wrong: str) -> None:
    with pytest.raises(ValueError, match="encryption") as caught:
        settings(encryption_keys=wrong)
    assert ring(1).partition(":")[2][:8] not in str(caught.value)
