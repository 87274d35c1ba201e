"""What a publish costs Redis does not depend on how much is stored."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import redis

from publisher import Outgoing, Published, Publisher, Rejected
from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.contract.scripts import PUBLISH, SETTLE
from publisher.publication import unique_names
from publisher.publishing import BYTES_SEARCHED, ENTRIES_SEARCHED
from tests.publisher.reply_cutter import ReplyCutter
from tests.support.redis_server import redis_server

CHANNEL = "notifications/u"
READING = ("zrange", "zrevrange", "zrangebyscore", "zrevrangebyscore")
FULL = 1_000
HOUR_US = 3_600_000_000


class Counting:
    """A server that counts what it does, and nobody else works."""

    def __init__(self, url: str, admin: redis.Redis) -> None:
        self.url = url
        self._admin = admin

    def _statistics(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = self._admin.info("commandstats")
        return found

    def calls_of(self, *commands: str) -> int:
        """How often these were called, in scripts too."""
        found = self._statistics()
        return sum(found.get(f"cmdstat_{each}", {}).get("calls", 0) for each in commands)

    def cost(self, way: Callable[[], object]) -> int:
        """How many commands it carries out this way, those of scripts among them."""
        before = self._carried_out
        way()
        return self._carried_out - before

    @property
    def _carried_out(self) -> int:
        found = self._statistics()
        return sum(each["calls"] for name, each in found.items() if name != "cmdstat_info")


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Counting]:
    with redis_server(tmp_path) as url, redis.Redis.from_url(url) as admin:
        yield Counting(url, admin)


def publish(publisher: Publisher, messages: list[Outgoing]) -> None:
    outcomes = publisher.publish_many(messages)
    assert all(isinstance(each, Published) for each in outcomes)


def fill(publisher: Publisher, size: int, channel: str = CHANNEL) -> None:
    publish(publisher, [Outgoing(channel, "x" * size)] * FULL)


@pytest.mark.parametrize("size", [200, 100_000])
def test_a_key_costs_redis_at_most_twice_a_plain_publish(
    counting: Counting, prefix: str, size: int
):
    data = "x" * size
    with Publisher.from_url(counting.url, prefix=prefix) as publisher:
        fill(publisher, size)

        def under(keys: Callable[[], str | None]) -> Callable[[], None]:
            return lambda: publish(publisher, [Outgoing(CHANNEL, data, keys()) for _ in range(50)])

        publisher.publish(CHANNEL, data, idempotency_key="the same")
        read = counting.calls_of(*READING)
        plain = counting.cost(under(lambda: None))
        assert counting.cost(under(lambda: secrets.token_hex(8))) <= 2 * plain
        assert counting.cost(under(lambda: "the same")) <= 2 * plain
        assert counting.calls_of(*READING) == read


class Tries:
    """Many tries to publish to one channel, and questions what became of them: each of them a call, all in one write.

    As a batch is: else the times are those of a server that wakes up.
    """

    COUNT = 50

    def __init__(self, client: redis.Redis, keys: Keys, size: int) -> None:
        self._client = client
        self._keys = keys
        self._body = b'"%b"' % (b"x" * size)
        self._bounds = (ENTRIES_SEARCHED + 1, BYTES_SEARCHED + size)
        self._names = unique_names()
        self._nonces: list[str] = []
        self._ids: list[int] = []
        for script in (PUBLISH, SETTLE):
            client.script_load(script.text)

    def publish(self) -> None:
        """Let messages arrive."""
        log, last, live = self._keys.of_channel(CHANNEL)
        run = (1, "", "1000 604800 604800 2592000 604800")
        self._nonces = self._new()
        self._ids += map(
            int,
            self._run(
                Call.run(PUBLISH, [self._result(each), log, last], *run, live, each, self._body)
                for each in self._nonces
            ),
        )

    def find(self, behind: int = 0) -> None:
        """Ask about each of those, where others have published so many ``behind`` which it is."""
        self._ask(self._nonces, [self._ids[n - behind] for n in range(-self.COUNT, 0)])

    def miss(self) -> None:
        """Ask about messages that have not arrived, where others have published more than is looked through."""
        self._ask(self._new(), [self._ids[-self.COUNT]] * self.COUNT)

    def miss_at_once(self) -> None:
        """The same where nobody has published anything."""
        self._ask(self._new(), [2**53] * self.COUNT)

    def _ask(self, nonces: list[str], since: list[int]) -> None:
        log, last, _ = self._keys.of_channel(CHANNEL)
        self._run(
            Call.run(
                # As if the tries began an hour later: what counts is ``first``.
                SETTLE,
                [log, last, self._keys.removed(CHANNEL), self._result(each)],
                first,
                -HOUR_US,
                *self._bounds,
                each,
            )
            for each, first in zip(nonces, since, strict=True)
        )

    def _new(self) -> list[str]:
        return list(islice(self._names, self.COUNT))

    def _result(self, nonce: str) -> str:
        return self._keys.result(CHANNEL, nonce)

    def _run(self, calls: Iterable[Call]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for each in calls:
            pipeline.execute_command(*each.cached())
        return pipeline.execute()


@pytest.mark.parametrize("size", [200, 100_000])
def test_a_retry_costs_redis_at_most_two_plain_publishes(
    counting: Counting, prefix: str, size: int
):
    """Whatever others have published since its first try, and whether that has arrived."""
    with (
        Publisher.from_url(counting.url, prefix=prefix) as publisher,
        redis.Redis.from_url(counting.url) as client,
    ):
        fill(publisher, size)
        tries = Tries(client, Keys(prefix), size)
        tries.publish()
        plain = counting.cost(tries.publish)
        assert counting.cost(tries.find) <= 2 * plain
        assert counting.cost(lambda: tries.find(ENTRIES_SEARCHED)) <= 2 * plain
        assert counting.cost(tries.miss) <= 2 * plain
        assert counting.cost(tries.miss_at_once) <= plain


@pytest.mark.parametrize("size", [10, 200, 2_000, 100_000])
def test_what_a_retry_reads_is_bounded(
    publisher: Publisher, server: redis.Redis, keys: Keys, size: int
):
    """As when others have published more than a retry looks through."""
    fill(publisher, size)
    names = [
        keys.log(CHANNEL),
        keys.last(CHANNEL),
        keys.removed(CHANNEL),
        keys.result(CHANNEL, "n"),
    ]
    bounds = (ENTRIES_SEARCHED + 1, BYTES_SEARCHED + size)
    entries, read = server.eval(COUNTED % SETTLE.text, 4, *names, 0, 0, *bounds, "n")
    assert 1 <= entries <= ENTRIES_SEARCHED + 1
    assert read <= BYTES_SEARCHED + 3 * size


COUNTED = """
local entries, bytes, real = 0, 0, redis
local redis = setmetatable({}, {__index = real})
redis.call = function(command, ...)
  local reply = real.call(command, ...)
  if command == 'ZREVRANGE' or command == 'ZRANGEBYSCORE' then
    entries = entries + #reply
    for _, entry in ipairs(reply) do bytes = bytes + #entry end
  end
  return reply
end
local function counted()
%s
end
assert(counted()[1] == '')
return {entries, bytes}
"""


@pytest.mark.parametrize("others", [0, 1, ENTRIES_SEARCHED - 1, 3 * ENTRIES_SEARCHED])
def test_a_retry_recognises_its_message_behind_those_of_others(
    cutter: ReplyCutter, publisher: Publisher, prefix: str, others: int
):
    """However many came after it: it is among the first since its try began."""
    fill(publisher, 10)
    with Publisher.from_url(cutter.url, prefix=prefix) as hindered:
        hindered.publish("run-results/other", 0)
        messages = [Outgoing(CHANNEL, "theirs")] * others
        cutter.cut(b"EVALSHA", meanwhile=lambda: publish(publisher, messages))
        published = hindered.publish(CHANNEL, "ours")
    entries = [entry for entry in publisher.history(CHANNEL) if entry.data == "ours"]
    assert [entry.id for entry in entries] == [published.id]


@pytest.mark.parametrize("before", [0, 1, ENTRIES_SEARCHED])
def test_it_recognises_it_too_where_others_came_first(
    publisher: Publisher, server: redis.Redis, keys: Keys, before: int
):
    fill(publisher, 10)
    entries = server.zrevrange(keys.log(CHANNEL), 0, before + 5, withscores=True)
    (_, since), (ours, identifier) = entries[before + 5], entries[5]
    nonce = ours.split(b":")[2]
    names = [
        keys.log(CHANNEL),
        keys.last(CHANNEL),
        keys.removed(CHANNEL),
        keys.result(CHANNEL, "n"),
    ]
    bounds = (ENTRIES_SEARCHED + 1, BYTES_SEARCHED)
    (found,) = server.eval(SETTLE.text, 4, *names, int(since), -HOUR_US, *bounds, nonce)
    assert found == b"%d" % identifier


@pytest.mark.parametrize("others", [0, 1, ENTRIES_SEARCHED - 1])
def test_a_message_that_never_arrived_is_published_by_its_retry(
    cutter: ReplyCutter, publisher: Publisher, prefix: str, others: int
):
    fill(publisher, 10)
    with Publisher.from_url(cutter.url, prefix=prefix) as hindered:
        hindered.publish("run-results/other", 0)
        messages = [Outgoing(CHANNEL, "theirs")] * others
        cutter.lose(b"EVALSHA", meanwhile=lambda: publish(publisher, messages))
        published = hindered.publish(CHANNEL, "ours")
    newest = publisher.history(CHANNEL)[-1]
    assert (newest.id, newest.data) == (published.id, "ours")


@pytest.mark.parametrize("size", [10, 100_000])
def test_where_others_have_published_too_much_the_message_may_have_been_sent(
    cutter: ReplyCutter, publisher: Publisher, prefix: str, size: int
):
    fill(publisher, 10)
    with Publisher.from_url(cutter.url, prefix=prefix) as hindered:
        hindered.publish("run-results/other", 0)
        messages = [Outgoing(CHANNEL, "x" * size)] * 2 * ENTRIES_SEARCHED
        cutter.lose(b"EVALSHA", meanwhile=lambda: publish(publisher, messages))
        with pytest.raises(Rejected, match="since the first try") as caught:
            hindered.publish(CHANNEL, "ours")
    assert caught.value.maybe_sent
    assert not caught.value.retryable
    assert "ours" not in [entry.data for entry in publisher.history(CHANNEL)]


def test_many_lost_messages_of_one_channel_are_all_recognised(
    cutter: ReplyCutter, publisher: Publisher, prefix: str
):
    """More than a retry reads of others' messages; and again when none of them has arrived."""
    with Publisher.from_url(cutter.url, prefix=prefix) as hindered:
        hindered.publish("run-results/other", 0)
        for lose in (cutter.cut, cutter.lose):
            lose(b"EVALSHA")
            publish(hindered, [Outgoing(CHANNEL, n) for n in range(3 * ENTRIES_SEARCHED)])
    found = [entry.data for entry in publisher.history(CHANNEL)]
    assert found == [*range(3 * ENTRIES_SEARCHED)] * 2


def test_bursts_with_keys_to_full_logs_cost_redis_at_most_twice_plain_ones(
    counting: Counting, prefix: str
):
    """500 messages to 20 full logs: while Redis works, everybody else waits."""
    channels = [f"notifications/u{n}" for n in range(20)]
    with Publisher.from_url(counting.url, prefix=prefix) as publisher:
        for channel in channels:
            fill(publisher, 200, channel)

        def burst(keys: Callable[[], str | None]) -> Callable[[], None]:
            return lambda: publish(
                publisher, [Outgoing(channels[n % 20], "x" * 200, keys()) for n in range(500)]
            )

        plain = counting.cost(burst(lambda: None))
        assert counting.cost(burst(lambda: secrets.token_hex(8))) <= 2 * plain
