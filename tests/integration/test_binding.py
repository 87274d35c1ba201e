"""A port that is held for several processes is theirs and nobody else's."""

from __future__ import annotations

import contextlib
import socket

import pytest

from gateway.web.server import CannotListen, open_listener, reserve

HOST = "127.0.0.1"


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port))


async def test_a_held_port_is_nobody_elses_whether_or_not_somebody_listens() -> None:
    with await reserve(HOST, 0, "port") as held:
        port = held.getsockname()[1]
        assert port
        for host in (HOST, "0.0.0.0"):
            with pytest.raises(CannotListen, match=f"port {port}: it is in use; GATEWAY_PORT"):
                await open_listener(host, port, "port", shared=False)
        with pytest.raises(CannotListen):
            await reserve(HOST, port, "port")
        with await open_listener(HOST, port, "port", shared=True), connect(port):
            with pytest.raises(CannotListen):
                await open_listener(HOST, port, "port", shared=False)
            with pytest.raises(CannotListen):
                await reserve(HOST, port, "port")


async def test_connections_go_to_all_that_listen_and_never_to_the_holder() -> None:
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(await reserve(HOST, 0, "port"))
        port = held.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            connect(port)
        listeners = [
            stack.enter_context(await open_listener(HOST, port, "port", shared=True))
            for _ in range(2)
        ]
        for _ in range(40):
            stack.enter_context(connect(port))
        taken = [0, 0]
        for number, listener in enumerate(listeners):
            listener.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    stack.enter_context(listener.accept()[0])
                    taken[number] += 1
        assert sum(taken) == 40
        assert all(taken)


async def test_one_who_listens_alone_keeps_the_port_to_itself() -> None:
    with await open_listener(HOST, 0, "port", shared=False) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(CannotListen):
            await reserve(HOST, port, "port")
        with pytest.raises(CannotListen):
            await open_listener(HOST, port, "port", shared=True)


async def test_connections_that_linger_hinder_nobody() -> None:
    with await open_listener(HOST, 0, "port", shared=False) as listener:
        port = listener.getsockname()[1]
        with connect(port):
            listener.accept()[0].close()  # the side that closes first keeps the connection a while
    with await reserve(HOST, port, "port"):
        with await open_listener(HOST, port, "port", shared=True) as listener, connect(port):
            listener.accept()[0].close()
    with await open_listener(HOST, port, "port", shared=False):
        pass


async def test_a_port_of_another_is_told_as_it_is() -> None:
    with pytest.raises(CannotListen) as told:
        await reserve("203.0.113.1", 3001, "internal_port")
    assert not told.value.in_use
    assert "203.0.113.1 port 3001" in str(told.value)
    assert "GATEWAY_INTERNAL_PORT" in str(told.value)


async def test_a_short_message_does_not_wait_for_a_longer_one() -> None:
    """Without the Nagle algorithm (RFC 896), which with delayed acknowledgements costs 40 ms a message."""
    with await open_listener(HOST, 0, "port", shared=False) as listener:
        with connect(listener.getsockname()[1]), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# -- both families ------------------------------------------------------------------------------


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("host", ["::", "[::]", "::0"])
async def test_the_address_of_all_interfaces_serves_both_families(host: str) -> None:
    with await open_listener(host, 0, "port", shared=False) as listener:
        port = listener.getsockname()[1]
        for client in (HOST, "::1"):
            with socket.create_connection((client, port)):
                listener.accept()[0].close()


@pytest.mark.usefixtures("ipv6")
async def test_a_port_held_for_both_families_is_nobody_elses_in_either() -> None:
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(await reserve("::", 0, "port")).getsockname()[1]
        for host in (HOST, "0.0.0.0", "::1", "::"):
            with pytest.raises(CannotListen, match="it is in use"):
                await open_listener(host, port, "port", shared=False)
        listeners = [
            stack.enter_context(await open_listener("::", port, "port", shared=True))
            for _ in range(2)
        ]
        for listener in listeners:
            listener.setblocking(False)
        for client in (HOST, "::1"):
            stack.enter_context(socket.create_connection((client, port)))
            taken = 0
            for listener in listeners:
                with contextlib.suppress(BlockingIOError):
                    stack.enter_context(listener.accept()[0])
                    taken += 1
            assert taken == 1


@pytest.mark.usefixtures("ipv6")
async def test_a_port_that_is_taken_in_one_family_is_not_held_for_both() -> None:
    with await open_listener(HOST, 0, "port", shared=False) as listener:
        with pytest.raises(CannotListen, match="it is in use"):
            await reserve("::", listener.getsockname()[1], "port")


@pytest.mark.usefixtures("ipv6")
async def test_an_address_of_one_interface_serves_its_own_family_only() -> None:
    with await open_listener("::1", 0, "port", shared=False) as listener:
        with pytest.raises(ConnectionRefusedError):
            connect(listener.getsockname()[1])
