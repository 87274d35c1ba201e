"""``gateway conformance``: what keeps to the protocol passes, and each check fails where its behaviour is broken."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest

from gateway.conformance import delivery, event_streams, login, polls, slow_readers
from gateway.conformance import messages as messages_
from gateway.conformance.backend import ByRedis
from gateway.conformance.opening import address_of
from gateway.conformance.stage import REQUIREMENTS, Deployment
from gateway.conformance.suite import Result, run
from gateway.conformance.tokens import Signer
from gateway.node import heartbeats, streams
from publisher import AsyncPublisher
from tests.docs.test_protocol import REQUIREMENTS as WRITTEN
from tests.integration.conftest import StartNode
from tests.support.client_frames import CLOSE, CONTINUATION, PING, TEXT
from tests.support.meddling_proxy import (
    Cut,
    Frame,
    Frames,
    Meddling,
    answers_pings,
    close_of,
    cut,
    meddling_proxy,
    messages,
    no_pings,
    no_pongs,
    text,
    without,
)
from tests.support.nodes import Node
from tests.support.tokens import SECRET

SIGNER = Signer(SECRET, "HS256", "sub")


@pytest.fixture
def quick_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes minutes takes seconds."""
    monkeypatch.setattr(delivery, "_LONGEST_PING_SECONDS", 2.5)
    monkeypatch.setattr(delivery, "IDLE_SECONDS", 3.0)
    monkeypatch.setattr(event_streams, "IDLE_SECONDS", 3.0)
    monkeypatch.setattr(login, "_PAST_SECONDS", 1.0)
    monkeypatch.setattr(polls, "_SHORT_SECONDS", 1.0)
    monkeypatch.setattr(polls, "_LONG_SECONDS", 3.0)
    monkeypatch.setattr(polls, "_HELD_SECONDS", 1.0)
    monkeypatch.setattr(streams, "PROOF_SECONDS", 2.0)
    monkeypatch.setattr(messages_, "_RESTART_SECONDS", 1.0)
    monkeypatch.setattr(slow_readers, "_STALL_SECONDS", 4.5)
    monkeypatch.setattr(slow_readers, "_BATCHES", 30)
    monkeypatch.setattr(heartbeats, "_STREAM_INTERVAL", 1.0)


@pytest.fixture
async def deployed(start_node: StartNode, quick_times: None) -> Node:
    """A node with all that a check may look at, and short times."""
    own = {
        "notifications": {"owner": "user", "presence": True},
        "run-results": {"owner": "grant"},
    }
    return await start_node(
        jwt_leeway_seconds=0.0,
        ping_interval_seconds=0.8,
        pong_timeout_seconds=0.8,
        stall_seconds=2.0,
        high_water_bytes=65_536,
        allowed_origins=["https://example.com"],
        namespaces=own,
    )


@pytest.fixture
async def publisher(redis_url: str, prefix: str) -> AsyncIterator[AsyncPublisher]:
    async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
        yield publisher


def deployment(url: str, publisher: AsyncPublisher, **options: Any) -> Deployment:
    given = {"origins": ["https://example.com"], "patience": 8.0} | options
    return Deployment(address_of(url), SIGNER, ByRedis(publisher), **given)


def test_each_must_of_the_server_is_checked() -> None:
    musts = {name for name, words in WRITTEN.items() if name.startswith("S-") and "MUST" in words}
    assert musts == REQUIREMENTS.keys()
    for each in REQUIREMENTS.values():
        assert each.text[-1] != "."


async def test_a_gateway_keeps_to_all_of_it_and_nothing_is_left_behind(
    deployed: Node, publisher: AsyncPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    looked_at = deployment(deployed.url, publisher)
    results = await run(looked_at, slow=True)
    assert [each.id for each in results] == sorted(REQUIREMENTS)
    assert [each for each in results if each.result == "failed"] == []
    skipped = {each.id for each in results if each.result == "skipped"}
    assert skipped == {"S-112", "S-805"}  # nobody is sent away, and no node shut down
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []
    for id_ in ("s-501", "s-502", "s-503"):
        user = f"{looked_at.visitors.name}-{id_}"
        assert await publisher.history(f"notifications/{user}") == []
        assert await publisher.connections(user) == []


async def test_what_nothing_was_seen_of_has_not_passed(
    deployed: Node, publisher: AsyncPublisher
) -> None:
    results = await run(deployment(deployed.url, publisher), only={"S-112", "S-806"})
    assert [each.result for each in results] == ["skipped", "skipped"]


# -- what is broken for each --------------------------------------------------------------------------


def lines_without(name: str, head: bytes) -> bytes:
    return re.sub(rb"(?im)^" + name.encode() + rb":.*\r\n", b"", head)


def replaced(old: bytes, new: bytes) -> Any:
    return lambda data: re.sub(old, new, data)


def renamed(message: dict[str, Any]) -> list[Any]:
    """Another code in each error."""
    return [message | {"code": "other"}] if message["type"] == "error" else [message]


def altered(**changes: Any) -> Meddling:
    """Other values in the messages that have these keys."""
    return messages(
        lambda message: [message | {key: new for key, new in changes.items() if key in message}]
    )


def lost_now_and_then() -> Meddling:
    """Each third data message is swallowed."""
    seen = count()
    return messages(lambda message: [] if "data" in message and next(seen) % 3 == 2 else [message])


def only_first_fragments(frame: Frame) -> tuple[Frames, Frames]:
    return [] if frame.opcode == CONTINUATION else [frame], []


def swallowed(kind: str, answer: dict[str, Any] | None = None) -> Any:
    """The client's messages of a type do not reach the server; the proxy may answer them."""

    def up(frame: Frame) -> tuple[Frames, Frames]:
        if frame.opcode == TEXT and f'"type":"{kind}"'.encode() in frame.payload:
            told = json.loads(frame.payload) | (answer or {})
            return [], [text(told)] if answer else []
        return [frame], []

    return up


def at_most(frames: int) -> Any:
    """A connection ends after so many frames of the client's."""
    seen = count()

    def up(frame: Frame) -> tuple[Frames, Frames]:
        if next(seen) >= frames:
            raise Cut
        return [frame], []

    return up


def shut_out_after(connections: int) -> Meddling:
    seen = count()
    refusal = b"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n"
    return Meddling(request=lambda head: refusal if next(seen) >= connections else head)


def short_heads(head: bytes) -> bytes:
    too_large = b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n"
    return too_large if len(head) > 4_096 else head


def also_recovered(message: dict[str, Any]) -> list[Any]:
    if message["type"] != "subscribed":
        return [message]
    return [message | {"recovered": not message.get("recovered", False)}]


def let_in(message: dict[str, Any]) -> list[Any]:
    return [message | {"type": "subscribed"}] if message["type"] == "error" else [message]


def closes_for_pings(frame: Frame) -> tuple[Frames, Frames]:
    """A proxy that goes away closes as it likes."""
    return close_of(1001)(Frame(0x80 | CLOSE, b"")) if frame.opcode == PING else ([frame], [])


def swallowed_posts(head: bytes) -> bytes:
    """The proxy says that it has passed on what it has not."""
    taken = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    return taken if head.startswith(b"POST") else head


OFFER = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
PAGE = b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 6\r\n\r\n<html>"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
NOBODY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
LOST_CLOSES, RENAMED = Meddling(down=cut), messages(renamed)
BROKEN: dict[str, Meddling] = {
    "S-101": Meddling(answer=replaced(rb"^HTTP/1.1", b"HTTP/1.0")),
    "S-102": Meddling(request=replaced(rb"token=", b"t=")),
    "S-103": Meddling(request=lambda head: lines_without("Authorization", head)),
    "S-104": Meddling(answer=lambda head: lines_without("Sec-WebSocket-Protocol", head)),
    "S-105": Meddling(request=short_heads),
    "S-106": Meddling(answer=lambda _: NOBODY),
    "S-107": Meddling(answer=lambda head: lines_without("Sec-WebSocket-Version", head)),
    "S-108": Meddling(answer=lambda _: PAGE),
    "S-109": LOST_CLOSES,
    "S-110": Meddling(down=close_of(1000)),
    "S-111": Meddling(request=lambda head: lines_without("Origin", head)),
    "S-112": Meddling(request=lambda _: BUSY),
    "S-113": shut_out_after(3),
    "S-121": Meddling(request=lambda head: lines_without("Sec-WebSocket-Extensions", head)),
    "S-122": Meddling(answer=replaced(rb"; client_no_context_takeover", b"")),
    "S-123": Meddling(request=replaced(rb"\r\n\r\n$", b"\r\n" + OFFER)),
    "S-201": RENAMED,
    "S-202": RENAMED,
    "S-203": RENAMED,
    "S-204": RENAMED,
    "S-205": LOST_CLOSES,
    "S-206": LOST_CLOSES,
    "S-207": without("token_expiring"),
    "S-208": Meddling(up=swallowed("refresh")),
    "S-209": LOST_CLOSES,
    "S-301": messages(lambda message: [[message]]),
    "S-302": altered(userId="somebody"),
    "S-303": Meddling(up=only_first_fragments),
    "S-304": RENAMED,
    "S-305": altered(help="somewhere"),
    "S-306": without("unsubscribed"),
    "S-307": Meddling(late_seconds=2.5),
    "S-401": RENAMED,
    "S-402": messages(lambda message: [message] * (2 if "data" in message else 1)),
    "S-403": without("unsubscribed"),
    "S-404": Meddling(up=swallowed("unsubscribe", {"type": "unsubscribed"})),
    "S-405": messages(let_in),
    "S-406": altered(channel="notifications/somebody"),
    "S-407": RENAMED,
    "S-408": without("unsubscribed"),
    "S-411": without("granted"),
    "S-421": RENAMED,
    "S-422": LOST_CLOSES,
    "S-423": altered(reason="revoked"),
    "S-431": RENAMED,
    "S-432": messages(lambda it: [it | {"users": it["users"] * 2} if "users" in it else it]),
    "S-501": altered(timestamp=1),
    "S-502": lost_now_and_then(),
    "S-503": lost_now_and_then(),
    "S-504": Meddling(down=answers_pings),
    "S-505": Meddling(down=no_pings),
    "S-506": Meddling(up=swallowed("ack")),
    "S-507": messages(also_recovered),
    "S-508": messages(also_recovered),
    "S-509": without("error"),
    "S-510": lost_now_and_then(),
    "S-511": altered(position=2**52),
    "S-601": Meddling(down=no_pings),
    "S-602": Meddling(idle_seconds=0.3),
    "S-603": Meddling(down=answers_pings),
    "S-604": Meddling(down=no_pongs),
    "S-605": altered(timestamp="now"),
    "S-701": Meddling(up=at_most(100)),
    "S-702": LOST_CLOSES,
    "S-703": Meddling(down=close_of(1000)),
    "S-801": without("error"),
    "S-802": Meddling(down=close_of(1001)),
    "S-803": LOST_CLOSES,
    "S-804": LOST_CLOSES,
    "S-805": Meddling(down=closes_for_pings),
    "S-806": LOST_CLOSES,
    "S-901": Meddling(answer=lambda _: PAGE),
    "S-902": Meddling(answer=replaced(rb"^HTTP/1.1 429", b"HTTP/1.1 400")),
    "S-903": Meddling(answer=lambda head: lines_without("Access-Control-Allow-Origin", head)),
    "S-911": Meddling(answer=replaced(rb"no-store", b"max-age=1")),
    "S-912": Meddling(block=lambda block: block.replace(b"data: ", b"event: x\ndata: ")),
    "S-913": Meddling(gathers=True),
    "S-914": Meddling(block=replaced(rb"(?m)^id: .*\n", b"")),
    "S-915": Meddling(request=lambda head: lines_without("Last-Event-ID", head)),
    "S-916": Meddling(block=replaced(rb"(?m)^retry: .*\n", b"")),
    "S-917": Meddling(idle_seconds=0.3),
    "S-918": Meddling(block=replaced(rb"(?m)^retry: .*\n", b"retry: 5000\n")),
    "S-921": Meddling(request=replaced(rb"^POST", b"PUT")),
    "S-922": Meddling(answer=replaced(rb"^HTTP/1.1 4\d\d", b"HTTP/1.1 400")),
    "S-923": Meddling(request=swallowed_posts),
    "S-924": Meddling(request=replaced(rb"^DELETE", b"PUT")),
    "S-931": messages(lambda message: [] if message["type"] == "heartbeat" else [message]),
    "S-932": Meddling(idle_seconds=0.3),
    "S-933": Meddling(request=replaced(rb"&since=[^& ]*", b"")),
    "S-934": Meddling(request=replaced(rb"&since=[^& ]*", b"")),
    "S-935": Meddling(request=replaced(rb"wait=[^& ]*", b"")),
    "S-936": Meddling(request=replaced(rb"&poll=[^& ]*", b"")),
    "S-937": Meddling(request=replaced(rb"Accept-Encoding: identity", b"Accept-Encoding: gzip")),
    "S-938": Meddling(request=swallowed_posts),
    "S-939": Meddling(request=replaced(rb"&poll=[^& ]*", b"")),
    "S-940": Meddling(idle_seconds=1.0),
}
"""What is wrong on the way, by the requirement whose check must find it."""
SEEN_BY_OTHERS = {"S-112": {"S-103", "S-112"}, "S-806": {"S-109", "S-806"}}
"""A check that looks at what others have seen needs one of them."""

PATIENT = {"S-110", "S-307"}


async def verdict(
    name: str, port: int, publisher: AsyncPublisher, room: asyncio.Semaphore
) -> Result:
    async with room, meddling_proxy(port, BROKEN[name]) as url:
        looked_at = deployment(url, publisher, patience=6.0 if name in PATIENT else 2.0)
        only = SEEN_BY_OTHERS.get(name, {name})
        results = await run(looked_at, slow=True, only=only)
        return next(each for each in results if each.id == name)


@pytest.mark.long
async def test_each_check_fails_where_its_behaviour_is_broken(
    deployed: Node, publisher: AsyncPublisher
) -> None:
    assert BROKEN.keys() == REQUIREMENTS.keys()
    port = address_of(deployed.url).port
    room = asyncio.Semaphore(12)
    results = await asyncio.gather(*(verdict(name, port, publisher, room) for name in BROKEN))
    assert [each for each in results if each.result != "failed"] == []
    assert [each for each in results if not each.detail] == []
