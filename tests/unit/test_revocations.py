"""Which connections a command ends, and which handshakes it may have come too late for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.core import closing
from gateway.core.access import Identity
from gateway.node import heard_lately as module
from gateway.node.connection import Connection
from gateway.node.ports import Claim
from gateway.node.revocations import Ending, Revocations
from publisher.contract.control import Disconnect, PlaceReplaced, TokenRevoked, TokensRevoked
from publisher.contract.revocations import digest_of
from publisher.errors import Unavailable
from tests.support.waiting import until
from tests.unit.fakes import FakeRevokedTokens, Node, RecordingSocket, make_connection

AT = 1_640_995_200_000_000
T1 = TokenRevoked(digest_of("t1"))


class World:
    def __init__(self) -> None:
        self.node = Node()
        self.redis = FakeRevokedTokens()
        self.revocations = self.node.revocations(self.redis)
        self.sockets: dict[str, RecordingSocket] = {}

    def let_in(
        self,
        id: str,
        user: str = "u",
        *,
        at: int = AT,
        token: str | None = None,
        issued: float | None = None,
        begun: float | None = None,
    ) -> Connection:
        client, socket = make_connection(user=user, id=id)
        client.identity = Identity(user, token_id=token, issued_at=issued)
        client.entered_at = at
        client.begun = self.node.clock() if begun is None else begun
        self.node.hub.connections[id] = client
        self.revocations.watch(client)
        self.sockets[id] = socket
        return client

    def ended(self) -> dict[str, str]:
        """The connections that were closed, and the reason of each."""
        found = {id: socket.closing for id, socket in self.sockets.items()}
        return {id: each.reason for id, each in found.items() if each is not None}


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_disconnect_ends_what_the_user_had_then_and_says_why(world: World) -> None:
    world.let_in("1", at=AT - 5)
    world.let_in("2", at=AT)
    world.let_in("back", at=AT + 1)
    world.let_in("other", "v")
    world.revocations.hear(Disconnect("u", AT, "locked"))
    assert world.ended() == {"1": "disconnected", "2": "disconnected"}
    assert b'"message":"locked","code":"disconnected"' in world.sockets["1"].received
    assert world.node.stats.revocations == {"disconnect": 2}


@pytest.mark.parametrize("again", [False, True])
async def test_a_clock_of_redis_that_was_set_back_keeps_nobody_here(
    world: World, again: bool
) -> None:
    """Only when it is told for the first time: whoever has come since would be ended by each repetition."""
    now = world.node.clock()
    world.let_in("here", at=AT + 3_600_000_000, begun=now - 60)
    world.let_in("coming", at=AT + 3_600_000_001, begun=now - 9)
    world.let_in("old", at=AT, begun=now)
    world.revocations.hear(Disconnect("u", AT, again=again))
    expected = {"old": "disconnected"} | ({} if again else {"here": "disconnected"})
    assert world.ended() == expected


async def test_who_has_come_back_stays_though_the_command_is_heard_late(world: World) -> None:
    """Redis is read from slowly where much is delivered."""
    world.let_in("1", at=AT - 5)
    world.let_in("back", at=AT + 200_000)
    world.node.clock.now += 5
    world.revocations.hear(Disconnect("u", AT))
    assert world.ended() == {"1": "disconnected"}


async def test_of_several_connections_the_one_is_ended_that_is_meant(world: World) -> None:
    world.let_in("1")
    world.let_in("2")
    world.revocations.hear(Disconnect("u", AT, connection="there/1"))
    assert world.ended() == {}
    world.revocations.hear(Disconnect("u", AT, connection="here/1"))
    assert world.ended() == {"1": "disconnected"}


async def test_a_revoked_token_ends_its_connections_whoever_they_are(world: World) -> None:
    world.let_in("1", token="t1")
    world.let_in("2", "v", token="t1")
    world.let_in("3", token="t2")
    world.let_in("4")
    world.revocations.hear(T1)
    assert world.ended() == {"1": "token_revoked", "2": "token_revoked"}


async def test_tokens_issued_before_a_time_end_and_those_that_do_not_say_when(world: World) -> None:
    world.let_in("old", issued=99.5)
    world.let_in("silent")
    world.let_in("new", issued=100.0)
    world.let_in("other", "v", issued=1.0)
    world.revocations.hear(TokensRevoked("u", 100))
    assert world.ended() == {"old": "token_revoked", "silent": "token_revoked"}


async def test_a_connection_whose_place_is_anothers_ends_and_takes_none_again(world: World) -> None:
    world.let_in("1")
    world.let_in("2")
    world.revocations.hear(PlaceReplaced("u", "there/1"))
    world.revocations.hear(PlaceReplaced("u", "here/2"))
    assert world.ended() == {"2": "replaced"}
    assert world.node.places.freed == [("u", "2")]


async def test_nothing_is_kept_of_connections_that_are_gone(world: World) -> None:
    clients = [world.let_in(str(n), token=f"t{n % 2}") for n in range(4)]
    for client in clients:
        world.revocations.forget(client)
        world.revocations.forget(client)
    world.revocations.hear(Disconnect("u", AT))
    world.revocations.hear(T1)
    assert world.ended() == {}
    assert not world.revocations._of_user._of
    assert not world.revocations._of_token._of


# -- who comes meanwhile --------------------------------------------------------------------------

CLAIM = Claim("u", "c", 100.0, "t1")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (Disconnect("u", AT, "bye"), closing.disconnected("bye")),
        (Disconnect("u", AT, connection="here/c"), closing.disconnected("")),
        (Disconnect("u", AT, connection="here/other"), None),
        (Disconnect("u", AT - 1), None),
        (Disconnect("v", AT), None),
        (T1, closing.TOKEN_REVOKED),
        (TokenRevoked(digest_of("t2")), None),
        (TokensRevoked("u", 100.5), closing.TOKEN_REVOKED),
        (TokensRevoked("u", 100.0), None),
        (TokensRevoked("v", 100.5), None),
        (PlaceReplaced("u", "here/c"), closing.REPLACED),
        (PlaceReplaced("u", "here/other"), None),
        (PlaceReplaced("u", "there/c"), None),
    ],
)
async def test_a_command_that_comes_while_redis_answers_counts_for_a_handshake(
    world: World, command: Ending, told: closing.Closing | None
) -> None:
    mark = world.revocations.mark
    world.revocations.hear(command)
    assert world.revocations.ends(CLAIM, AT, mark) == told
    assert world.revocations.ends(CLAIM, AT, world.revocations.mark) is None


async def test_when_more_has_come_than_is_remembered_nobody_is_let_in_on_the_old_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_REMEMBERED", 3)
    mark = world.revocations.mark
    for n in range(4):
        world.revocations.hear(Disconnect(f"v{n}", AT))
    with pytest.raises(Unavailable):
        world.revocations.ends(CLAIM, AT, mark)
    assert world.revocations.ends(CLAIM, AT, mark + 1) is None
    assert len(world.revocations._lately._commands) == 3


async def test_commands_are_remembered_for_half_a_minute(world: World) -> None:
    mark = world.revocations.mark
    world.revocations.hear(T1)
    world.node.clock.now += 29
    world.revocations.hear(Disconnect("v", AT))
    assert world.revocations.ends(CLAIM, AT, mark) is closing.TOKEN_REVOKED
    world.node.clock.now += 1
    world.revocations.hear(Disconnect("v", AT))
    with pytest.raises(Unavailable):
        world.revocations.ends(CLAIM, AT, mark)


async def test_who_asked_before_a_command_may_have_gone_unheard_asks_again(world: World) -> None:
    """It ends the connections that are here by now, and this one is not among them."""
    world.revocations.hear(T1)
    mark = world.revocations.mark
    world.revocations.unheard()
    with pytest.raises(Unavailable):
        world.revocations.ends(CLAIM, AT, mark)
    mark = world.revocations.mark
    assert world.revocations.ends(CLAIM, AT, mark) is None
    world.revocations.hear(T1)
    world.node.clock.now += 60
    world.revocations.hear(Disconnect("v", AT))
    with pytest.raises(Unavailable):
        world.revocations.ends(CLAIM, AT, mark)
    assert world.revocations.ends(CLAIM, AT, world.revocations.mark) is None


@pytest.mark.parametrize("user", ["\0" + digest_of("t1"), digest_of("t1"), "token"])
async def test_a_user_whose_id_is_written_like_a_token_is_none(world: World, user: str) -> None:
    mark = world.revocations.mark
    world.revocations.hear(T1)
    assert world.revocations.ends(Claim(user, "c", 100.0, "t2"), AT, mark) is None
    world.revocations.hear(TokensRevoked(user, 100.5))
    assert world.revocations.ends(CLAIM, AT, mark + 1) is None


async def admits(revocations: Revocations) -> bool:
    return await revocations.admits("u", 100.0, "t1")


async def test_a_token_that_is_shown_later_is_asked_about(world: World) -> None:
    assert await admits(world.revocations)
    world.redis.digests.add(digest_of("t1"))
    assert not await admits(world.revocations)
    world.redis.digests.clear()
    world.redis.users["u"] = 100.5
    assert not await admits(world.revocations)
    world.redis.users["u"] = 100.0
    assert await admits(world.revocations)
    assert await world.revocations.admits("v", None, None)


@pytest.mark.parametrize("command", [T1, TokensRevoked("u", 101)])
async def test_a_command_that_comes_while_redis_answers_counts_for_it_too(
    world: World, command: Ending
) -> None:
    world.redis.answers.clear()
    asking = asyncio.create_task(admits(world.revocations))
    await asyncio.sleep(0)
    world.revocations.hear(command)
    world.redis.answers.set()
    assert not await asking


async def test_what_was_asked_before_a_command_may_have_gone_unheard_is_asked_again(
    world: World,
) -> None:
    world.redis.answers.clear()
    asking = asyncio.create_task(admits(world.revocations))
    await asyncio.sleep(0)
    world.redis.digests.add(digest_of("t1"))
    world.revocations.unheard()
    world.redis.answers.set()
    assert not await asking


# -- what may have gone unheard -------------------------------------------------------------------


@pytest.fixture
async def asking(world: World) -> AsyncIterator[World]:
    """It asks about what is due."""
    task = asyncio.create_task(world.revocations.run())
    await world.revocations.until_rechecked()
    yield world
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_it_asks_about_users_and_tokens_and_looks_only_into_those_of_whom_something_ended(
    asking: World,
) -> None:
    asking.let_in("1", "u", token="t1")
    asking.let_in("2", "v")
    asking.let_in("3", "v", token="t3")
    asking.redis.users["v"] = 5.0
    asking.redis.digests.add(digest_of("t1"))
    asking.revocations.unheard()
    await asking.revocations.until_rechecked()
    assert sorted(asking.redis.asked) == sorted(["u", "v", digest_of("t1"), digest_of("t3")])
    [(user, connections)] = asking.node.places.asked
    assert (user, sorted(connections)) == ("v", ["2", "3"])
    assert asking.ended() == {"1": "token_revoked"}
    assert not asking.revocations.in_question


async def test_of_whom_nothing_can_be_told_is_in_question_until_it_can(asking: World) -> None:
    by_user = asking.let_in("1", "u")
    by_token = asking.let_in("2", "v", token="t2")
    asking.let_in("3", "w", token="t3")
    asking.redis.untold |= {"u", digest_of("t2")}
    asking.revocations.unheard()
    await asking.revocations.until_rechecked()
    assert asking.revocations.in_question == {by_user, by_token}
    asking.redis.untold.clear()
    asking.redis.digests.add(digest_of("t2"))
    await until(lambda: not asking.revocations.in_question)
    assert asking.ended() == {"2": "token_revoked"}
    # Only what was not known was asked about again.
    assert asking.redis.asked.count("w") == 1


async def test_a_user_is_in_question_whose_places_cannot_be_looked_into(
    asking: World, caplog: pytest.LogCaptureFixture
) -> None:
    client = asking.let_in("1", "u")
    asking.redis.users["u"] = 5.0
    asking.node.places.refuses = True
    asking.revocations.unheard()
    await asking.revocations.until_rechecked()
    assert asking.revocations.in_question == {client}
    assert [
        each for each in caplog.messages if each.startswith("revocations_unknown reason=WRONGTYPE")
    ]
    asking.node.places.refuses = False
    await until(lambda: not asking.revocations.in_question)


async def test_an_answer_that_is_older_than_what_made_it_due_counts_for_nothing(
    asking: World,
) -> None:
    client = asking.let_in("1", "u", token="t1")
    asking.redis.answers.clear()
    asking.revocations.unheard()
    await until(lambda: asking.redis.asked)
    asking.redis.untold.add("u")
    asking.revocations.unheard()
    asking.redis.answers.set()
    await asking.revocations.until_rechecked()
    assert asking.revocations.in_question == {client}
