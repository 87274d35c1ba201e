"""The proxy does to connections what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import Greeting, Proxy
from tests.support.waiting import until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
MOMENT = 0.1
PATIENCE = 5.0


class Echo:
    """A server that sends back what it gets, and knows when its clients are gone."""

    def __init__(self) -> None:
        self.port = 0
        self.ended = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self.ended += 1
            writer.close()

    def close(self) -> None:
        assert self._server is not None
        self._server.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    server = Echo()
    await server.start()
    yield server
    server.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    proxy = Proxy(echo.port)
    await proxy.start()
    yield proxy
    await proxy.aclose()


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await said(reader, writer, b"hello")
    yield reader, writer
    writer.transport.abort()


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: bytes) -> bool:
    """Whether ``what`` comes back soon."""
    writer.write(what)
    try:
        return await asyncio.wait_for(reader.readexactly(len(what)), PATIENCE) == what
    except (asyncio.IncompleteReadError, OSError):
        return False


async def is_silent(reader: asyncio.StreamReader) -> bool:
    """Whether nothing comes for a moment, not even an end."""
    try:
        await asyncio.wait_for(reader.read(1), MOMENT)
    except TimeoutError:
        return True
    return False


async def test_a_cut_resets_both_ends(proxy: Proxy, echo: Echo, client: Streams) -> None:
    assert proxy.cut() == 1
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(client[0].read(1), PATIENCE)
    await until(lambda: echo.ended == 1)
    await until(lambda: not proxy.links)


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_frozen_way_keeps_what_is_sent_until_it_thaws(
    proxy: Proxy, client: Streams, way: str
) -> None:
    reader, writer = client
    getattr(proxy, way).freeze()
    writer.write(b"later")
    assert await is_silent(reader)
    getattr(proxy, way).thaw()
    assert await asyncio.wait_for(reader.readexactly(5), PATIENCE) == b"later"


async def test_one_link_is_frozen_and_the_next_is_not(proxy: Proxy, client: Streams) -> None:
    proxy.links[0].down.freeze()
    client[1].write(b"x")
    assert await is_silent(client[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await said(reader, writer, b"y")
    writer.transport.abort()


async def test_who_vanishes_is_not_missed(proxy: Proxy, echo: Echo, client: Streams) -> None:
    port = client[1].get_extra_info("sockname")[1]
    proxy.from_port(port).vanish()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(client[0].read(1), PATIENCE)
    await asyncio.sleep(MOMENT)
    assert echo.ended == 0


async def test_a_delay_delays(proxy: Proxy, client: Streams) -> None:
    proxy.up.delay = MOMENT
    proxy.down.delay = MOMENT
    begun = time.monotonic()
    assert await said(*client, b"x")
    assert time.monotonic() - begun >= 2 * MOMENT


async def test_a_throttle_throttles(proxy: Proxy, client: Streams) -> None:
    proxy.down.bytes_per_second = 10_000
    begun = time.monotonic()
    assert await said(*client, b"x" * 5_000)
    assert 0.4 < time.monotonic() - begun < PATIENCE


async def test_it_refuses_and_accepts_again(proxy: Proxy, client: Streams) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(client[0].read(1), PATIENCE)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await said(reader, writer, b"again")
    writer.transport.abort()


async def test_a_target_that_refuses_is_passed_over(proxy: Proxy, echo: Echo) -> None:
    proxy.targets = [1, echo.port]
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await said(reader, writer, b"x")
        writer.transport.abort()


async def test_an_end_passes_through(proxy: Proxy, echo: Echo, client: Streams) -> None:
    client[1].write_eof()
    assert await asyncio.wait_for(client[0].read(), PATIENCE) == b""
    await until(lambda: echo.ended == 1)


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_way_that_swallows_loses_what_is_sent_for_ever_and_lets_new_ones_through(
    proxy: Proxy, client: Streams, way: str
) -> None:
    reader, writer = client
    getattr(proxy, way).swallows = True
    writer.write(b"lost")
    assert await is_silent(reader)
    getattr(proxy, way).swallows = False
    writer.write(b"behind what is lost")
    assert await is_silent(reader)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await said(reader, writer, b"another")
    writer.transport.abort()


async def test_a_half_open_connection_looks_open_to_its_client(
    proxy: Proxy, echo: Echo, client: Streams
) -> None:
    proxy.links[0].half_open()
    await until(lambda: echo.ended == 1)
    client[1].write(b"x")
    assert await is_silent(client[0])


async def test_it_accepts_and_never_answers(proxy: Proxy, echo: Echo) -> None:
    proxy.greeting = Greeting.SILENCE
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    proxy.greeting = Greeting.SERVE
    writer.write(b"x")
    assert await is_silent(reader)
    assert echo.ended == 0
    writer.transport.abort()


@pytest.mark.parametrize("bytes_first", [0, 3])
async def test_it_resets_what_it_has_accepted(proxy: Proxy, bytes_first: int) -> None:
    proxy.greeting = Greeting.RESET
    proxy.reset_after = bytes_first
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")
    received = b""
    with pytest.raises(ConnectionResetError):
        while data := await asyncio.wait_for(reader.read(1), PATIENCE):
            received += data
    assert b"hello"[:bytes_first].startswith(received)  # a reset may overtake what was sent before
    writer.transport.abort()
