"""Which primaries of a cluster a node must hear, and which one it chooses for commands to all nodes."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.backplane.any_primary import AnyPrimary
from gateway.backplane.hearing import ClusterHearing, Events, Parts
from gateway.backplane.pubsub import ListeningTime, ModeratedReader
from gateway.backplane.redis_connections import ClusterConnections
from gateway.metrics import NodeCollector
from gateway.node.stats import Stats
from gateway.node.tasks import Tasks
from publisher.errors import Unavailable
from publisher.transport.cluster import SLOTS, Cluster, Slots
from publisher.transport.connection import opened
from publisher.transport.redis_py import Connector, Host

HOSTS: list[Host] = [(f"h{number}", number) for number in range(8)]
KEY = "k"


def nothing(*_: Any) -> None:
    pass


class Server:
    """What a connector makes: it hangs while it is opened, or refuses."""

    def __init__(self, **options: Any) -> None:
        self.host, self.port = options.get("host"), options.get("port")

    async def connect(self) -> None:
        if self.host == HOSTS[0][0]:
            await asyncio.sleep(60)
        raise ConnectionRefusedError

    async def disconnect(self, nowait: bool = False) -> None:
        pass


def hearing_of(*hosts: Host) -> ClusterHearing:
    """One that is not started; each primary has as many slots as the others."""
    connections = ClusterConnections(Cluster((HOSTS[0],), Connector(Server, {}, 1)), Stats(), 1.0)
    make_reader: Any = ModeratedReader
    clock = asyncio.get_running_loop().time
    it = ClusterHearing(
        connections,
        Parts(make_reader, ListeningTime(clock), Stats(), Tasks(), lambda: 0.5, "probe"),
        Events(nothing, nothing, nothing, nothing),
    )
    if hosts:
        size = SLOTS // len(hosts)
        parts = [(at * size, (at + 1) * size - 1, host) for at, host in enumerate(hosts)]
        connections.map.known.slots = Slots(parts)
    return it


def set_state(
    it: ClusterHearing,
    host: Host,
    *,
    connected: bool = True,
    heard: bool = True,
    serves: bool = True,
    since: float = 0.0,
) -> None:
    shards: dict[Host, Any] = it.shards.of
    probes: dict[Host, Any] = it._probes
    shards[host] = SimpleNamespace(connected=connected)
    probes[host] = SimpleNamespace(heard=heard, serves=serves, since=since, recheck=nothing)


@pytest.mark.parametrize(
    ("up", "of", "ready"),
    [
        *((0, 1, False), (1, 1, True), (1, 2, False), (2, 2, True), (1, 3, False), (2, 3, True)),
        *((2, 4, False), (3, 4, True), (3, 6, False), (4, 6, True)),
    ],
)
async def test_a_node_hears_while_it_hears_itself_through_more_than_half(
    up: int, of: int, ready: bool
) -> None:
    it = hearing_of(*HOSTS[:of])
    probe: Any = SimpleNamespace(heard=True)
    it.probe = probe
    it._begun = True
    for number, host in enumerate(HOSTS[:of]):
        set_state(it, host, connected=True, heard=number < up)
    assert it.heard is ready
    assert list(it.servers().values()).count(True) == up
    metrics = {
        sample.name: sample.value
        for metric in NodeCollector(
            hub=SimpleNamespace(connections={}, channels={}),  # type: ignore[arg-type]
            stats=Stats(),
            ready=lambda: it.heard,
            max_connections=1,
            redis_servers=it.servers,
        ).collect()
        for sample in metric.samples
    }
    assert metrics["gateway_redis_primaries_down"] == of - up
    assert metrics["gateway_ready"] == ready


async def test_a_node_that_starts_hears_when_it_has_heard_all_primaries_once() -> None:
    """When it hears a further one it asks for its lease again: it would be ready, not ready, and ready."""
    it = hearing_of(*HOSTS[:3])
    probe: Any = SimpleNamespace(heard=True)
    it.probe = probe
    for number, host in enumerate(HOSTS[:3]):
        assert not it.heard
        set_state(it, host)
        it._note_beginning()
        assert it.heard is (number == 2)
    set_state(it, HOSTS[0], connected=False)
    assert it.heard


async def test_a_node_that_starts_while_a_primary_is_down_waits_for_it_only_so_long() -> None:
    it = hearing_of(*HOSTS[:3])
    probe: Any = SimpleNamespace(heard=True)
    listening: Any = SimpleNamespace(seconds=100.0)
    it.probe = probe
    it._parts = replace(it._parts, listening=listening)
    for host in HOSTS[:2]:
        set_state(it, host)
    set_state(it, HOSTS[2], heard=False)
    it.shards.follow = nothing  # type: ignore[method-assign]
    for now, heard in ((100.0, False), (101.9, False), (102.0, True)):
        it._follow()  # slots that move meanwhile prolong nothing
        listening.seconds = now
        it._note_beginning()
        assert it.heard is heard


async def test_a_node_that_does_not_hear_commands_to_all_does_not_hear() -> None:
    it = hearing_of(*HOSTS[:3])
    for host in HOSTS[:3]:
        set_state(it, host, connected=True, heard=True)
    assert not it.heard


async def test_a_node_without_a_map_does_not_hear_and_has_no_servers() -> None:
    it = hearing_of()
    probe: Any = SimpleNamespace(heard=True)
    it.probe = probe
    assert not it.heard
    assert it.servers() == {}
    assert it.is_down(KEY)


@pytest.mark.parametrize(
    ("connected", "heard", "up"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
async def test_a_primary_is_up_if_its_connection_is_there_and_brings_the_probe(
    connected: bool, heard: bool, up: bool
) -> None:
    it = hearing_of(HOSTS[3])
    set_state(it, HOSTS[3], connected=connected, heard=heard)
    assert it.servers() == {"h3:3": up}


async def test_what_a_primary_has_is_away_until_its_return_is_told_and_no_longer() -> None:
    """Then places are renewed, before the probe has come round."""
    it = hearing_of(HOSTS[3])
    assert it.is_down(KEY)
    set_state(it, HOSTS[3], connected=True, heard=False)
    assert not it.is_down(KEY)
    set_state(it, HOSTS[3], connected=False, heard=True)
    assert it.is_down(KEY)


async def test_what_a_primary_has_that_hangs_is_away_until_its_return_is_told() -> None:
    """Its connections stay open. What went on without it is to be made up for when it goes on."""
    it = hearing_of(*HOSTS[3:5])
    returns = 0

    def note() -> None:
        nonlocal returns
        returns += 1

    it._events = Events(nothing, nothing, nothing, note)
    at = it._map.known.owner(KEY)
    for host in HOSTS[3:5]:
        set_state(it, host, since=10.0 if host == at else 11.9, heard=host != at)
    it._note_hanging()
    assert not it.is_down(KEY), "that happens to everybody"
    set_state(it, it._map.known.owner(beside(it, at)), since=12.1)
    it._note_hanging()
    assert it.is_down(KEY)
    assert not it.is_down(beside(it, at))
    # That the others hang as well is no sign of life.
    set_state(it, at, since=10.0, heard=False)
    set_state(it, it._map.known.owner(beside(it, at)), since=12.1, heard=False)
    it._note_hanging()
    assert it.is_down(KEY)
    set_state(it, at, since=14.0)
    assert it.is_down(KEY)
    it._note_hanging()
    assert (it.is_down(KEY), returns) == (False, 1)
    it._note_hanging()
    assert returns == 1


async def test_the_return_of_a_primary_that_hung_and_whose_connection_is_another_one_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    it = hearing_of(*HOSTS[3:5])
    returns: list[int] = []
    it._events = Events(nothing, nothing, nothing, lambda: returns.append(1))
    set_state(it, HOSTS[4], since=12.1)
    set_state(it, HOSTS[3], since=10.0, heard=False)
    it._note_hanging()
    set_state(it, HOSTS[3], since=10.0, connected=False)
    it._shard_changed(HOSTS[3], listening=False)
    it._note_hanging()
    assert not returns
    set_state(it, HOSTS[3], since=12.1, heard=False)
    it._shard_changed(HOSTS[3], listening=True)
    it._note_hanging()
    assert returns == [1]
    assert caplog.messages == ["primary_lost server=h3:3", "primary_reached server=h3:3"]


def beside(it: ClusterHearing, host: Host) -> str:
    """A key that another primary has."""
    return next(each for each in map(str, range(1_000)) if it._map.known.owner(each) != host)


@pytest.mark.parametrize(
    ("here", "there", "commands", "astray"),
    [
        pytest.param({"since": 9.0}, {"since": 9.9}, True, False, id="both are heard"),
        pytest.param({"since": 8.0}, {"since": 9.9}, True, True, id="only the other one is heard"),
        pytest.param({"since": 8.0}, {"since": 8.4}, True, False, id="neither is heard any more"),
        pytest.param(
            {"since": 8.0},
            {"since": 9.9, "heard": False},
            True,
            False,
            id="the other one is down too",
        ),
        pytest.param({"serves": False}, {}, True, True, id="it carries nothing out"),
        pytest.param({"serves": False}, {"heard": False}, True, False, id="neither does"),
        pytest.param({"connected": False}, {}, True, False, id="it brings the commands still"),
        pytest.param({"connected": False}, {}, False, True, id="it brings nothing"),
        pytest.param({}, {}, False, False, id="commands are about to come"),
    ],
)
async def test_commands_to_all_nodes_come_over_another_primary_when_that_one_answers_and_this_one_does_not(
    here: dict[str, Any], there: dict[str, Any], commands: bool, astray: bool
) -> None:
    it = hearing_of(*HOSTS[:2])
    it._any.host = HOSTS[0]
    set_state(it, HOSTS[0], **here)
    set_state(it, HOSTS[1], **there)
    probe: Any = SimpleNamespace(heard=commands)
    it.probe = probe
    it._note_hanging()
    assert it._is_astray() is astray


async def test_a_server_that_left_while_the_connection_for_commands_was_opened_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = hearing_of(*HOSTS[:2])
    moved = asyncio.Event()
    monkeypatch.setattr(it.control, "move", moved.set)
    it._any.host = HOSTS[5]
    for host in HOSTS[:2]:
        set_state(it, host)
    watching = asyncio.create_task(it._watch())
    await asyncio.sleep(0)
    assert not moved.is_set(), "there is no connection yet"
    monkeypatch.setattr(type(it.control), "received", 0)
    await asyncio.wait_for(moved.wait(), 5)
    watching.cancel()


async def test_a_primary_that_hangs_while_it_is_opened_is_not_the_next_choice() -> None:
    it = hearing_of(*HOSTS[:2])
    anyone: AnyPrimary = it._any
    with pytest.raises(TimeoutError):
        async with opened(anyone, 0.05):
            pass
    assert anyone.host == HOSTS[0]
    with pytest.raises(ConnectionRefusedError):
        async with opened(anyone, 0.05):
            pass
    assert anyone.host == HOSTS[1]


async def test_before_a_primary_is_known_none_is_chosen() -> None:
    with pytest.raises(Unavailable):
        async with opened(hearing_of()._any, 0.05):
            pass
