"""Checks of the sections "Order, replay and repeats" and "Liveness"."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from gateway.conformance.confirmed import awaits_confirmation
from gateway.conformance.line import Line
from gateway.conformance.stage import Stage, check
from gateway.conformance.verdicts import Failed, Skipped, expect

TRICKY: Final = {
    "text": '张三 \u2028 \U0001f600 \\ " </script>',
    "numbers": [0, -1, 0.1, 2**53 - 1, 1e-7],
    "nothing": None,
    "nested": {"a": [[], {}, [True, False]]},
}
_LONGEST_PING_SECONDS: Final = 75.0
IDLE_SECONDS: Final = 150.0
"""Longer than the timeouts that proxies have by default: 60 s, and at some 100 or 120."""


@check("S-501", "a data message has the shape of the page, and the data that was published")
async def shape(stage: Stage) -> None:
    """A tricky one, and one of 200 KB."""
    line = await stage.listen()
    for data in (TRICKY, {"large": "x" * 200_000}):
        id_ = await stage.publish(data)
        message = await stage.data(line, id_)
        expect(message["data"] == data, "the data are not what was published")
        head = {key: value for key, value in message.items() if key != "data"}
        expected = {
            "type": "notifications",
            "channel": stage.own,
            "timestamp": id_ // 1000,
            "id": id_,
        }
        expect(expected.items() <= head.items(), f"it came as {head}")


@check("S-502", "messages come in the order of their ids, without a gap")
async def order(stage: Stage) -> None:
    """Fifty, published by ten at a time."""
    line = await stage.listen()
    ids: list[int] = []
    for _ in range(5):
        ids += await asyncio.gather(*(stage.publish("x" * 500) for _ in range(10)))
    for id_ in sorted(ids):
        await stage.data(line, id_)


@check("S-503", "a subscribe replays what was missed, then goes on live")
async def replay(stage: Stage) -> None:
    """Three while away, one afterwards."""
    line = await stage.listen()
    await line.close()
    missed = [await stage.publish(number) for number in range(3)]
    line = await stage.listen()
    for id_ in missed:
        await stage.data(line, id_)
    await stage.data(line, await stage.publish("live"))


async def _pinged(line: Line, began: float) -> None:
    """Wait for a ping that was sent behind what came."""
    while not any(at >= began for at in line.pings):
        expect(
            time.monotonic() < began + line.patience,
            f"no ping has come behind a message for {line.patience:g} s: does a proxy swallow pings, or answer them?",
        )
        await asyncio.sleep(0.05)


@check("S-504", "what is sent again has the same id and data")
async def repeat(stage: Stage) -> None:
    """A client that answers no ping, and whose line breaks."""
    await stage.grant(stage.granted)
    line = await stage.connect(deaf=True)
    for channel in (stage.own, stage.granted):
        await stage.subscribe(line, channel)
    began = time.monotonic()
    id_ = await stage.publish(TRICKY)
    first = await stage.data(line, id_)
    await _pinged(line, began)
    # Had a proxy answered that ping, this would be confirmed later than the message before it.
    later = await stage.publish("later", stage.granted)
    await stage.data(line, later)
    line.send({"type": "ack", "channel": stage.granted, "id": later})
    await awaits_confirmation(stage, later, stage.granted)
    await line.drop()
    await stage.publish("then")
    line = await stage.listen()
    second = await line.next("notifications")
    expect(
        second.get("id") == id_,
        "what was not confirmed is not sent again: does a proxy answer pings in the client's place?",
    )
    expect(second == first, f"it came as {second}, before as {first}")


@check("S-505", "what was confirmed by a pong is not sent again")
async def confirmed(stage: Stage) -> None:
    """The ping behind a message."""
    line = await stage.listen()
    began = time.monotonic()
    id_ = await stage.publish("once")
    await stage.data(line, id_)
    await _pinged(line, began)
    await line.drop()
    await awaits_confirmation(stage, id_)


@check("S-506", "what was confirmed by an ack is not sent again")
async def acknowledged(stage: Stage) -> None:
    """A client that answers no ping."""
    line = await stage.connect(deaf=True)
    await stage.subscribe(line, stage.own)
    id_ = await stage.publish("once")
    await stage.data(line, id_)
    line.send({"type": "ack", "channel": stage.own, "id": id_})
    line.send({"type": "heartbeat"})
    await line.next("heartbeat")
    await line.drop()
    await awaits_confirmation(stage, id_)


@check("S-507", "since replays what came after an id, and recovered says whether all of it")
async def since(stage: Stage) -> None:
    """Whatever is confirmed."""
    line = await stage.listen()
    ids = [await stage.publish(number) for number in range(3)]
    for id_ in ids:
        await stage.data(line, id_)
    for given, recovered, following in ((ids[0], True, ids[1:]), (ids[0] + 1, False, [])):
        line = await stage.connect()
        answer = await stage.subscribe(line, stage.own, since=given)
        expect(answer.get("recovered") is recovered, f"since {given} is answered with {answer}")
        for id_ in following:
            await stage.data(line, id_)
        await line.drop()
    line = await stage.connect()
    await stage.subscribe(line, stage.own, since=0)
    for id_ in ids:
        await stage.data(line, id_)


@check("S-508", "without since, recovered is there only where something is lost")
async def first_time(stage: Stage) -> None:
    """A user who has never been here."""
    line = await stage.connect()
    answer = await stage.subscribe(line, stage.own)
    expect("recovered" not in answer, f"the first subscribe is answered with {answer}")


@check("S-511", "subscribed names the position at which a channel that keeps messages begins")
async def begins(stage: Stage) -> None:
    """Another device has received by now what came behind it."""
    line = await stage.connect()
    position = (await stage.subscribe(line, stage.own)).get("position")
    expect(isinstance(position, int), f"the position is {position}")
    elsewhere = await stage.listen()
    id_ = await stage.publish("received elsewhere")
    await stage.data(elsewhere, id_)
    again = await stage.connect()
    answer = await stage.subscribe(again, stage.own, since=position)
    expect(answer.get("recovered") is True, f"since {position} is answered with {answer}")
    await stage.data(again, id_)


@check("S-510", "no message is lost because a connection ends")
async def outlives(stage: Stage) -> None:
    """Connections that break while messages come. That a node ends is seen where one does in this run: it cannot be made to."""
    published: list[int] = []
    seen: set[int] = set()
    for _ in range(4):
        line = await stage.listen()
        publishing = asyncio.gather(*(stage.publish(number) for number in range(8)))
        seen.add((await line.next("notifications"))["id"])
        await line.drop()
        seen |= {each["id"] for each in line.unread() if "data" in each}
        published += await publishing
    line = await stage.listen()
    published.append(await stage.publish("last"))
    while published[-1] not in seen:
        seen.add((await line.next("notifications"))["id"])
    missing = set(published) - seen
    expect(not missing, f"{len(missing)} of {len(published)} messages have not come")


async def _until(line: Line, ready: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not line.ended.done():
        if ready():
            return True
        await asyncio.sleep(0.25)
    return bool(ready())


@check("S-601", "the server pings every 30 s", slow=True)
async def pings(stage: Stage) -> None:
    """A silent line."""
    line = await stage.connect()
    came = await _until(line, lambda: line.pings, _LONGEST_PING_SECONDS)
    expect(came, f"no ping came for {_LONGEST_PING_SECONDS:g} s: does a proxy swallow pings?")


@check(
    "S-602", "a connection stays on which nothing but pings and pongs goes to and fro", slow=True
)
async def idle(stage: Stage) -> None:
    """Silent for two minutes and a half, and then a message comes."""
    line = await stage.listen()
    began = time.monotonic()
    if await _until(line, line.ended.done, IDLE_SECONDS):
        end, after = line.ended.result(), time.monotonic() - began
        raise Failed(f"it has ended after {after:.0f} s ({end}): the idle timeout of a proxy?")
    await stage.data(line, await stage.publish("still here"))


@check("S-603", "a client that answers no ping is closed with 3008", slow=True)
async def no_pong(stage: Stage) -> None:
    """It reads, and says nothing."""
    line = await stage.connect(deaf=True)
    began = time.monotonic()
    if not await _until(line, line.ended.done, IDLE_SECONDS):
        raise Failed(f"it is still open after {IDLE_SECONDS:g} s: does a proxy answer pings?")
    end = line.ended.result()
    if not line.pings:
        raise Skipped(
            f"no ping came before it ended after {time.monotonic() - began:.0f} s ({end})"
        )
    expect((end.code, end.reason) == (3008, "pong_timeout"), f"it ends with {end}")
