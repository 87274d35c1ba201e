"""In a cluster all keys of a call must be of one slot: those of each call that nodes and publishers make."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.backplane.health import NodeEntry
from gateway.backplane.place_table import PlaceTable
from gateway.backplane.presence import PresenceTable
from gateway.backplane.revocation_reader import RevocationReader
from gateway.backplane.scheduled import Scheduler
from gateway.backplane.store import Announcing, LogReader, Positions
from gateway.node.opener import Opener
from gateway.node.ports import Claim
from gateway.node.stats import Stats
from publisher import EVERYBODY
from publisher.contract import events, scripts, unconfirmed
from publisher.contract.calls import Call
from publisher.contract.channels import DEFAULT_NAMESPACES, Namespace, Owner, Presence, Retention
from publisher.contract.control import CheckPlaces
from publisher.contract.keys import Keys
from publisher.contract.presence import PresenceReading
from publisher.contract.scheduling import Planned
from publisher.contract.scripts import Script
from publisher.errors import Unavailable
from publisher.operations import Operations
from publisher.preflight import Preflight
from publisher.publication import Options
from publisher.records import Outgoing
from publisher.retrying import Retries
from publisher.transport.cluster import slot_of
from publisher.transport.flows import Flow, Owners, Pause, RoundTrip, SideBySide, Step, driven

USERS = ["u", "a}b", "}x", "}"]
CHANNELS = ["run-results/a", "run-results/b}{c", "notifications/d:{e}", "notifications/ü"]
KEYS = [Keys(sharded=True), Keys("other", sharded=True), Keys(sharded=True).below("check")]
NOT_IN_A_CLUSTER = {scripts.PUBLISH, scripts.GRANT, scripts.PRESENCE}
ROOMS = Namespace("rooms", presence=Presence(announce=True))


class Noted:
    """A pipeline that notes what it is to run."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def call(self, call: Call) -> Any:
        return await self.begin(call)

    def begin(self, call: Call) -> asyncio.Future[Any]:
        self.calls.append(call)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_result([b"-1", b"0"] if call.script is scripts.READ else [])
        return answer


async def calls_of_a_node(keys: Keys) -> list[Call]:
    noted = Noted()
    pipeline: Any = noted
    positions = Positions(pipeline, keys, DEFAULT_NAMESPACES, lambda: 0.0)
    log = LogReader(pipeline, keys, positions, Opener(None, Stats(), {}, time.time), Stats())
    for channel in CHANNELS:
        for user in ("u", "v"):
            positions.advance(channel, user, 5)
        await log.read(channel, "u", None, 10)
        await log.raise_last(channel, 7)
    await positions.flush()
    announcing = Announcing(pipeline, keys, DEFAULT_NAMESPACES, None, lambda: 0.5)
    running = asyncio.create_task(announcing.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    entry, table = NodeEntry(keys, "node", 10), PlaceTable(keys, "node", 5, 60)
    noted.calls += [
        entry.renew(),
        entry.remove(),
        table.living(),
        table.send(CheckPlaces("u", ("node",), (), "node")),
        table.answer(CheckPlaces("u", ("node",), (), "node")),
        *(Call.run(scripts.GRANTED, [keys.grant(channel)], "u") for channel in CHANNELS),
        Call(("SET", keys.marker, "m", "NX", "GET")),
        Call(("SET", keys.node("node"), "{}", "PX", 1)),
    ]
    presence = PresenceTable(keys, "node", 10, {"rooms": ROOMS})
    noted.calls += [presence.note(f"rooms/{user}", ["u"], ["v"]) for user in USERS]
    noted.calls += [PresenceReading(keys, f"rooms/{user}").next_part for user in USERS]
    scheduler = Scheduler(pipeline, keys, "node", Stats(), lambda: 0.0)
    noted.calls += [
        scheduler.look,
        scheduler.postpone("a" * 32),
        scheduler.finish("a" * 32),
        scheduler._work.release,
    ]
    telling = unconfirmed.Telling(keys, "node", 10)
    noted.calls += [
        unconfirmed.take(keys, "node", 3, 1, 10, 60),
        *(unconfirmed.find(keys, f"rooms/{user}", 7, 60) for user in USERS),
        *(telling.call(f"rooms/{user}", 7, unconfirmed.Found(), 60, 1) for user in USERS),
    ]
    told = [events.told("connected", "u", "node", 1, change="+", connection="node/1")]
    noted.calls += [
        events.write(keys, "node", 1, 10, told),
        events.renew(keys, "node", 10),
        events.end(keys, "gone", 10, tell=True),
        events.leave(keys, "node"),
    ]
    revocations = RevocationReader(pipeline, pipeline, keys)
    await revocations.ended(USERS)
    await revocations.revoked(["digest", "another"])
    replacing = PlaceTable(keys, "node", 5, 60, 10)
    for user in USERS:
        noted.calls += [
            replacing.take(Claim(user, "1"), [b"gone/2", b"5"], replace=True),
            replacing.renew(user, {"1": 1, "2": 2}),
            replacing.release(user, "1"),
            table.take(Claim(user, "1"), [b"gone/2", b"5"]),
            table.renew(user, {"1": 1, "2": 2}),
            table.release(user, "1"),
        ]
    return noted.calls


class Publisher:
    """Runs flows; each script's first answer is lost, so that what is published is asked for again."""

    def __init__(self, keys: Keys) -> None:
        self.calls: list[Call] = []
        self._lost: set[Script] = set()
        self._now = 1.0
        retries = Retries(9, lambda: 0.5, give_up_after=1e9, clock=self._clock)
        namespaces = DEFAULT_NAMESPACES | {
            "rooms": ROOMS,
            "ticker": Namespace("ticker", Owner.ANYONE, None),
        }
        self.operations = Operations(
            keys,
            clock=self._clock,
            wall_clock=lambda: 1_000_000,
            retries=retries,
            options=Options(),
            preflight=Preflight(keys, self._clock, retries, namespaces, learnt_at=1.0),
        )

    def _clock(self) -> float:
        return self._now

    def run(self, flow: Flow[Any]) -> Any:
        return driven(flow, self._take)

    def _take(self, step: Step) -> list[Any]:
        match step:
            case Pause(seconds):
                self._now += seconds
                return []
            case Owners(keys):
                return [(f"h{slot_of(key) % 3}", 1) for key in keys]
            case SideBySide(round_trips):
                return [self._side(each) for each in round_trips]
            case RoundTrip(calls):
                return self._round_trip(calls)

    def _side(self, step: RoundTrip) -> Any:
        try:
            return self._round_trip(step.calls)
        except Unavailable as error:
            return error

    def _round_trip(self, calls: Any) -> list[Any]:
        self.calls += calls
        new = {call.script for call in calls if call.script} - self._lost - {scripts.SETTLE}
        if new:
            self._lost |= new
            raise Unavailable("lost", maybe_sent=True)
        return [self._reply(call) for call in calls]

    def _reply(self, call: Call) -> Any:
        script = call.script
        if script is scripts.SETTLE:
            return [b"0"] * (int(call.arguments[0]) - 3)
        if script is scripts.PUBLISH_SHARDED:
            return b"\n".join([b"7"] * _messages(call))
        if script is scripts.READ:
            return [b"-1", b"0"]
        if script is scripts.TAKE_EVENTS:
            return [0]
        if script is scripts.PRESENT:
            return [b"0"]
        reads = script in (
            scripts.CONNECTIONS,
            scripts.LIVE_NODES,
            scripts.PAGE,
        )
        return [] if reads or call.arguments[0] == "HGETALL" else 1


def _messages(call: Call) -> int:
    """How many messages a call of ``publish.lua`` has: each has a log among its keys."""
    names = call.arguments[1 : 1 + int(call.arguments[0])]
    return sum(":log:" in str(name) for name in names)


def planned(publisher: Publisher) -> Planned:
    """The message that was scheduled last."""
    scheduled = [call for call in publisher.calls if call.script is scripts.SCHEDULE]
    kept = scheduled[-1].arguments[-1]
    assert isinstance(kept, bytes)
    return Planned.decode(kept)


def calls_of_a_publisher(keys: Keys) -> list[Call]:
    publisher = Publisher(keys)
    operations = publisher.operations
    own = Retention(max_messages=5, max_age_seconds=60)
    messages = [
        *((channel, number) for number in range(3) for channel in CHANNELS),
        *(Outgoing(channel, 1, idempotency_key="k") for channel in CHANNELS),
        *(Outgoing(channel, 1, retention=own) for channel in CHANNELS),
        *(Outgoing(channel, 1, retention=own, collapse_key="c") for channel in CHANNELS),
        *(Outgoing(channel, 1, idempotency_key="k", retention=own) for channel in CHANNELS),
        ("ticker/x", 1),
    ]
    publisher.run(operations.publish_many(messages))
    for channel in CHANNELS:
        publisher.run(operations.history(channel))
        publisher.run(operations.removing.delete(channel, 7))
        for message in (
            Outgoing(channel, 1),
            Outgoing(channel, 1, "k", own, collapse_key="c"),
        ):
            scheduled = publisher.run(operations.schedule(message, 5, None))
            publisher.run(operations.scheduling.cancel(scheduled))
            publisher.calls.append(planned(publisher).call(keys))
    publisher.run(operations.presence.users("rooms/a}b"))
    publisher.run(operations.receipts.receipts("run-results/a}b", 1))
    publisher.run(operations.grant(CHANNELS[0], "u"))
    publisher.run(operations.grant(CHANNELS[1], EVERYBODY))
    publisher.run(operations.revoke(CHANNELS[0], "u"))
    for user in USERS:
        publisher.run(operations.revoking.disconnect(user, "bye", None))
        publisher.run(operations.revoking.revoke_tokens_before(user, 1))
        publisher.run(operations.connections(user))
    publisher.run(operations.revoking.revoke_token("a}b", 4_000_000_000))
    reader = operations.events("g", "new")
    publisher.run(reader.take())
    publisher.run(reader.acknowledge(["1-0"]))
    publisher.run(reader.set_aside(events.Event("lost", "u", "n", 1, "1-0"), "why"))
    publisher.run(operations.ping())
    return publisher.calls


def keys_of(call: Call) -> list[str]:
    """The keys of a script's call."""
    return [str(name) for name in call.arguments[1 : 1 + int(call.arguments[0])]]


def all_scripts() -> Iterator[Script]:
    return (each for each in vars(scripts).values() if isinstance(each, Script))


@pytest.mark.parametrize("keys", KEYS, ids=lambda keys: keys.prefix)
async def test_the_keys_of_each_call_of_a_script_are_of_one_slot(keys: Keys) -> None:
    calls = await calls_of_a_node(keys) + calls_of_a_publisher(keys)
    found = [call for call in calls if call.script is not None]
    for call in found:
        names = keys_of(call)
        assert call.key == names[0]
        assert len({slot_of(name) for name in names}) == 1, (call.script, names)
    # None is left out, a new one neither.
    assert {call.script for call in found} == set(all_scripts()) - NOT_IN_A_CLUSTER


@pytest.mark.parametrize("keys", KEYS, ids=lambda keys: keys.prefix)
async def test_what_a_script_publishes_of_a_channel_is_of_its_keys_slot(keys: Keys) -> None:
    """A script may ``SPUBLISH`` in the slots that it has declared keys of."""
    published = changes = 0
    for call in await calls_of_a_node(keys) + calls_of_a_publisher(keys):
        if call.script is scripts.PUBLISH_SHARDED:
            names = keys_of(call)
            live = [each for each in map(str, call.arguments) if ":live:" in each]
            assert live
            assert {slot_of(each) for each in live} == {slot_of(names[0])}
            published += len(live)
        elif call.script is scripts.PRESENCE_SHARDED:
            (told,) = [each for each in map(str, call.arguments) if ":presence-changes:" in each]
            assert slot_of(told) == slot_of(str(call.key))
            changes += 1
        elif call.script is scripts.GRANT_SHARDED:
            assert slot_of(str(call.arguments[-1])) == slot_of(str(call.key))
    assert published
    assert changes


@pytest.mark.parametrize(
    "name", [lambda keys: keys.control, lambda keys: keys.answers("node")], ids=["all", "one"]
)
def test_what_all_nodes_are_to_hear_needs_no_certain_server(name: Callable[[Keys], str]) -> None:
    assert Call(("PUBLISH", name(KEYS[0]), b"")).key is None
