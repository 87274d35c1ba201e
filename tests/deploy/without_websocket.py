"""What event streams and polls are promised, seen from behind a balancer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from publisher import AsyncPublisher
from tests.support.event_stream import address, ask, event_stream, say
from tests.support.processes import GatewayProcess
from tests.support.requests import line, request
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"


async def streams_and_polls_pass(
    url: str, publisher: AsyncPublisher, gateways: Sequence[GatewayProcess]
) -> None:
    """Several requests for one stream, which the balancer gives to several gateways."""
    token = make_token("u")
    async with event_stream(url, token, X_Forwarded_For="6.6.6.6") as stream:
        for _ in range(3):
            assert (await say(url, stream.name, {"type": "heartbeat"}, token)).status == 202
            await stream.expect(type="heartbeat")
        subscribe = {"type": "subscribe", "channel": CHANNEL}
        assert (await say(url, stream.name, subscribe, token)).status == 202
        await stream.expect(type="subscribed")
        for number in range(3):
            await publisher.publish(CHANNEL, number)
            assert await stream.data(1) == [number]
    poll = since = ""
    heard: list[object] = []
    for number in range(4):
        await publisher.publish(CHANNEL, number)
        answer = await ask(
            url, address("/poll", token, [CHANNEL], wait="5", poll=poll, since=since)
        )
        assert answer.status == 200, answer
        for message in answer.json:
            poll = message.get("poll", poll)
            since = message.get("since", since)
            heard += [message["data"]] if "data" in message else []
    # Those of the stream were not shown to have arrived.
    assert heard == [0, 1, 2, 0, 1, 2, 3]
    target = address("/poll", token, [CHANNEL], wait="50", poll=poll, since=since)
    async with line(url, request(f"GET {target} HTTP/1.1", "Host: x")) as page:
        await until(lambda: polls_are(1, gateways))
        page.writer.close()
        await until(lambda: polls_are(0, gateways))
    assert (await ask(url, address(f"/poll/{poll}", token), "DELETE")).status == 202
    answer = await ask(url, "/poll")
    assert (answer.status, answer.json["error"]["code"]) == (401, "token_missing")


async def polls_are(count: int, gateways: Sequence[GatewayProcess]) -> bool:
    """Whether so many polls wait for their answers."""
    texts = [(await each.get("/metrics"))[1] for each in gateways]
    found = re.findall(r"^gateway_polls_under_way (\S+)$", "\n".join(texts), re.MULTILINE)
    return sum(map(float, found)) == count
