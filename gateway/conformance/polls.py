"""Checks of polls."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import orjson

from gateway.conformance.confirmed import awaits_confirmation
from gateway.conformance.event_streams import is_not_kept, is_refusal, named, said
from gateway.conformance.opening import Answer
from gateway.conformance.over_http import Query
from gateway.conformance.stage import Stage, check
from gateway.conformance.verdicts import Failed, expect

_POLL: Final = "/poll"
_SHORT_SECONDS: Final = 2.0
_LONG_SECONDS: Final = 55.0
_HELD_SECONDS: Final = 20.0
_SPARE_SECONDS: Final = 20.0
"""How much later than it says a request may be answered."""

Messages = list[dict[str, Any]]


class Polling:
    """A client that polls its user's own channel.

    Attributes:
        poll: the name by which it goes on; empty at first.
        since: where it stands; likewise.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.poll = self.since = ""

    async def answer(self, wait: float, *, since: str | None = None, **headers: str) -> Answer:
        """Ask once; ``since``: another position than where it stands."""
        query: Query = [
            *named(self._stage.own),
            ("wait", f"{wait:g}"),
            ("poll", self.poll),
            ("since", self.since if since is None else since),
        ]
        given = self._stage.shown() | headers
        seconds = wait + _SPARE_SECONDS
        return await self._stage.http.ask("GET", _POLL, query=query, headers=given, seconds=seconds)

    async def ask(self, wait: float, *, since: str | None = None) -> Messages:
        """Ask once, and go on from where the answer ends; returns its messages, without the ``heartbeat``."""
        answer = await self.answer(wait, since=since)
        expect(
            answer.status == 200,
            f"GET /poll is answered with {answer.told()}: does a proxy pass on this path?",
        )
        messages = read(answer)
        for message in messages:
            if message["type"] == "connected":
                self.poll = str(message.get("poll", ""))
        if not messages:
            return []
        end = messages.pop()
        expect(
            end["type"] == "heartbeat" and isinstance(end.get("since"), str),
            f"an answer ends with {end}, not with a heartbeat that has since",
        )
        self.since = end["since"]
        return messages

    async def data(self, *ids: int) -> None:
        """Ask until these messages have come."""
        came: list[int] = []
        end = time.monotonic() + self._stage.deployment.patience
        while came != list(ids) and time.monotonic() < end:
            messages = await self.ask(_SHORT_SECONDS)
            came += [each["id"] for each in messages if "data" in each]
        expect(came == list(ids), f"{came} came, and not {list(ids)}")


def read(answer: Answer) -> Messages:
    """The messages of an answer."""
    try:
        messages = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        messages = None
    if not isinstance(messages, list) or not all(
        isinstance(each, dict) and isinstance(each.get("type"), str) for each in messages
    ):
        raise Failed("the answer to a poll is no array of messages: does a proxy change it?")
    return messages


def _data(messages: Messages) -> list[Any]:
    return [each["data"] for each in messages if "data" in each]


@check("S-931", "the first poll is answered with connected, subscribed, what was missed, and since")
async def first(stage: Stage) -> None:
    """At once."""
    id_ = await stage.publish("missed")
    client = Polling(stage)
    answer = await client.answer(25)
    is_not_kept(answer.fields)
    messages = read(answer)
    types = [each["type"] for each in messages]
    expect(
        types == ["connected", "subscribed", "notifications", "heartbeat"],
        f"the first answer has {types}",
    )
    expect(bool(messages[0].get("poll")), "connected names no poll")
    expect(messages[2].get("id") == id_, f"message {messages[2].get('id')} came, not {id_}")
    expect(messages[3].get("since") == str(id_), f"since is {messages[3].get('since')}")


@check("S-932", "a poll is answered as soon as there is a message, and after wait without one")
async def waits(stage: Stage) -> None:
    """Two seconds without, then with one."""
    client = Polling(stage)
    await client.ask(0)
    began = time.monotonic()
    expect(await client.ask(_SHORT_SECONDS) == [], "an answer has messages, where nothing was due")
    after = time.monotonic() - began
    expect(
        after > _SHORT_SECONDS * 0.9,
        f"a poll that waits {_SHORT_SECONDS:g} s is answered after {after:.1f} s",
    )
    asking = asyncio.create_task(client.ask(_LONG_SECONDS))
    try:
        await asyncio.sleep(0)
        await stage.publish("now")
        messages = await asyncio.wait_for(asyncio.shield(asking), stage.deployment.patience)
    except TimeoutError:
        raise Failed("a poll that waits is not answered when a message comes") from None
    finally:
        asking.cancel()
    expect(_data(messages) == ["now"], f"it is answered with {messages}")


@check(
    "S-933",
    "a poll with since confirms the answer before; with the since before it comes again, with another one nothing is confirmed",
)
async def proof(stage: Stage) -> None:
    """An answer that is lost, and then arrives; and a request that comes late."""
    client = Polling(stage)
    await client.ask(0)
    before = client.since
    id_ = await stage.publish("once")
    await client.data(id_)
    again = await client.ask(_SHORT_SECONDS, since=before)
    expect(_data(again) == ["once"], f"with the since before, {again} came again")
    arrived, name = client.since, client.poll
    late = await stage.publish("late")
    await client.data(late)
    after = client.since
    anew = await client.ask(_SHORT_SECONDS, since=before)
    expect(
        [each["type"] for each in anew[:1]] == ["connected"],
        f"with a since of long ago, it is answered with {anew}",
    )
    client.poll = name
    again = await client.ask(_SHORT_SECONDS, since=arrived)
    expect(_data(again) == ["late"], f"behind a request that came late, {again} came again")
    expect(client.since == after, f"since is {client.since} behind an answer that comes again")
    await client.ask(0)
    await awaits_confirmation(stage, late)


@check("S-934", "a poll that is not known begins anew, behind since")
async def unknown(stage: Stage) -> None:
    """Another name than any that was given."""
    ids = [await stage.publish(number) for number in range(2)]
    client = Polling(stage)
    client.poll, client.since = "0" * 40, str(ids[0])
    messages = await client.ask(_SHORT_SECONDS)
    expect(
        [each["type"] for each in messages] == ["connected", "subscribed", "notifications"],
        f"it is answered with {messages}",
    )
    expect(messages[1].get("recovered") is True, f"it is answered with {messages[1]}")
    expect(messages[2].get("id") == ids[1], f"message {messages[2].get('id')} came, not {ids[1]}")


@check("S-935", "a wait that is none, or over 60 s, is refused with 400")
async def bad_wait(stage: Stage) -> None:
    """At both ends."""
    for wait in ("-1", "61", "soon"):
        answer = await stage.http.ask("GET", _POLL, query=[("wait", wait)], headers=stage.shown())
        is_refusal(answer, 400, "bad_request")


@check("S-936", "of two polls at a time the older is answered at once with 409 poll_replaced")
async def two(stage: Stage) -> None:
    """The newer gets what comes."""
    client = Polling(stage)
    await client.ask(0)
    older = asyncio.create_task(client.answer(_LONG_SECONDS))
    newer: asyncio.Task[Answer] | None = None
    try:
        await asyncio.sleep(0.3)  # which of them is the older only the server could tell
        newer = asyncio.create_task(client.answer(_LONG_SECONDS))
        answer = await asyncio.wait_for(asyncio.shield(older), stage.deployment.patience)
        is_refusal(answer, 409, "poll_replaced")
        await stage.publish("for the newer")
        answer = await asyncio.wait_for(asyncio.shield(newer), stage.deployment.patience)
        expect(_data(read(answer)) == ["for the newer"], "the newer has not got what came")
    except TimeoutError:
        raise Failed("of two polls at a time both wait") from None
    finally:
        older.cancel()
        if newer is not None:
            newer.cancel()


@check("S-937", "an answer to a poll is compressed only for who accepts it")
async def compression(stage: Stage) -> None:
    """A proxy may ask for it by itself."""
    await stage.publish({"text": "compress me " * 2_000})
    answer = await Polling(stage).answer(0, **{"Accept-Encoding": "identity"})
    encoding = answer.fields.get("content-encoding", "identity")
    expect(encoding == "identity", f"an answer is compressed with {encoding}, unasked")
    read(answer)


@check("S-938", "what is sent to a poll by POST is answered with 202, and in the next answer")
async def posts(stage: Stage) -> None:
    """A subscription to another channel."""
    client = Polling(stage)
    await client.ask(0)
    await stage.grant(stage.granted)
    body = {"type": "subscribe", "channel": stage.granted}
    answer = await said(stage, f"{_POLL}/{client.poll}", body)
    expect(answer.status == 202, f"a POST is answered with {answer.told()}")
    messages = await client.ask(_SHORT_SECONDS)
    expect(
        ("subscribed", stage.granted) in [(each["type"], each.get("channel")) for each in messages],
        f"the next answer has {messages}",
    )


@check("S-939", "the place of a client that polls is kept for 30 s between two requests", slow=True)
async def held(stage: Stage) -> None:
    """It comes back after 20 s, and goes on."""
    client = Polling(stage)
    await client.ask(0)
    await stage.publish("meanwhile")
    await asyncio.sleep(_HELD_SECONDS)  # it is the time itself that is looked at
    messages = await client.ask(_SHORT_SECONDS)
    expect(
        [each["type"] for each in messages] == ["notifications"],
        f"after {_HELD_SECONDS:g} s it is answered with {messages}: it has lost its place",
    )


@check("S-940", "a poll may wait for 55 s", slow=True)
async def long_wait(stage: Stage) -> None:
    """Nothing comes for so long."""
    client = Polling(stage)
    await client.ask(0)
    try:
        messages = await client.ask(_LONG_SECONDS)
    except Failed as failure:
        raise Failed(
            f"a poll that waits {_LONG_SECONDS:g} s: {failure}. Let answers wait for 90 s (proxy_read_timeout in nginx), "
            "or let clients ask with a shorter wait"
        ) from None
    expect(messages == [], f"it is answered with {messages}")
