"""Polls of clients on slow lines: an answer comes as long as the client takes something of it, and is no longer than it has to be."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.web import one_request
from gateway.web.one_request import OneRequest
from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.integration.test_polling import (
    CHANNEL,
    data_in,
    name_in,
    poll,
    since_in,
)
from tests.support.certificates import Authority, trusting
from tests.support.nodes import Node
from tests.support.waiting import until

LENGTH = 300_000
LITTLE = 4_096
LONG = 2_000_000


@asynccontextmanager
async def an_answer(gone: asyncio.Event) -> AsyncIterator[socket.socket]:
    """The client's end of a line on which an answer comes. Systems keep little of it on their way."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.create_server(("127.0.0.1", 0)), socket.socket()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LITTLE)
    theirs.setblocking(False)
    ours.setblocking(False)
    await loop.sock_connect(theirs, ours.getsockname())
    accepted, _ = await loop.sock_accept(ours)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LITTLE)
    request = OneRequest(0, lambda _body: None, gone.set)
    await loop.connect_accepted_socket(lambda: request, accepted)
    request.begin(b"")
    request.answer(b"x" * LENGTH)
    with ours, theirs:
        yield theirs


async def test_an_answer_is_not_cut_while_the_client_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(one_request, "_TAKE_SECONDS", 0.1)
    loop = asyncio.get_running_loop()
    began, came = loop.time(), 0
    async with an_answer(asyncio.Event()) as line:
        while data := await loop.sock_recv(line, LENGTH // 20):
            came += len(data)
            await asyncio.sleep(0.01)
    assert came == LENGTH
    assert loop.time() - began > 2 * one_request._TAKE_SECONDS


async def test_who_takes_nothing_of_an_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(one_request, "_TAKE_SECONDS", 0.05)
    gone = asyncio.Event()
    async with an_answer(gone):
        await asyncio.wait_for(gone.wait(), 10)


async def test_an_answer_that_is_taken_too_slowly_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_request, "_TAKE_SECONDS", 0.1)
    monkeypatch.setattr(one_request, "_SLOWEST", 10 * LENGTH)
    loop = asyncio.get_running_loop()
    gone, came = asyncio.Event(), 0
    async with an_answer(gone) as line:
        with contextlib.suppress(ConnectionError):
            while data := await loop.sock_recv(line, LENGTH // 100):
                came += len(data)
                await asyncio.sleep(0.02)
        await asyncio.wait_for(gone.wait(), 10)
    assert came < LENGTH


@pytest.mark.parametrize(
    ("seconds", "slowest"),
    [(0.01, one_request._SLOWEST), (0.01, 100 * LONG), (None, one_request._SLOWEST)],
    ids=["taken", "taken too slowly", "left"],
)
async def test_under_tls_too_it_is_only_cut_where_the_client_takes_nothing_of_it_or_too_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float | None, slowest: int
) -> None:
    monkeypatch.setattr(one_request, "_TAKE_SECONDS", 0.4)
    monkeypatch.setattr(one_request, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(one_request, "_SLOWEST", slowest)
    loop = asyncio.get_running_loop()
    authority, gone = Authority(tmp_path), asyncio.Event()
    own = authority.sign("localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own.certificate, own.key)
    request = OneRequest(0, lambda _body: None, gone.set)
    server = await loop.create_server(
        lambda: request, "127.0.0.1", 0, ssl=context, ssl_shutdown_timeout=0.05
    )
    theirs = socket.create_connection(server.sockets[0].getsockname())
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * LITTLE)
    reader, writer = await asyncio.open_connection(
        sock=theirs, ssl=trusting(authority), server_hostname="localhost", limit=LITTLE
    )
    await until(lambda: hasattr(request, "_transport"))
    request._transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LITTLE
    )
    request.begin(b"")
    request.answer(b"x" * LONG)
    came = 0
    if seconds is None:
        await asyncio.wait_for(gone.wait(), 10)
    elif slowest > LONG:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(LONG // 100):
                came += len(data)
                await asyncio.sleep(seconds)
        assert came < LONG
        await asyncio.wait_for(gone.wait(), 10)
    else:
        while came < LONG and (data := await reader.read(LONG // 20)):
            came += len(data)
            await asyncio.sleep(seconds)
        assert came == LONG
        # It is ended then, also where the client waits for that.
        assert await reader.read() == b""
    writer.transport.abort()
    server.close()


async def test_what_waits_for_a_client_comes_in_answers_that_a_slow_line_bears(
    node: Node, publisher: AsyncPublisher
) -> None:
    first = await poll(node.url, CHANNEL)
    name, since = name_in(first), since_in(first)
    socket_ = node.gateway.entrance.streams._streams[name].connection.socket
    for number in range(12):
        sent = await publisher.publish(CHANNEL, [number, "m" * 30_000])
        await until(lambda number=number: socket_.untaken > (number + 1) * 30_000)
    came = []
    while socket_.untaken:
        answer = await poll(node.url, CHANNEL, wait=0, poll=name, since=since)
        # It is lost, and comes again as it was.
        assert (await poll(node.url, CHANNEL, wait=5, poll=name, since=since))[:-1] == answer[:-1]
        assert 1 <= len(data_in(answer)) <= 3
        came += [number for number, _ in data_in(answer)]
        since = since_in(answer)
        assert since == str(answer[-2]["id"])
    assert came == list(range(12))
    assert since == str(sent.id)


async def test_the_last_answer_says_why_it_is_the_last_also_where_it_comes_again(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await poll(node.url, CHANNEL)
    more = {"poll": name_in(first), "since": since_in(first)}
    await publisher.publish(CHANNEL, 1)
    await poll(node.url, CHANNEL, **more)
    streams = node.gateway.entrance.streams
    monkeypatch.setattr(streams, "owes", lambda _stream: 10.0)
    again = asyncio.create_task(poll(node.url, CHANNEL, wait=20, **more))
    await until(lambda: streams._streams[more["poll"]].connection.socket.there)
    await publisher.disconnect("u", reason="bye")
    answer = await again
    assert data_in(answer) == [1]
    assert [each["code"] for each in answer if each["type"] == "error"]


async def test_a_poll_that_is_on_its_way_when_a_node_leaves_is_answered(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = await start_node(), await start_node()
    first = await poll(here.url, CHANNEL)
    further = there.gateway.entrance.client_port._streams._polls
    further.close()
    more = {"poll": name_in(first), "since": since_in(first)}
    assert await poll(there.url, CHANNEL, wait=50, **more) == []
