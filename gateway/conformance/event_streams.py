"""Checks of the section "Without a WebSocket": what event streams and polls have in common, and event streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.conformance.confirmed import awaits_confirmation
from gateway.conformance.delivery import IDLE_SECONDS, TRICKY
from gateway.conformance.messages import small_ones
from gateway.conformance.opening import Answer
from gateway.conformance.over_http import GATHERED, EventStream, Query, whole
from gateway.conformance.stage import Stage, check
from gateway.conformance.verdicts import Failed, Skipped, expect

_SSE: Final = "/sse"
_KIND: Final = "text/event-stream"
_LONGEST_POSITION: Final = 1_024
_LONGEST_COMMENT_SECONDS: Final = 25.0
_PROOF_SECONDS: Final = 85.0
"""A stream with unproven messages ends after 75 s at most."""
_RESUME_MILLISECONDS: Final = 100


def named(*channels: str) -> Query:
    """The parameters that name channels."""
    return [("channel", each) for each in channels]


async def _asked(stage: Stage, query: Query = (), last_id: str = "") -> EventStream | Answer:
    """Ask for a stream; the whole answer where it is none."""
    given = stage.shown() | ({"Last-Event-ID": last_id} if last_id else {})
    answer = await stage.http.begin("GET", _SSE, query=query, headers=given)
    if answer.status != 200:
        return await whole(answer)
    stream = EventStream(answer, stage.deployment.patience)
    stage.keep(stream)
    return stream


async def begin(stage: Stage, query: Query, last_id: str = "") -> EventStream:
    """Ask for a stream, which must be one."""
    stream = await _asked(stage, query, last_id)
    if isinstance(stream, Answer):
        raise Failed(f"GET /sse is answered with {stream.told()}: does a proxy pass on this path?")
    kind = stream.fields.get("content-type", "")
    expect(
        kind.startswith(_KIND),
        f"GET /sse is answered with the type {kind!r}: does a proxy pass on this path?",
    )
    coding = stream.fields.get("content-encoding", "identity")
    expect(coding == "identity", f"a stream is compressed with {coding}, unasked: by a proxy")
    return stream


async def opened(stage: Stage, *channels: str, query: Query = (), last_id: str = "") -> EventStream:
    """A stream of these channels behind ``connected``; without any, of the user's own."""
    stream = await begin(stage, [*named(*(channels or (stage.own,))), *query], last_id)
    try:
        await stream.next("connected")
    except Failed:
        raise Failed(f"nothing came of a stream for {stream.patience:g} s: {GATHERED}") from None
    return stream


async def listening(stage: Stage, *channels: str, **asked: Any) -> EventStream:
    """The same behind the first ``subscribed``."""
    stream = await opened(stage, *channels, **asked)
    await stream.next("subscribed")
    return stream


async def said(
    stage: Stage, path: str, body: Any, token: str | None = None, kind: str = "application/json"
) -> Answer:
    """Send a message, or several, to a stream or a poll."""
    given = stage.shown(token) | {"Content-Type": kind}
    return await stage.http.ask("POST", path, headers=given, body=orjson.dumps(body))


def is_refusal(answer: Answer, status: int, code: str) -> None:
    """See that it is this one, with the gateway's body."""
    expect(
        answer.status == status and answer.error.get("code") == code,
        f"the answer is {answer.told()}, not HTTP {status} {code}",
    )
    expect(
        answer.error.get("help") == f"docs/errors.md#{code}",
        "the body of the refusal is not the gateway's: a proxy has replaced it",
    )


def is_not_kept(fields: Mapping[str, str]) -> None:
    """See that whoever is between is told to keep nothing of an answer."""
    kept = fields.get("cache-control", "")
    expect("no-store" in kept, f"Cache-Control is {kept!r}: a proxy has removed no-store")


@check("S-901", "a bad token is refused with 401 and its code, a name that is no channel with 400")
async def refused(stage: Stage) -> None:
    """At both paths."""
    signer = stage.signer
    expired = signer.token(stage.user, exp=int(time.time()) - 3_600)
    for path in (_SSE, "/poll"):
        for token, code in (
            ("", "token_missing"),
            ("no.jwt.at-all", "token_invalid"),
            (expired, "token_expired"),
        ):
            answer = await stage.http.ask("GET", path, headers=stage.shown(token))
            if answer.error.get("code") == "too_many_failures":
                raise Skipped("too many bad tokens came from this address: try again in a minute")
            is_refusal(answer, 401, code)
        query = named("none")
        answer = await stage.http.ask("GET", path, query=query, headers=stage.shown())
        is_refusal(answer, 400, "invalid_channel")


@check("S-902", "streams and polls count as connections of their user; above the limit is 429")
async def places(stage: Stage) -> None:
    """A WebSocket, and up to ten streams."""
    line = await stage.connect()
    for _ in range(10):
        stream = await _asked(stage)
        if isinstance(stream, Answer):
            is_refusal(stream, 429, "connection_limit")
            expect("retry-after" in stream.fields, "the answer has no Retry-After")
            return
        await stream.next("connected")
        if line.ended.done():
            end = await line.end()
            expect(end.reason == "replaced", f"a connection has ended with {end}")
            return
    raise Skipped("eleven connections of a user are open: the limit is higher here")


@check("S-903", "a page whose origin may connect can read the answers")
async def pages(stage: Stage) -> None:
    """The preflight of a POST, an answer and a refusal."""
    listed = [each for each in stage.deployment.origins if "*" not in each]
    if stage.deployment.origins and not listed:
        raise Skipped("only patterns of origins are listed")
    origin = {"Origin": listed[0] if listed else "https://conformance.invalid"}
    wanted = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    before = await stage.http.ask("OPTIONS", f"{_SSE}/{'0' * 40}", headers=origin | wanted)
    expect(before.status in {200, 204}, f"a preflight is answered with {before.told()}")
    methods = before.fields.get("access-control-allow-methods", "")
    expect("POST" in methods, f"a preflight allows the methods {methods!r}")
    allowed = before.fields.get("access-control-allow-headers", "").lower()
    expect("authorization" in allowed, f"a preflight allows the headers {allowed!r}")
    refusal = await stage.http.ask("GET", _SSE, headers=origin | stage.shown(""))
    poll = await stage.http.ask(
        "GET", "/poll", query=[("wait", "0")], headers=origin | stage.shown()
    )
    for answer in (before, refusal, poll):
        told = answer.fields.get("access-control-allow-origin")
        expect(
            told in {origin["Origin"], "*"},
            f"an answer ({answer.told()}) allows the origin {told}: does a proxy remove or replace it?",
        )


@check("S-911", "GET /sse is answered with an event stream that nobody keeps, connected first")
async def beginning(stage: Stage) -> None:
    """With the name of the stream."""
    stream = await begin(stage, named(stage.own))
    is_not_kept(stream.fields)
    message = await stream.receive()
    expect(message["type"] == "connected", f"the first message is {message}")
    expect(message.get("userId") == stage.user, f"connected names {message.get('userId')}")
    expect(bool(stream.name), "connected names no stream")


@check("S-912", "each event is one message in data, without a field event")
async def events(stage: Stage) -> None:
    """A tricky one, one of 200 KB, and a refusal."""
    stream = await opened(stage, stage.own, f"notifications/{stage.user}-other")
    told = [await stream.next("subscribed", "error") for _ in range(2)]
    refusal = next((each for each in told if each["type"] == "error"), {})
    expect(refusal.get("code") == "forbidden", f"somebody else's channel is answered with {told}")
    for data in (TRICKY, {"large": "x" * 200_000}):
        id_ = await stage.publish(data)
        message = await stream.next("notifications")
        expect(
            (message.get("id"), message.get("data")) == (id_, data),
            "the data are not what was published",
        )
    expect(not stream.broken, "; ".join(stream.broken))


@check("S-913", "an event is passed on as soon as it is due")
async def at_once(stage: Stage) -> None:
    """Five small ones."""
    stream = await listening(stage)
    async for _ in small_ones(stage, stream, GATHERED):
        pass


@check("S-914", "the id of an event is where its client stands")
async def ids(stage: Stage) -> None:
    """The message's with one channel; with two a text, in a block of its own."""
    stream = await listening(stage)
    id_ = await stage.publish("one")
    await stream.next("notifications")
    expect(
        [(each, message.get("id")) for each, message in stream.named] == [(str(id_), id_)],
        f"the event of message {id_} has the id {stream.last_id!r}",
    )
    await stage.grant(stage.granted)
    stream = await opened(stage, stage.own, stage.granted)
    for _ in range(2):
        await stream.next("subscribed")
    for channel in (stage.own, stage.granted):
        await stage.publish("of two", channel)
        await stream.next("notifications", "run-results")
    await _position(stream)
    expect(not stream.named, "an event of a stream with two channels has an id")
    expect(
        len(stream.last_id) <= _LONGEST_POSITION, f"a position has {len(stream.last_id)} characters"
    )


async def _position(stream: EventStream) -> str:
    """Where a stream of several channels stands: told behind what has come."""
    end = time.monotonic() + stream.patience
    while not stream.last_id:
        expect(time.monotonic() < end, "a stream with two channels tells no position")
        await asyncio.sleep(0.02)
    return stream.last_id


@check("S-915", "a stream that comes back with its position goes on behind it")
async def comes_back(stage: Stage) -> None:
    """By the header and by the query, with one channel and with two."""
    published = [await stage.publish(number) for number in range(3)]
    await stage.grant(stage.granted)
    first, last = str(published[0]), str(published[-1])
    for query, last_id in (([], first), ([("lastEventId", first)], "")):
        stream = await opened(stage, query=query, last_id=last_id)
        answer = await stream.next("subscribed")
        expect(answer.get("recovered") is True, f"it is answered with {answer}")
        came = [(await stream.next("notifications")).get("id") for _ in range(2)]
        expect(
            came == published[1:],
            f"behind {published[0]} came {came}: does a proxy remove Last-Event-ID, or the query?",
        )
        await stream.drop()
    stream = await opened(stage, last_id=last)
    await stream.next("subscribed")
    await stream.drop()
    stream = await opened(stage, stage.own, stage.granted)
    before = {await stage.publish("before", each) for each in (stage.own, stage.granted)}
    await _all_of(stream, before)
    fence = await stage.publish("its position is told behind the message before it")
    await stream.next("notifications")
    position = await _position(stream)
    await stream.drop()
    later = {await stage.publish("after", each) for each in (stage.own, stage.granted)}
    stream = await opened(stage, stage.own, stage.granted, last_id=position)
    seen = await _all_of(stream, later)
    expect(seen <= later | {fence}, f"{seen} came behind its position, and not {later}")


async def _all_of(stream: EventStream, ids: set[int]) -> set[int]:
    """The ids of what comes until all of these have."""
    seen: set[int] = set()
    while not seen >= ids:
        seen.add((await stream.next("notifications", "run-results"))["id"])
    return seen


@check("S-916", "a stream says when to come back: at its beginning, and before it is ended")
async def retries(stage: Stage) -> None:
    """A user whom the backend disconnects; the error comes before."""
    stream = await listening(stage)
    expect(bool(stream.retries), "there is no retry at the beginning")
    await stage.deployment.backend.disconnect(stage.user)
    error = await stream.next("error")
    expect(error.get("code") == "disconnected", f"the error says {error.get('code')}")
    await stream.end()
    expect(len(stream.retries) > 1, "there is no retry at the end")


@check("S-917", "a stream on which nothing is due stays, with a comment every 15 s", slow=True)
async def silence(stage: Stage) -> None:
    """Silent for two minutes and a half, and then a message comes."""
    stream = await listening(stage)
    began = last = time.monotonic()
    while (left := began + IDLE_SECONDS - time.monotonic()) > 0:
        done, _ = await asyncio.wait([stream.ended], timeout=min(left, 1.0))
        if done:
            after = time.monotonic() - began
            raise Failed(f"it has ended after {after:.0f} s: the idle timeout of a proxy?")
        last = max([last, *stream.comments[-1:]])
        expect(
            time.monotonic() - last < _LONGEST_COMMENT_SECONDS,
            f"nothing has come for {_LONGEST_COMMENT_SECONDS:g} s: {GATHERED}",
        )
    await stage.publish("still here")
    await stream.next("notifications")


@check(
    "S-918", "a stream ends, to come back at once, where it is not known what has come", slow=True
)
async def proof(stage: Stage) -> None:
    """Within 75 s; coming back with the position confirms."""
    stream = await listening(stage)
    id_ = await stage.publish("once")
    await stream.next("notifications")
    await stream.end(_PROOF_SECONDS)
    expect(
        stream.retries[-1] <= _RESUME_MILLISECONDS,
        f"its client is to come back after {stream.retries[-1]} ms: nothing says that it has ended for this",
    )
    stream = await opened(stage, last_id=stream.last_id)
    await stream.next("subscribed")
    await awaits_confirmation(stage, id_)


@check("S-921", "what is sent to a stream by POST is answered with 202, and on the stream")
async def posts(stage: Stage) -> None:
    """One message, and two in an array."""
    stream = await listening(stage)
    await stage.grant(stage.granted)
    asked: tuple[tuple[Any, str], ...] = (
        ({"type": "subscribe", "channel": stage.granted}, "subscribed"),
        ([{"type": "unsubscribe", "channel": stage.granted}, {"type": "x"}], "unsubscribed"),
    )
    for body, expected in asked:
        answer = await said(stage, f"{_SSE}/{stream.name}", body)
        expect(
            answer.status == 202,
            f"a POST is answered with {answer.told()}: does a proxy pass on POST and its body?",
        )
        told = await stream.next("subscribed", "unsubscribed", "error")
        expect(told["type"] == expected, f"{body} is answered with {told}")
    told = await stream.next("error")
    expect(told.get("code") == "unknown_type", f"a mistake is answered with {told}")


@check("S-922", "what cannot be taken by POST is refused with 404, 413 or 415")
async def refused_posts(stage: Stage) -> None:
    """A stream that is not there, somebody else's, another type, too long."""
    stream = await opened(stage)
    path = f"{_SSE}/{stream.name}"
    heartbeat = {"type": "heartbeat"}
    other = stage.signer.token(f"{stage.user}-other")
    is_refusal(await said(stage, f"{_SSE}/{'0' * len(stream.name)}", heartbeat), 404, "not_found")
    is_refusal(await said(stage, path, heartbeat, other), 404, "not_found")
    is_refusal(await said(stage, path, heartbeat, kind="text/plain"), 415, "unsupported_media_type")
    is_refusal(await said(stage, path, [heartbeat] * 257), 413, "too_many_messages")
    long = await said(stage, path, heartbeat | {"padding": "x" * 20_000})
    if long.status != 202:  # the limit may be higher here
        is_refusal(long, 413, "message_too_large")


@check("S-923", "an ack by POST confirms")
async def acknowledged(stage: Stage) -> None:
    """It is not sent again."""
    stream = await listening(stage)
    id_ = await stage.publish("once")
    await stream.next("notifications")
    body = {"type": "ack", "channel": stage.own, "id": id_}
    answer = await said(stage, f"{_SSE}/{stream.name}", body)
    expect(answer.status == 202, f"a POST is answered with {answer.told()}")
    await awaits_confirmation(stage, id_)


@check("S-924", "a DELETE ends a stream")
async def ended(stage: Stage) -> None:
    """As a page does that is left."""
    stream = await opened(stage)
    path = f"{_SSE}/{stream.name}"
    answer = await stage.http.ask("DELETE", path, headers=stage.shown())
    expect(
        answer.status == 202,
        f"a DELETE is answered with {answer.told()}: does a proxy pass on this method?",
    )
    await stream.end()
    is_refusal(await said(stage, path, {"type": "heartbeat"}), 404, "not_found")
