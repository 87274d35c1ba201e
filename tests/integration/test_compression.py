"""permessage-deflate with a real node: offers of all kinds, and messages in both directions."""

from __future__ import annotations

import json
import re
import zlib
from typing import Any

import pytest

from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support.client_frames import RSV1, client_frame, squeezed
from tests.support.nodes import Node
from tests.support.raw import TEXT, RawClient, raw_client
from tests.support.requests import cases
from tests.support.tokens import make_token

OFFERS = cases("deflate_offers.json")

# The name of an extension is compared as it is registered.
DECIDED = {"PERMESSAGE-DEFLATE": False}


def answer(client: RawClient) -> str | None:
    found = re.search(r"^Sec-WebSocket-Extensions: (.*)\r$", client.headers, re.MULTILINE)
    return found and found[1]


async def talk(client: RawClient, publisher: AsyncPublisher, *, compressed: bool) -> None:
    """Send and receive messages that are compressed and such that are not, if both are agreed on."""
    bits = re.search(r"server_max_window_bits=(\d+)", client.headers)
    window = int(bits[1]) if bits else 15
    assert await client.told() == "connected"
    heartbeat = b'{"type":"heartbeat"}'
    for _ in range(3):
        if compressed:
            client.writer.write(client_frame(TEXT, squeezed(heartbeat), reserved=RSV1))
            assert await client.told() == "heartbeat"
        client.send(TEXT, heartbeat)
        assert await client.told() == "heartbeat"
    client.send(TEXT, b'{"type":"subscribe","channel":"notifications/u"}')
    assert await client.told() == "subscribed"
    # Repeats that are farther apart than a small window reaches.
    large = "".join(f"{number:06}" for number in range(4_000)) * 2
    for text in (large, "small", large):
        await publisher.publish("notifications/u", text)
        frame = await client.next(TEXT)
        assert frame.compressed == (compressed and text is large)
        payload = frame.payload
        if frame.compressed:
            payload = zlib.decompressobj(-window).decompress(payload + b"\0\0\xff\xff")
        assert json.loads(payload)["data"] == text


@pytest.mark.parametrize("case", OFFERS, ids=lambda case: case["offer"])
async def test_each_offer_of_the_field_leads_to_messages_that_decode(
    node: Node, publisher: AsyncPublisher, case: dict[str, Any]
) -> None:
    expected = DECIDED.get(case["offer"], case["accepted"])
    async with raw_client(node.url, make_token("u"), case["offer"]) as client:
        agreed = answer(client)
        assert (agreed is not None) == expected
        words = (agreed or "").split("; ")
        assert set(case.get("has", ())) <= set(words)
        assert not set(case.get("never", ())) & {word.partition("=")[0] for word in words}
        await talk(client, publisher, compressed=expected)


async def test_offers_on_two_lines_are_one_list(node: Node, publisher: AsyncPublisher) -> None:
    offers = (
        "permessage-deflate; level=9\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9"
    )
    async with raw_client(node.url, make_token("u"), offers) as client:
        assert "server_max_window_bits=9" in (answer(client) or "")
        await talk(client, publisher, compressed=True)


async def test_compression_can_be_switched_off(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(compression=False)
    async with raw_client(node.url, make_token("u"), "permessage-deflate") as client:
        assert answer(client) is None
        await talk(client, publisher, compressed=False)


async def test_a_client_that_compresses_costs_no_window(node: Node) -> None:
    """``client_no_context_takeover`` is in the answer, whether or not it was offered (RFC 7692 §7.1.1.2)."""
    async with raw_client(node.url, make_token("u"), "permessage-deflate") as client:
        assert "client_no_context_takeover" in (answer(client) or "")
