"""The recording publishers and the real ones agree: each test runs on both, the real ones with a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
import redis

from publisher import (
    EVERYBODY,
    AsyncPublisher,
    Connection,
    GrantWithoutEffect,
    InvalidChannel,
    InvalidData,
    InvalidInput,
    MessageTooLarge,
    Namespace,
    NotReplicated,
    Outgoing,
    Owner,
    Presence,
    Publisher,
    Receipt,
    Retention,
    UnknownNamespace,
)
from publisher.contract import events as contract
from publisher.contract.keys import Keys
from publisher.testing import AsyncRecordingPublisher, RecordingPublisher
from tests.publisher.announcing import announcer
from tests.publisher.asking import ask
from tests.support import topology

OWN, SHARED = "notifications/u", "run-results/s"
NAMESPACES = {
    "orders": Namespace("orders", Owner.USER, Retention(3, 3600)),
    "ticker": Namespace("ticker", Owner.ANYONE, None),
    "rooms": Namespace("rooms", Owner.GRANT, presence=Presence()),
    "notifications": Namespace("notifications", Owner.USER),
    "run-results": Namespace("run-results", Owner.GRANT, Retention(200, 86_400)),
}
RING = "k1:" + "A" * 43 + "="
NODE = "node-1"
LATER_MS = 4_000_000_000_000


class Awaited:
    """An asyncio publisher, called as the blocking one is."""

    def __init__(self, publisher: AsyncPublisher, runner: asyncio.Runner) -> None:
        self.publisher = publisher
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.publisher, name)
        if not callable(found):
            return found

        def call(*given: Any, **named: Any) -> Any:
            async def run() -> Any:
                result = found(*given, **named)
                return await result if inspect.isawaitable(result) else result

            return self._runner.run(run())

        return call

    def events(self, group: str, start: Any = "new") -> Iterator[Any]:
        events = self.publisher.events(group, start)
        while True:
            try:
                yield self._runner.run(anext(events))
            except StopAsyncIteration:
                return


@dataclass
class World:
    """A publisher, and what users and gateways do, whom it cannot tell apart from real ones."""

    publisher: Any
    confirm: Callable[[str, str, int], None]
    connect: Callable[[str, str], Connection]
    be_in: Callable[[str, str], None]
    happen: Callable[[str], None]


def real(publisher: Any, server: redis.Redis, keys: Keys) -> World:
    announcer(server, keys)(*NAMESPACES.values())

    def connect(user: str, identifier: str) -> Connection:
        server.zadd(keys.nodes, {NODE: LATER_MS})
        server.zadd(keys.connections(user), {f"{NODE}/{identifier}": LATER_MS})
        return Connection(NODE, identifier, LATER_MS)

    def happen(user: str) -> None:
        told = contract.told("connected", user, NODE, 1, connection=f"{NODE}/1", first=1)
        (written,) = ask(server, [contract.write(keys, NODE, happened(), 1000, [told])])
        assert written == 1

    happened = iter(range(1, 100)).__next__
    return World(
        publisher,
        lambda channel, user, id_: server.zadd(keys.confirmed(channel), {user: id_}),
        connect,
        lambda channel, user: server.zadd(keys.presence(channel), {f"{NODE}/{user}": LATER_MS}),
        happen,
    )


def recorded(publisher: Any) -> World:
    present: dict[str, list[str]] = {}

    def be_in(channel: str, user: str) -> None:
        present.setdefault(channel, []).append(user)
        publisher.set_presence(channel, present[channel])

    return World(
        publisher,
        publisher.confirm,
        lambda user, _: publisher.add_connection(user),
        be_in,
        lambda user: publisher.add_event("connected", user, connection=f"{NODE}/1", first=True),
    )


KINDS = [Publisher, RecordingPublisher, AsyncPublisher, AsyncRecordingPublisher]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def world(request: pytest.FixtureRequest, redis_url: str, prefix: str) -> Iterator[World]:
    with make_world(request.param, redis_url, prefix) as made:
        yield made


@contextlib.contextmanager
def make_world(kind: type, redis_url: str, prefix: str, **options: Any) -> Iterator[World]:
    """A world with a publisher of this kind and with these options, until the block ends."""
    records = kind in {RecordingPublisher, AsyncRecordingPublisher}
    if records:
        rules = {name: each.to_dict() for name, each in NAMESPACES.items()}
        made: Any = kind(namespaces=rules, prefix=prefix, **options)
    else:
        made = kind.from_url(redis_url, prefix=prefix, **options)
    with asyncio.Runner() as runner, topology.looking_at(redis_url) as server:
        publisher = Awaited(made, runner) if isinstance(made, AsyncPublisher) else made
        yield recorded(publisher) if records else real(publisher, server, topology.keys(prefix))
        close(publisher)


def close(publisher: Any) -> None:
    if isinstance(publisher, Awaited):
        publisher.aclose()
    else:
        publisher.close()


def datas(world: World, channel: str, **options: Any) -> list[Any]:
    return [each.data for each in world.publisher.history(channel, **options)]


# -- what they have in common ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("double", "model"),
    [(RecordingPublisher, Publisher), (AsyncRecordingPublisher, AsyncPublisher)],
)
def test_each_public_name_of_the_real_one_is_there_with_its_signature(double: Any, model: Any):
    names = [name for name in dir(model) if not name.startswith("_")]
    assert len(names) > 20
    for name in names:
        expected, found = getattr(model, name), getattr(double, name)
        assert inspect.signature(found) == inspect.signature(expected), name
        assert inspect.iscoroutinefunction(found) == inspect.iscoroutinefunction(expected), name
    arguments = dict(inspect.signature(model).parameters)
    of_double = dict(inspect.signature(double).parameters)
    assert list(of_double) == [*arguments, "namespaces"]
    for name in list(arguments)[1:]:
        assert of_double[name].default == arguments[name].default


@pytest.mark.parametrize("double", [RecordingPublisher, AsyncRecordingPublisher])
def test_what_is_wrong_with_the_arguments_is_refused_at_once(double: Any):
    for wrong in ({"retries": -1}, {"max_message_bytes": 1, "min_replicas": -1}):
        with pytest.raises(InvalidData):
            double(**wrong)
    with pytest.raises(InvalidData, match="takes a client"):
        double("redis://localhost")
    with pytest.raises(InvalidInput, match="invalid Redis URL"):
        double.from_url("http://localhost")
    assert double.from_url("redis+cluster://a:1,b:2", prefix="p").published == []
    with pytest.raises(TypeError, match="cannot be copied"):
        pickle.dumps(double.from_url("redis://localhost"))


# -- publishing -----------------------------------------------------------------------------------


def test_ids_rise_and_history_has_what_json_makes_of_the_data(world: World):
    first = world.publisher.publish(OWN, {"price": Decimal("1.50"), "tags": ("a", "b")})
    second = world.publisher.publish(OWN, None)
    assert 0 < first.id < second.id
    assert (first.channel, first.duplicate, first.confirmed) == (OWN, False, None)
    entries = world.publisher.history(OWN)
    assert [(each.id, each.data) for each in entries] == [
        (first.id, {"price": "1.50", "tags": ["a", "b"]}),
        (second.id, None),
    ]
    assert abs(entries[0].timestamp - datetime.now(UTC).timestamp() * 1000) < 60_000
    assert datas(world, OWN, since=first.id) == [None]
    assert len(datas(world, OWN, limit=1)) == 1


@pytest.mark.parametrize(
    ("channel", "data", "options", "error"),
    [
        ("no-slash", 1, {}, InvalidChannel),
        ("notifications/\n", 1, {}, InvalidChannel),
        ("nowhere/x", 1, {}, UnknownNamespace),
        (OWN, float("nan"), {}, InvalidData),
        (OWN, object(), {}, InvalidData),
        (OWN, "x" * 2_000_000, {}, MessageTooLarge),
        (OWN, 1, {"ttl": 0}, InvalidData),
        (OWN, 1, {"idempotency_key": ""}, InvalidData),
        (OWN, 1, {"collapse_key": 7}, InvalidData),
        (OWN, 1, {"traceparent": "00-x"}, InvalidData),
        (OWN, 1, {"at": datetime(2030, 1, 1)}, InvalidData),  # noqa: DTZ001 - that is what is wrong
        (OWN, 1, {"at": 1.0, "wait_confirmed": 1}, InvalidData),
        (OWN, 1, {"wait_confirmed": 0}, InvalidData),
        ("ticker/x", 1, {"idempotency_key": "k"}, InvalidData),
        ("ticker/x", 1, {"at": 4e9}, InvalidData),
        ("ticker/x", 1, {"wait_confirmed": 1}, InvalidData),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_is_published(
    world: World, channel: str, data: Any, options: dict[str, Any], error: type
):
    with pytest.raises(error):
        world.publisher.publish(channel, data, **options)
    assert datas(world, OWN) == []


def test_a_key_publishes_once(world: World):
    first = world.publisher.publish(OWN, 1, idempotency_key="k")
    again = world.publisher.publish(OWN, 2, idempotency_key="k")
    other = world.publisher.publish(SHARED, 3, idempotency_key="k")
    assert (again.id, again.duplicate, other.duplicate) == (first.id, True, False)
    assert datas(world, OWN) == [1]


def test_many_have_their_outcomes_in_order(world: World):
    outcomes = world.publisher.publish_many(
        [
            (OWN, 1),
            ("nowhere/x", 2),
            Outgoing(OWN, 3, idempotency_key="k"),
            Outgoing(OWN, 4, idempotency_key="k"),
            ("ticker/x", 5),
            (OWN, object()),
        ]
    )
    first, unknown, third, fourth, unlogged, bad = outcomes
    assert isinstance(unknown, UnknownNamespace)
    assert isinstance(bad, InvalidData)
    assert first.id < third.id == fourth.id
    assert (third.duplicate, fourth.duplicate, unlogged.id) == (False, True, 0)
    assert datas(world, OWN) == [1, 3]


def test_a_broadcast_reaches_each(world: World):
    sent, wrong = world.publisher.broadcast({"a": 1}, users=["u", "\x00"])
    assert sent.channel == OWN
    assert isinstance(wrong, InvalidChannel)
    with pytest.raises(InvalidData):
        world.publisher.broadcast(1)
    assert datas(world, OWN) == [{"a": 1}]


def test_notifications_and_results_have_the_shape_of_the_protocol(world: World):
    world.publisher.notify("u", title="T", message="M", request_id="r")
    world.publisher.run_result("s", stdout="1", stderr="", exit_code=0, duration=5, user="u")
    assert datas(world, OWN) == [{"title": "T", "message": "M", "requestId": "r"}]
    (result,) = datas(world, SHARED)
    assert result == {"stdout": "1", "stderr": "", "exitCode": 0, "duration": 5}
    assert world.publisher.revoke(SHARED, "u")
    with pytest.raises(InvalidData):
        world.publisher.run_result("s", stdout="1", stderr="", exit_code="0", duration=5)


def test_the_log_keeps_as_much_as_the_namespace_says(world: World):
    for number in range(5):
        world.publisher.publish("orders/u", number)
    assert datas(world, "orders/u") == [2, 3, 4]
    world.publisher.publish("orders/u", 5, retention=Retention(2, 60))
    assert datas(world, "orders/u") == [4, 5]
    for number in (6, 7):
        world.publisher.publish("orders/u", number, retention=Retention(9, 60))
    assert datas(world, "orders/u") == [4, 5, 6, 7]
    world.publisher.publish("orders/u", 8)
    assert datas(world, "orders/u") == [6, 7, 8]


def test_a_collapse_key_and_delete_take_messages_out(world: World):
    old = world.publisher.publish(OWN, "old", collapse_key="c")
    kept = world.publisher.publish(OWN, "kept")
    new = world.publisher.publish(OWN, "new", collapse_key="c")
    assert datas(world, OWN) == ["kept", "new"]
    assert not world.publisher.delete(OWN, old.id)
    assert world.publisher.delete(OWN, kept.id)
    assert world.publisher.delete(OWN, new.id)
    assert not world.publisher.delete(OWN, new.id)
    assert datas(world, OWN) == []
    assert world.publisher.publish(OWN, "next").id > new.id
    assert datas(world, OWN) == ["next"]
    with pytest.raises(InvalidData):
        world.publisher.delete(OWN, 0)


def test_what_is_scheduled_waits_and_can_be_cancelled(world: World):
    at = datetime.now(UTC) + timedelta(hours=1)
    planned = world.publisher.publish(OWN, 1, at=at)
    assert planned.channel == OWN
    assert planned.at == pytest.approx(at.timestamp(), abs=0.002)
    assert world.publisher.scheduled(planned.id) == planned
    assert datas(world, OWN) == []
    assert world.publisher.cancel(planned)
    assert not world.publisher.cancel(planned.id)
    assert world.publisher.scheduled(planned.id) is None
    with pytest.raises(InvalidData):
        world.publisher.cancel("no id")


def test_a_key_schedules_once(world: World):
    first = world.publisher.publish(OWN, 1, at=4e9, idempotency_key="k")
    again = world.publisher.publish(OWN, 2, at=4.1e9, idempotency_key="k")
    assert first == again
    assert world.publisher.cancel(first)
    assert world.publisher.publish(OWN, 3, at=4.2e9, idempotency_key="k").at == 4.2e9


def test_a_message_without_replicas_is_published_and_says_so(world: World):
    if hasattr(world.publisher, "replicas"):
        getattr(world.publisher, "publisher", world.publisher).replicas = 0
    with pytest.raises(NotReplicated) as caught:
        world.publisher.publish(OWN, 1, min_replicas=1_000)
    assert caught.value.replicas < caught.value.min_replicas == 1_000
    assert [each.id for each in world.publisher.history(OWN)] == [caught.value.id]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_encrypted_is_read_with_the_keys_and_not_without(
    kind: type, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(NAMESPACES, "secret", Namespace("secret", Owner.ANYONE, encrypted=True))
    with make_world(kind, redis_url, prefix, encryption_keys=RING) as world:
        world.publisher.publish("secret/x", {"a": 1}, ttl=60)
        assert datas(world, "secret/x") == [{"a": 1}]
        world.publisher.cancel(world.publisher.publish("secret/x", 1, at=4e9))
    with (
        make_world(kind, redis_url, prefix) as world,
        pytest.raises(InvalidData, match="encrypted"),
    ):
        world.publisher.publish("secret/x", 1)


# -- access, receipts, users ----------------------------------------------------------------------


def test_grants_are_there_until_they_are_revoked(world: World):
    world.publisher.grant(SHARED, "ann")
    world.publisher.grant(SHARED, EVERYBODY, ttl=60)
    assert world.publisher.revoke(SHARED, "ann")
    assert not world.publisher.revoke(SHARED, "ann")
    assert world.publisher.revoke(SHARED, EVERYBODY)
    with pytest.raises(GrantWithoutEffect):
        world.publisher.grant(OWN, "other")
    with pytest.raises(GrantWithoutEffect):
        world.publisher.revoke("ticker/x", "ann")
    for wrong in ({"ttl": 0}, {"user": ""}):
        with pytest.raises(InvalidData):
            world.publisher.grant(SHARED, **{"user": "ann", **wrong})


def test_receipts_name_who_has_confirmed(world: World):
    first, second, third = (world.publisher.publish(SHARED, number).id for number in range(3))
    for user, id_ in (("b", third), ("a", first), ("c", third), ("ü", second)):
        world.confirm(SHARED, user, id_)
    assert world.publisher.receipts(SHARED, second) == [
        Receipt("ü", second),
        Receipt("b", third),
        Receipt("c", third),
    ]
    assert world.publisher.receipts(SHARED, third, after="b") == [Receipt("c", third)]
    assert world.publisher.receipts(SHARED, first, limit=1) == [Receipt("a", first)]
    with pytest.raises(InvalidData):
        world.publisher.receipts("ticker/x", 1)


def test_who_waits_for_a_confirmation_is_told_of_none(world: World):
    assert world.publisher.publish(OWN, 1, wait_confirmed=0.05).confirmed == ()


def test_connections_nodes_and_who_is_in_a_channel(world: World):
    connection = world.connect("u", "c1")
    assert world.publisher.connections("u") == [connection]
    assert world.publisher.connections("other") == []
    assert [(each.name, each.report) for each in world.publisher.nodes()] == [(NODE, None)]
    world.publisher.drain(NODE)
    with pytest.raises(InvalidInput):
        world.publisher.drain("node-2")
    for user in ("b", "a"):
        world.be_in("rooms/1", user)
    assert world.publisher.presence("rooms/1") == ["a", "b"]
    with pytest.raises(InvalidData):
        world.publisher.presence(OWN)


def test_ending_access_is_checked_as_ever(world: World):
    world.publisher.disconnect("u", reason="logout")
    world.publisher.revoke_token("j", datetime.now(UTC) + timedelta(hours=1))
    world.publisher.revoke_tokens_before("u", datetime.now(UTC))
    for wrong in (
        lambda: world.publisher.disconnect("u", connection="no-slash"),
        lambda: world.publisher.revoke_token("j", 1.0),
        lambda: world.publisher.revoke_token("", 4e9),
        lambda: world.publisher.revoke_tokens_before("u", 4e9),
    ):
        with pytest.raises(InvalidData):
            wrong()


def test_who_is_forgotten_leaves_nothing(world: World):
    world.publisher.publish(OWN, 1)
    world.publisher.publish(SHARED, 2)
    world.publisher.grant(SHARED, "u")
    planned = world.publisher.publish(OWN, 3, at=4e9)
    world.publisher.forget("u")
    assert datas(world, OWN) == []
    assert datas(world, SHARED) == [2]
    assert not world.publisher.revoke(SHARED, "u")
    assert not world.publisher.cancel(planned)


def test_events_are_given_to_each_group_once(world: World):
    world.happen("a")
    world.happen("b")
    events = world.publisher.events("g", start="oldest")
    (first,) = islice(events, 1)
    assert (first.kind, first.user, first.node, first.connection) == (
        "connected",
        "a",
        NODE,
        f"{NODE}/1",
    )
    assert (first.first, first.last, first.message) == (True, False, None)
    assert next(events).user == "b"
    other = world.publisher.events("other", start="oldest")
    assert [each.user for each in islice(other, 2)] == ["a", "b"]
    with pytest.raises(InvalidData):
        next(iter(world.publisher.events("g", start="middle")))


def test_a_call_after_close_goes_on(world: World):
    close(world.publisher)
    world.publisher.publish(OWN, 1)
    world.publisher.ping()
    assert datas(world, OWN) == [1]
