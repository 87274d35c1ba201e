"""What is written to a client over a transport of either event loop: who sends it, in which order."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core import closing, frames
from gateway.core.frames import PLAIN
from gateway.web.new_connection import NewConnection
from gateway.web.reading import Turns
from gateway.web.socket import ClientSocket
from tests.support.waiting import until
from tests.unit.conftest import Run
from tests.unit.fakes import FakeClock

HIGH_WATER = 4 * 1024 * 1024
LARGE = bytes(range(256)) * 16_384
"""More than the system takes for a client that does not read."""


class Session:
    """Hears the end."""

    def __init__(self) -> None:
        self.ends = 0

    def congested(self) -> None:
        pass

    def lost(self) -> None:
        self.ends += 1


class CountingTransport:
    """A transport, and how often it was asked to write."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.writes = 0

    def write(self, data: bytes | memoryview) -> None:
        self.writes += 1
        self._transport.write(data)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class CountingClientSocket(ClientSocket):
    """Has a transport that counts."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(CountingTransport(transport))  # type: ignore[arg-type]


class Line:
    """A client's socket at the node's end, and the client."""

    def __init__(self, node: ClientSocket, client: socket.socket, session: Session) -> None:
        self.node = node
        self.client = client
        self.session = session

    @property
    def through_transport(self) -> int:
        """Writes that took the transport."""
        transport: Any = self.node._transport
        return int(transport.writes)

    async def read(self, count: int) -> bytes:
        """The next bytes that the client gets."""
        loop, read = asyncio.get_running_loop(), bytearray()
        while len(read) < count:
            some = await loop.sock_recv(self.client, min(65_536, count - len(read)))
            assert some
            read += some
        return bytes(read)

    async def opened(self) -> None:
        """Write the first frame, after which the way past the transport is open."""
        self.node.write(b"first")
        assert await self.read(5) == b"first"


@contextlib.asynccontextmanager
async def line(*, encrypted: bool = False) -> AsyncIterator[Line]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        client.connect(listener.getsockname())
        client.setblocking(False)
        accepted, _ = listener.accept()
    accepted.setblocking(False)
    session = Session()
    node = CountingClientSocket(
        PLAIN, HIGH_WATER, Turns(FakeClock()), None if encrypted else accepted
    )
    node.serve(session, 1_000)  # type: ignore[arg-type] # nobody says anything
    await asyncio.get_running_loop().connect_accepted_socket(lambda: node, accepted)
    with client:
        yield Line(node, client, session)
        node._transport.abort()
        await until(lambda: session.ends)
    assert session.ends == 1


def test_while_nothing_waits_the_transport_writes_nothing(run: Run) -> None:
    async def work() -> None:
        async with line() as the:
            await the.opened()
            before = the.through_transport
            for number in range(100):
                assert the.node.write(b"%03d" % number)
            assert the.through_transport == before
            assert await the.read(300) == b"".join(b"%03d" % number for number in range(100))
            assert the.node.waiting == 0

    run(work())


def test_what_the_system_has_no_room_for_waits_in_the_transport_and_nothing_overtakes_it(
    run: Run,
) -> None:
    async def work() -> None:
        async with line() as the:
            await the.opened()
            before = the.through_transport
            assert not the.node.write(LARGE * 2)
            assert the.through_transport == before + 1
            assert 0 < the.node.waiting < len(LARGE) * 2
            assert the.node.congested
            assert the.node.unheard
            the.node.write(b"behind it")
            assert the.through_transport == before + 2
            assert await the.read(len(LARGE) * 2) == LARGE * 2
            assert await the.read(9) == b"behind it"
            await until(lambda: not the.node.congested)
            assert not the.node.unheard
            assert the.node.waiting == 0

    run(work())


def test_room_that_the_client_makes_is_not_for_what_comes_behind(run: Run) -> None:
    async def work() -> None:
        async with line() as the:
            await the.opened()
            the.node.write(LARGE * 2)
            waiting = the.node.waiting
            # The client reads, and the event loop has no turn in which the transport could write.
            read = read_at_once(the.client, len(LARGE))
            assert the.node.waiting == waiting
            the.node.write(b"behind it")
            read += await the.read(2 * len(LARGE) + 9 - len(read))
            assert read == LARGE * 2 + b"behind it"

    run(work())


def read_at_once(client: socket.socket, most: int) -> bytes:
    """What the system has for the client, up to ``most`` bytes."""
    read = bytearray()
    with contextlib.suppress(BlockingIOError):
        while len(read) < most:
            read += client.recv(most - len(read))
    return bytes(read)


def test_once_the_client_has_taken_all_the_transport_is_left_out_again(run: Run) -> None:
    async def work() -> None:
        async with line() as the:
            await the.opened()
            the.node.write(LARGE)
            await the.read(len(LARGE))
            await until(lambda: not the.node.waiting)
            the.node.write(b"the transport says that nothing waits")
            before = the.through_transport
            the.node.write(b"!")
            assert the.through_transport == before
            assert (await the.read(38))[-1:] == b"!"

    run(work())


class Full:
    """A socket for which the system has no room."""

    def send(self, _data: bytes) -> int:
        raise BlockingIOError


def test_where_the_system_has_no_room_at_all_the_transport_gets_everything(run: Run) -> None:
    async def work() -> None:
        async with line() as the:
            await the.opened()
            plain, the.node._direct = the.node._direct, Full()  # type: ignore[assignment]
            before = the.through_transport
            the.node.write(b"handed over")
            assert the.through_transport == before + 1
            the.node._direct = plain
            the.node.write(b", and followed")
            assert await the.read(25) == b"handed over, and followed"

    run(work())


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_written_and_read_when_the_order_holds(run: Run, seed: int) -> None:
    async def work() -> None:
        chance = random.Random(seed)
        written, read = bytearray(), bytearray()
        async with line() as the:
            for _ in range(300):
                data = chance.randbytes(int(10 ** chance.uniform(0, 5)))
                the.node.write(data)
                written += data
                if chance.random() < 0.5:
                    read += await the.read(chance.randint(0, len(written) - len(read)))
            read += await the.read(len(written) - len(read))
            assert read == written

    run(work())


def test_what_was_taken_is_counted_also_past_the_transport(run: Run) -> None:
    async def work() -> None:
        async with line() as the:
            await the.opened()
            before = the.node.taken
            the.node.write(LARGE)
            assert the.node.untaken > the.node.waiting > 0
            await the.read(len(LARGE))
            await until(lambda: the.node.taken >= before + len(LARGE))
            await until(lambda: not the.node.untaken)

    run(work())


def test_a_client_that_is_gone_ends_the_connection_in_the_usual_way(run: Run) -> None:
    async def work() -> None:
        async with line() as the:
            await the.opened()
            before = the.through_transport
            # It resets the connection (socket(7)).
            the.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            the.client.close()
            the.node.write(b"nobody hears this")
            assert the.through_transport == before + 1
            the.node.write(b"nor this")
            await until(lambda: the.session.ends)
            the.node.write(b"nor this")
            assert the.node._direct is None
            assert the.node._plain is None

    run(work())


def test_behind_a_close_frame_nothing_is_written(run: Run) -> None:
    async def work() -> None:
        async with line() as the:
            await the.opened()
            the.node.close(closing.DRAINING)
            assert the.node.write(b"too late")
            the.node.finish()
            goodbye = frames.close(closing.DRAINING)
            assert await the.read(len(goodbye)) == goodbye
            assert await asyncio.get_running_loop().sock_recv(the.client, 100) == b""

    run(work())


def test_to_a_client_that_has_closed_its_side_frames_go_whole_or_not_at_all(run: Run) -> None:
    async def work() -> None:
        async with line() as the:
            await the.opened()
            the.client.shutdown(socket.SHUT_WR)
            written = 0
            while not the.session.ends:
                assert the.node.write(b"frame")
                written += 1
                await asyncio.sleep(0)
            assert the.node.write(b"too late")
            received = bytearray()
            while some := await asyncio.get_running_loop().sock_recv(the.client, 65_536):
                received += some
            assert received in [b"frame" * count for count in range(written + 1)]

    run(work())


class Half:
    """A socket that takes half of what it is given, after which the connection breaks."""

    def __init__(self, broken: socket.socket) -> None:
        self._broken = broken
        self.took: list[bytes] = []

    def send(self, data: bytes) -> int:
        half = len(data) // 2
        self.took.append(bytes(data[:half]))
        # Nothing can be sent any more (shutdown(2)).
        with contextlib.suppress(OSError):
            self._broken.shutdown(socket.SHUT_WR)
        return half


def test_behind_half_a_frame_whose_rest_was_lost_nothing_is_written(run: Run) -> None:
    async def work() -> None:
        async with line() as the:
            await the.opened()
            accepted = the.node._plain
            assert accepted is not None
            half = the.node._plain = the.node._direct = Half(accepted)  # type: ignore[assignment]
            the.node.write(b"a frame.")
            the.node.write(b"another.")
            assert half.took == [b"a fr"]

    run(work())


def test_under_tls_the_transport_writes_everything(run: Run) -> None:
    async def work() -> None:
        async with line(encrypted=True) as the:
            for number in range(1, 11):
                the.node.write(b"secret")
                assert the.through_transport == number
            assert await the.read(60) == b"secret" * 10

    run(work())


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_socket_whose_bytes_are_encrypted_is_given_to_nobody(encrypted: bool) -> None:
    class Transport(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return object() if encrypted and name == "sslcontext" else default

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            assert encrypted

        def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            assert encrypted

    async def work() -> None:
        connection = NewConnection(None, accepted)  # type: ignore[arg-type]
        connection.connection_made(Transport())
        assert connection.plain_socket is (None if encrypted else accepted)
        connection._cancel_deadline()

    with socket.socket() as accepted:
        asyncio.run(work())
