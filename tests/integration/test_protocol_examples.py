"""The examples of docs/protocol.md are what a running server takes and sends, in each key and type."""

from __future__ import annotations

import time
from typing import Any

import jwt

from publisher import AsyncPublisher
from tests.docs.asyncapi import examples, problems
from tests.docs.test_documentation import PROTOCOL
from tests.integration.conftest import StartNode
from tests.support.client import Client, connected, opened
from tests.support.event_stream import address, ask, event_stream
from tests.support.nodes import Node
from tests.support.tokens import SECRET, make_token

ROOMS = {"rooms": {"owner": "anyone", "presence": {"announce": True}}}
SESSION, OWN = "run-results/session-123", "notifications/user-123"


def shape(value: Any) -> Any:
    """The keys and the kinds of values of a message, besides the data."""
    if isinstance(value, dict):
        return {key: "any" if key == "data" else shape(each) for key, each in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


def told(message: dict[str, Any]) -> tuple[str, str]:
    """What makes a message another one than others of its type."""
    return message["type"], repr(sorted(shape(message).items()))


class Listener:
    """Keeps all that comes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.heard: list[dict[str, Any]] = []

    async def until(self, kind: str) -> None:
        """Wait for the next message of a type."""
        while not self.heard or self.heard[-1]["type"] != kind:
            self.heard.append(await self._client.receive())

    async def ask(self, message: dict[str, Any], answer: str) -> None:
        """Send a message, and wait for the answer."""
        self.heard.append({"type": "sent"})
        await self._client.send(message)
        await self.until(answer)


async def test_the_server_takes_and_sends_what_the_page_shows(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(namespaces=ROOMS, jwt_leeway_seconds=0.0)
    shown = {each["type"]: each for each in examples(PROTOCOL, "client")}
    async with opened(node.url, make_token("user-123")) as client:
        listener = Listener(client)
        await listener.until("connected")
        hear_session = {"type": "subscribe", "channel": SESSION}
        await listener.ask(hear_session, "error")
        assert listener.heard[-1]["code"] == "forbidden"
        await publisher.grant(SESSION, "user-123")
        await listener.until("granted")
        await listener.ask(hear_session | {"token": _channel_token()}, "subscribed")
        await publisher.publish(SESSION, {"stdout": "Hello, World!"})
        await listener.until("run-results")
        await listener.ask({"type": "subscribe", "channel": OWN}, "subscribed")
        sent = await publisher.publish(OWN, {"title": "New request"})
        await listener.until("notifications")
        await client.send(shown["ack"] | {"id": sent.id})
        await listener.ask(shown["unsubscribe"], "unsubscribed")
        await listener.ask({"type": "subscribe", "channel": OWN, "since": sent.id}, "subscribed")
        await listener.ask({"type": "subscribe", "channel": "rooms/blue"}, "subscribed")
        async with connected(node.url, make_token("user-456")) as other:
            await other.send({"type": "subscribe", "channel": "rooms/blue"})
            while "user-456" not in listener.heard[-1].get("users", []):
                listener.heard.append(await client.receive())
            await listener.ask(shown["presence"], "presence")
        await listener.until("left")
        await listener.ask(shown["heartbeat"], "heartbeat")
        short = make_token("user-123", exp=int(time.time()) + 3)
        await listener.ask(shown["refresh"] | {"token": short}, "token_expiring")
        await client.send(shown["refresh"] | {"token": make_token("user-123")})
        await listener.ask(shown["refresh"] | {"token": "no.token"}, "error")
        await publisher.revoke(SESSION, "user-123")
        await publisher.revoke_token("pass", time.time() + 600)
        await listener.ask({"type": "heartbeat"}, "unsubscribed")
    heard = [each for each in listener.heard if each["type"] != "sent"]
    assert [(each, problems("server", each)) for each in heard if problems("server", each)] == []
    assert {told(each) for each in examples(PROTOCOL, "server")} <= {told(each) for each in heard}


async def test_it_sends_the_same_without_a_websocket(node: Node, publisher: AsyncPublisher) -> None:
    token = make_token("user-123")
    async with event_stream(node.url, token, OWN) as stream:
        heard = [stream.greeting, await stream.receive()]
        await publisher.publish(OWN, {"title": "New request"})
        heard.append(await stream.receive())
    assert [told(each) for each in heard] == [told(each) for each in examples(PROTOCOL, "stream")]
    answer = await ask(node.url, address("/poll", token, [OWN], wait="5"))
    assert [told(each) for each in answer.json] == [
        told(each) for each in examples(PROTOCOL, "poll")
    ]
    came = [("stream", each) for each in heard] + [("poll", each) for each in answer.json]
    assert [each for each in came if problems(*each)] == []


def _channel_token() -> str:
    claims = {"sub": "user-123", "channel": SESSION, "exp": int(time.time()) + 60, "jti": "pass"}
    return jwt.encode(claims, SECRET, headers={"typ": "channel+jwt"})
