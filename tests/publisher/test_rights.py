"""The rights that an ACL gives: tried before the first write, and named where they are missing."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from publisher import (
    EVERYBODY,
    AsyncPublisher,
    Event,
    NotReplicated,
    Outgoing,
    Publisher,
    Rejected,
    Retention,
    Unavailable,
)
from publisher.contract import rights, scripts
from publisher.contract.keys import Keys
from publisher.contract.scripts import Script
from tests.support import topology
from tests.support.programs import leave_out
from tests.support.redis_users import denied, redis_user

CHANNEL = "run-results/s"

AsUser = Callable[..., Publisher]
UserURL = Callable[..., str]


@pytest.fixture
def user_url(redis_url: str, prefix: str) -> Iterator[UserURL]:
    """The URL for a Redis user with a publisher's least rights, less ``without`` and plus ``instead``."""
    name = f"u{prefix}"

    def make(without: str = "", instead: str = "", database: int = 0) -> str:
        rules = rights.of_a_publisher(topology.keys(prefix, database))
        kept = [rule for rule in rules if rule != without]
        assert len(kept) == len(rules) - bool(without)
        extra = [instead] if instead else []
        url = stack.enter_context(redis_user(redis_url, name, [*kept, *extra]))
        return topology.on_database(url, database) if database else url

    with contextlib.ExitStack() as stack:
        yield make


@pytest.fixture
def as_user(user_url: UserURL, prefix: str) -> Iterator[AsUser]:
    """A publisher of such a user."""
    with contextlib.ExitStack() as stack:
        yield lambda **rules: stack.enter_context(
            Publisher.from_url(user_url(**rules), prefix=prefix)
        )


@pytest.mark.parametrize("database", [0, 3])
def test_the_least_rights_are_enough_for_every_call(as_user: AsUser, database: int):
    publisher = as_user(database=database)
    publisher.publish(CHANNEL, 1)
    publisher.publish(CHANNEL, 1, idempotency_key="k")
    publisher.publish_many([Outgoing(CHANNEL, 1, min_replicas=0)])
    publisher.notify("u", title="t", message="m")
    publisher.grant(CHANNEL, "u")
    publisher.grant(CHANNEL, "u", None)
    publisher.grant(CHANNEL, EVERYBODY)
    assert publisher.revoke(CHANNEL, "u")
    assert publisher.delete(CHANNEL, publisher.publish(CHANNEL, 1).id)
    assert publisher.cancel(publisher.publish(CHANNEL, 1, at=4_000_000_000))
    assert publisher.receipts(CHANNEL, 1) == []
    assert publisher.publish("run-results/t", 1, wait_confirmed=0.01).confirmed == ()
    publisher.forget("somebody")
    publisher.disconnect("u", reason="bye")
    publisher.revoke_token("a", 4_000_000_000)
    publisher.revoke_tokens_before("u", 1_640_995_200)
    assert len(publisher.history(CHANNEL)) == 3
    assert publisher.connections("u") == []
    assert take_events(publisher) == []
    publisher.ping()


def take_events(publisher: Publisher) -> list[Event]:
    """What reading events asks of Redis, though there are none to wait for."""
    reader = publisher._operations.events("g", "new")
    publisher._run(reader.set_aside(Event("lost", "u", "n", 1, "0-1"), "why"))
    return publisher._run(reader.take(["0-1"]))


def use_everything(publisher: Publisher) -> Iterator[Callable[[], object]]:
    """Each thing that a publisher can do."""
    yield lambda: publisher.publish(CHANNEL, 1)
    yield lambda: publisher.publish(CHANNEL, 1, idempotency_key="k")
    yield lambda: publisher.publish(CHANNEL, 1, retention=Retention(1, 60), min_replicas=1)
    yield lambda: publisher.grant(CHANNEL, "u", None)
    yield lambda: publisher.grant(CHANNEL, "u")
    yield lambda: publisher.revoke(CHANNEL, "u")
    yield lambda: publisher.delete(CHANNEL, 1)
    yield lambda: publisher.publish(CHANNEL, 1, collapse_key="c")
    yield lambda: publisher.publish(CHANNEL, 1, at=4_000_000_000, idempotency_key="k")
    yield lambda: publisher.cancel(32 * "0")
    yield lambda: publisher.receipts(CHANNEL, 1)
    yield lambda: publisher.publish(CHANNEL, 1, wait_confirmed=0.01)
    yield lambda: publisher.disconnect("u")
    yield lambda: publisher.forget("u")
    yield lambda: publisher.revoke_token("jti", time.time() + 60)
    yield lambda: publisher.revoke_tokens_before("u", time.time())
    yield lambda: publisher.history(CHANNEL)
    yield lambda: publisher.connections("u")
    yield lambda: take_events(publisher)
    yield publisher.ping


RIGHTS = rights.of_a_publisher(topology.keys("x"))
HARMLESS = {"client|setinfo"}
"""The redis package tries it when it connects, and goes on."""

NOT_ALWAYS_USED = {
    "+xadd": "it is used where an event is set aside, as tests/integration/test_webhooks.py shows",
    "+xclaim": "it is used where webhooks end with events under way, as tests/integration/test_webhooks.py shows",
    "+asking": "it is used while a slot moves",
    "+mget": "only publishers of version 0.1.0 need it",
    "+ping": "a client with a health_check_interval needs it, as the test before shows",
}


@pytest.mark.parametrize("without", ["", "+ping"])
def test_a_client_that_looks_after_its_connections_may_ask_for_an_answer(
    user_url: UserURL, prefix: str, without: str
):
    url = user_url(without=without)
    if "+" in url.partition("://")[0]:
        leave_out("it is the same client for each server")
    with redis.Redis.from_url(url, health_check_interval=1e-9) as client:
        publisher = Publisher(client, prefix=prefix)
        if without:
            with pytest.raises(Rejected, match="ping"):
                publisher.publish(CHANNEL, 1)
        else:
            publisher.publish(CHANNEL, 1)


@pytest.mark.parametrize(
    "right", [*(each for each in RIGHTS if each[0] == "+"), rights.keys_rule, rights.channels_rule]
)
def test_none_of_them_is_one_too_many(
    as_user: AsUser, server: topology.Looking, prefix: str, right: str | Callable[[Keys], str]
):
    if why := NOT_ALWAYS_USED.get(str(right)):
        leave_out(why)
    rule = right if isinstance(right, str) else right(topology.keys(prefix))
    publisher = as_user(without=rule)
    for use in use_everything(publisher):
        with contextlib.suppress(Unavailable):
            use()
    assert denied(server, f"u{prefix}") - HARMLESS


def test_with_all_of_them_nothing_is_refused(
    as_user: AsUser, server: topology.Looking, prefix: str
):
    publisher = as_user()
    for use in use_everything(publisher):
        with contextlib.suppress(NotReplicated):  # there may be no replica
            use()
    assert denied(server, f"u{prefix}") <= HARMLESS


def missing_for_a_publish(keys: Keys) -> list[str]:
    return sorted({f"+{str(command[0]).lower()}" for command in rights.to_publish(keys)})


_OF_ANY_PRIMARY = ("+hgetall", "+time", rights.keys_rule)


@pytest.mark.parametrize(
    "right", [*missing_for_a_publish(topology.keys("x")), rights.keys_rule, rights.channels_rule]
)
def test_without_one_nothing_is_written_and_it_is_named(
    as_user: AsUser, server: redis.Redis, prefix: str, right: str | Callable[[Keys], str]
):
    """It was written and not published, and the retry with the same key was told of success."""
    if topology.chosen() == topology.CLUSTER and right in _OF_ANY_PRIMARY:
        leave_out("a cluster's namespaces are read before the rights, and Redis's words are told")
    rule = right if isinstance(right, str) else right(topology.keys(prefix))
    publisher = as_user(without=rule)
    for _ in range(2):
        with pytest.raises(Rejected, match=re.escape(rule)) as caught:
            publisher.publish(CHANNEL, 1, idempotency_key="k")
        assert not caught.value.maybe_sent
        assert not caught.value.retryable
    assert not topology.names(server, f"{prefix}*")


@pytest.mark.parametrize("right", ["+zadd", rights.channels_rule])
async def test_the_asyncio_client_tries_them_too(
    user_url: UserURL, server: redis.Redis, prefix: str, right: str | Callable[[Keys], str]
):
    rule = right if isinstance(right, str) else right(topology.keys(prefix))
    async with AsyncPublisher.from_url(user_url(without=rule), prefix=prefix) as publisher:
        for _ in range(2):
            with pytest.raises(Rejected, match=re.escape(rule)) as caught:
                await publisher.publish(CHANNEL, 1, idempotency_key="k")
            assert not caught.value.maybe_sent
    assert not topology.names(server, f"{prefix}*")


def test_all_that_are_missing_are_named_at_once(as_user: AsUser, prefix: str):
    publisher = as_user(without=f"&{prefix}:*", instead="-zadd")
    with pytest.raises(Rejected, match=re.escape(f"&{prefix}:* +zadd;")):
        publisher.publish(CHANNEL, 1)


def test_a_right_that_is_given_later_is_noticed_without_a_restart(
    as_user: AsUser, server: redis.Redis, prefix: str
):
    publisher = as_user(without=f"&{prefix}:*")
    with pytest.raises(Rejected):
        publisher.publish(CHANNEL, 1, idempotency_key="k")
    topology.to_all(server, "ACL", "SETUSER", f"u{prefix}", f"&{prefix}:*")
    assert not publisher.publish(CHANNEL, 1, idempotency_key="k").duplicate


def test_a_grant_is_not_taken_back_by_who_may_not_tell_the_nodes(
    as_user: AsUser, publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.grant(CHANNEL, "u")
    hindered = as_user(without=f"&{keys.prefix}:*")
    with pytest.raises(Rejected, match=re.escape(f"&{keys.prefix}:*")):
        hindered.revoke(CHANNEL, "u")
    assert server.zscore(keys.grant(CHANNEL), "u") is not None


@pytest.mark.one_server("its counts of commands are looked at")
def test_rights_are_tried_once_by_a_client(publisher: Publisher, server: redis.Redis):
    publisher.publish(CHANNEL, 1)
    server.config_resetstat()
    publisher.publish(CHANNEL, 1)
    assert server.info("commandstats")["cmdstat_zadd"]["calls"] == 1


@pytest.mark.one_server("its commands are looked at")
def test_trying_them_changes_nothing_and_reaches_nobody(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    for use in (
        rights.to_publish,
        rights.to_grant,
        rights.to_revoke,
        rights.to_end,
        rights.to_delete,
        rights.to_schedule,
        rights.to_await,
        rights.to_forget,
        rights.to_consume,
        rights.to_serve,
        rights.to_tell,
    ):
        for command in use(keys):
            assert server.execute_command(*command) in (
                None,
                0,
                [],
                {},
                b"",
                True,
                [None],
                [None, None],
            ) or command[0] in {"TIME", "PTTL", "SCAN", "ZSCAN"}
    assert not topology.names(server, f"{keys.prefix}*")


OF_PUBLISHERS = [scripts.PUBLISH, scripts.SETTLE, scripts.GRANT, scripts.READ, scripts.CONNECTIONS]
OF_PUBLISHERS += [scripts.LIVE_NODES, scripts.DELETE, scripts.SCHEDULE, scripts.CANCEL]
OF_PUBLISHERS += [scripts.TAKE_EVENTS, scripts.SET_EVENT_ASIDE, scripts.PAGE, scripts.PRESENT]
OF_PUBLISHERS += [scripts.DISCONNECT, scripts.REVOKE_TOKEN, scripts.REVOKE_TOKENS]


@pytest.mark.parametrize("script", OF_PUBLISHERS, ids=lambda script: script.name)
def test_the_list_has_what_a_publishers_scripts_use(script: Script):
    assert used_by(script) <= set(rights.of_a_publisher(Keys("x")))


@pytest.mark.parametrize("script", [scripts.PUBLISH, scripts.SETTLE], ids=lambda each: each.name)
def test_what_a_publish_uses_is_tried_before_it(script: Script):
    assert used_by(script) <= set(missing_for_a_publish(Keys("x")))


FOR_PUBLISHERS_ALONE = {
    "publish",
    "settle",
    "grant",
    "disconnect",
    "revoke_token",
    "revoke_tokens",
    "take_events",
    "set_event_aside",
}
ALL = [each for each in vars(scripts).values() if isinstance(each, Script)]


@pytest.mark.parametrize("script", ALL, ids=lambda script: script.name)
def test_the_list_of_a_gateway_has_what_its_scripts_use(script: Script):
    if script.name in FOR_PUBLISHERS_ALONE:
        return
    keys = Keys("x", sharded="'SPUBLISH'" in script.text)
    assert used_by(script) <= set(rights.of_a_gateway(keys))


def used_by(script: Script) -> set[str]:
    return {f"+{name.lower()}" for name in re.findall(r"redis\.p?call\('([A-Z]+)'", script.text)}
