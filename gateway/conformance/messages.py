"""Checks of the sections "Messages", "What a client may cost" and "Closing"."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson

from gateway.conformance.line import BINARY, CONTINUATION, PING, TEXT, End, Line
from gateway.conformance.receiving import Receiving
from gateway.conformance.stage import Stage, check
from gateway.conformance.verdicts import Failed, Skipped, expect

_AT_ONCE_SECONDS: Final = 2.0
"""A message that takes longer was held back, on any line that people use."""
_SMALL_ONES: Final = 5

_RESTART_SECONDS: Final = 150.0

_CLOSES: Final = {
    1000: {""},
    1001: {"draining"},
    1002: None,
    1007: None,
    1008: {
        "token_missing",
        "token_invalid",
        "token_expired",
        "token_not_yet_valid",
        "token_key_unknown",
        "token_revoked",
        "disconnected",
        "connection_limit",
        "replaced",
        "flood",
    },
    1009: None,
    1011: {"internal_error"},
    1013: {"slow_consumer"},
    3008: {"pong_timeout"},
}
"""The table of the protocol's page; ``None`` where the reason is left open."""


@check("S-301", "each message is a JSON object in a text frame; arrays come only with batch=true")
async def shape(stage: Stage) -> None:
    """Twenty messages, with and without."""
    for query in ("", "batch=true"):
        line = await stage.listen(query=query)
        ids = await asyncio.gather(*(stage.publish(number) for number in range(20)))
        for id_ in sorted(ids):
            await stage.data(line, id_)
        expect(not line.broken, "; ".join(line.broken))
        expect(query or not line.arrays, "an array came, which was not asked for")
        await line.drop()


@check("S-302", "connected is the first message and names the user")
async def connected(stage: Stage) -> None:
    """The seed's shape."""
    line = await stage.open()
    message = await line.receive()
    expected = {
        "type": "connected",
        "message": "WebSocket connection established",
        "userId": stage.user,
    }
    expect(expected.items() <= message.items(), f"the first message is {message}")


@check("S-303", "a message is served in fragments too, and with further keys")
async def fragments(stage: Stage) -> None:
    """With a ping between."""
    line = await stage.connect()
    text = orjson.dumps({"type": "heartbeat", "conformance": [1, {"a": None}]})
    line.send_frame(TEXT, text[:5], last=False)
    line.send_frame(PING, b"between")
    line.send_frame(CONTINUATION, text[5:9], last=False)
    line.send_frame(CONTINUATION, text[9:])
    expect(await line.pong() == b"between", "the pong is not that of the ping")
    await line.next("heartbeat")


async def _mistake(line: Line, opcode: int, payload: bytes, code: str) -> dict[str, Any]:
    line.send_frame(opcode, payload)
    error = await line.next("error")
    expect(error.get("code") == code, f"{payload[:40]!r} is answered with {error.get('code')}")
    return error


_MISTAKES: Final = (
    (b"not json", "invalid_message"),
    (b"[]", "invalid_message"),
    (b'{"type":1}', "invalid_message"),
    (b'{"type":"subscribe","channel":7}', "invalid_message"),
    (b'{"type":"conformance"}', "unknown_type"),
    (b'{"type":"subscribe","channel":"none"}', "invalid_channel"),
)


@check("S-304", "a mistake is answered with its code, and the connection stays")
async def mistakes(stage: Stage) -> None:
    """Each kind once."""
    line = await stage.connect()
    for text, code in _MISTAKES:
        error = await _mistake(line, TEXT, text, code)
        expect(
            code != "invalid_message" or error["message"] == "Invalid message format",
            f"the message is {error['message']!r}",
        )
    await _mistake(line, BINARY, b"\0\1", "binary_unsupported")
    line.send({"type": "heartbeat", "padding": "x" * 20_000})
    told = await line.next("error", "heartbeat")
    expect(
        told["type"] == "heartbeat" or told.get("code") == "message_too_large",
        f"a message of 20 KB is answered with {told.get('code')}",
    )
    line.send({"type": "heartbeat"})
    await line.next("heartbeat")


@check("S-305", "an error has message, code, help, and the channel that the request named")
async def error_shape(stage: Stage) -> None:
    """A channel of somebody else."""
    line = await stage.connect()
    channel = f"notifications/{stage.user}-other"
    line.send({"type": "subscribe", "channel": channel})
    error = await line.next("error")
    expect(isinstance(error.get("message"), str), "it has no message")
    expect(error.get("channel") == channel, f"its channel is {error.get('channel')!r}")
    code = error.get("code")
    expect(error.get("help") == f"docs/errors.md#{code}", f"its help is {error.get('help')!r}")


@check("S-306", "each request is answered")
async def all_answered(stage: Stage) -> None:
    """All that have an answer, at once."""
    line = await stage.connect()
    for kind, answers in (
        ("subscribe", {"subscribed"}),
        ("presence", {"presence", "error"}),
        ("unsubscribe", {"unsubscribed"}),
        ("heartbeat", {"heartbeat"}),
    ):
        line.send({"type": kind, "channel": stage.own})
        told = (await line.receive())["type"]
        expect(told in answers, f"{kind} is answered with {told}")


async def small_ones(stage: Stage, client: Receiving[Any], why: str) -> AsyncIterator[float]:
    """Publish five, each when the one before has come; gives the seconds that each has taken.

    Raises:
        Failed: one does not come at once; ``why`` that may be.
    """
    for number in range(1, _SMALL_ONES + 1):
        began = time.monotonic()
        id_ = await stage.publish({"number": number})
        try:
            message = await client.next("notifications", seconds=_AT_ONCE_SECONDS)
        except Failed:
            raise Failed(
                f"message {number} of {_SMALL_ONES} is not there after {_AT_ONCE_SECONDS:g} s: {why}"
            ) from None
        expect(message.get("id") == id_, "another message came")
        yield time.monotonic() - began


@check("S-307", "a message is passed on as soon as it is due")
async def not_held_back(stage: Stage) -> None:
    """Five small ones, and the answer to a heartbeat behind each."""
    line = await stage.listen()
    async for seconds in small_ones(stage, line, "does a proxy buffer what the gateway sends?"):
        line.send({"type": "heartbeat"})
        await line.next("heartbeat", seconds=_AT_ONCE_SECONDS + seconds)


@check("S-604", "a ping is answered with a pong of the same payload")
async def pong(stage: Stage) -> None:
    """A proxy that swallows pings, or answers them with nothing in them, is found."""
    line = await stage.connect()
    for payload in (b"", b"conformance", b"x" * 125):
        line.send_frame(PING, payload)
        expect(await line.pong() == payload, "the pong has another payload")


@check("S-605", "heartbeat is answered with the server's time")
async def heartbeat(stage: Stage) -> None:
    """In milliseconds, roughly this machine's."""
    line = await stage.connect()
    line.send({"type": "heartbeat"})
    told = (await line.next("heartbeat")).get("timestamp")
    expect(isinstance(told, int), f"the timestamp is {told!r}")
    apart = abs(int(str(told)) / 1000 - time.time())
    expect(apart < 300, f"the server's clock and this machine's are {apart:.0f} s apart")


@check("S-701", "300 messages at once do not end a connection")
async def burst(stage: Stage) -> None:
    """Less than a third of the budget."""
    line = await stage.connect()
    for _ in range(300):
        line.send({"type": "heartbeat"})
    for _ in range(300):
        await line.next("heartbeat")


@check("S-702", "mistake after mistake ends a connection with flood")
async def flood(stage: Stage) -> None:
    """At most 500 of them, after which the budget is a larger one than the default's.

    Each write is answered before the next: a proxy that passes on the end of a connection may reset it
    where its client still sends, and the client hears no code then.
    """
    line = await stage.connect()
    try:
        for _ in range(20):
            line.send_together([b"{}"] * 25)
            for _ in range(25):
                await line.next("error")
    except Failed:
        end = await line.end()
    else:
        raise Skipped("500 mistakes are borne: the budget is larger here")
    expect((end.code, end.reason) == (1008, "flood"), f"it ends with {end}")


@check("S-801", "an error with the reason as its code precedes a close with 1008")
async def error_before_close(stage: Stage) -> None:
    """A token that is none."""
    line = await stage.open("not-a-token")
    end = await line.end()
    expect(end.code == 1008, f"it ends with {end}: a proxy has swallowed the close frame")
    expect(line.before_end.get("code") == end.reason, f"before {end} came {line.before_end}")


@check("S-802", "a close frame is answered, and the TCP connection ends")
async def close(stage: Stage) -> None:
    """As a browser closes."""
    line = await stage.connect()
    await line.close()
    end = await line.end()
    expect(end.code == 1000, f"it is answered with {end}")
    expect(await line.at_end_of_stream(), "the TCP connection is still open after 10 s")


@check(
    "S-803",
    "a broken frame is closed with 1002, text that is not UTF-8 with 1007, a message over 256 KiB with 1009",
)
async def broken_frames(stage: Stage) -> None:
    """One connection each."""
    for code, payload, masked in (
        (1002, b'{"type":"heartbeat"}', False),
        (1007, b'{"type":"\xff\xfe"}', True),
        (1009, b'{"type":"' + b"x" * 270_000, True),
    ):
        line = await stage.connect()
        line.send_frame(TEXT, payload, masked=masked)
        if code == 1009:
            ending = asyncio.ensure_future(line.end())
            answering = asyncio.ensure_future(line.next("error"))
            await asyncio.wait([ending, answering], return_when=asyncio.FIRST_COMPLETED)
            if not line.ended.done() and answering.done() and not answering.exception():
                ending.cancel()
                raise Skipped("a message of 270 KB is borne: the limit is higher here")
            answering.cancel()
        end = await line.end()
        expect(end.code == code, f"{code} is due, and it ends with {end}")


@check(
    "S-804", "the connections of a user whom the backend disconnects are closed with disconnected"
)
async def disconnected(stage: Stage) -> None:
    """By the backend."""
    line = await stage.connect()
    await stage.deployment.backend.disconnect(stage.user)
    end = await line.end()
    expect((end.code, end.reason) == (1008, "disconnected"), f"it ends with {end}")


@check("S-805", "a node that shuts down closes with 1001 draining", slow=True)
async def draining(stage: Stage) -> None:
    """Whoever runs the deployment restarts a node meanwhile. How the closes are spread only its clients together could tell."""
    lines = [await stage.connect() for _ in range(4)]
    await asyncio.wait(
        [each.ended for each in lines],
        timeout=_RESTART_SECONDS,
        return_when=asyncio.FIRST_COMPLETED,
    )
    ends = {str(each.ended.result()) for each in lines if each.ended.done()}
    if not ends:
        raise Skipped(f"no node was shut down within {_RESTART_SECONDS:g} s: restart one meanwhile")
    expect(ends == {"1001 draining"}, f"connections have ended with {', '.join(sorted(ends))}")


@check("S-806", "connections end with the codes and reasons of the table")
async def closes(stage: Stage) -> None:
    """All ends of this run, besides those of clients that let go. It comes last."""
    ended = [each for each in stage.deployment.visitors.lines if each.ended.done()]
    told = [(each.has_stopped, each.ended.result()) for each in ended]
    ends = {end for has_stopped, end in told if not (has_stopped and end.code == 1006)}
    if not ends:
        raise Skipped("no connection was ended in this run")
    wrong = {str(end) for end in ends if not _is_documented(end)}
    expect(not wrong, f"connections have ended with {', '.join(sorted(wrong))}")


def _is_documented(end: End) -> bool:
    reasons = _CLOSES.get(end.code, set())
    return reasons is None or end.reason in reasons
