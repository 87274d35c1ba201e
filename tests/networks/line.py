"""A line between two network namespaces that loses, delays and stops packets: what `tc netem` does, for kernels without it.

Each end is a TUN device (Linux, Documentation/networking/tuntap.rst), so that what passes here are whole IP packets and TCP
meets the real thing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import struct
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x0001 | 0x1000
_MTU: Final = 1500
_TCP: Final = 6
_APART_SECONDS: Final = 1.0
"""Packets that are further apart wake a radio that has gone to sleep meanwhile."""
_MOST_WAITING_SECONDS: Final = 2.0
"""What waits longer for a line of a given rate is dropped, as a modem's buffer does."""


@dataclass(frozen=True)
class Weather:
    """What becomes of packets, each way. ``delay`` in seconds, ``loss`` from 0 to 1, ``rate`` in bytes a second."""

    delay: float = 0.0
    loss: float = 0.0
    rate: float = 0.0


FAIR: Final = Weather(delay=0.02)
SILENT: Final = Weather(loss=1.0)


@dataclass
class Traffic:
    """What has passed, both ways. ``wakeups``: how often something came after a second without a packet."""

    bytes: int = 0
    packets: int = 0
    wakeups: int = 0
    _last: float = field(default=0.0, repr=False)

    def count(self, size: int, now: float) -> None:
        self.bytes += size
        self.packets += 1
        if now - self._last > _APART_SECONDS:
            self.wakeups += 1
        self._last = now


class Line:
    """Two ends, and a third one that takes the place of the second while the line is ``diverted``.

    Args:
        client, server, portal: names of the devices, which are made in the namespace of this process.
    """

    def __init__(self, client: str, server: str, portal: str, seed: int) -> None:
        self.weather = FAIR
        self.diverted = False
        self.traffic: defaultdict[int, Traffic] = defaultdict(Traffic)
        """By the port on the server's side."""
        self._dice = random.Random(seed)
        self._client, self._server, self._portal = map(_tun, (client, server, portal))
        self._free_at = {True: 0.0, False: 0.0}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._client, self._read, self._client, self._up)
        self._loop.add_reader(self._server, self._read, self._server, self._from_server)
        self._loop.add_reader(self._portal, self._read, self._portal, self._down)

    def close(self) -> None:
        """Take the devices away."""
        for each in (self._client, self._server, self._portal):
            self._loop.remove_reader(each)
            os.close(each)

    def _up(self, packet: bytes) -> None:
        self._pass(packet, self._portal if self.diverted else self._server, up=True)

    def _from_server(self, packet: bytes) -> None:
        if not self.diverted:
            self._down(packet)

    def _down(self, packet: bytes) -> None:
        self._pass(packet, self._client, up=False)

    def _read(self, device: int, take: Callable[[bytes], None]) -> None:
        try:
            take(os.read(device, _MTU + 100))
        except OSError:
            return  # its device is down

    def _pass(self, packet: bytes, to: int, *, up: bool) -> None:
        weather, now = self.weather, self._loop.time()
        if (port := _server_port(packet, up=up)) is not None and not self.diverted:
            self.traffic[port].count(len(packet), now)
        if self._dice.random() < weather.loss:
            return
        leaves = now
        if weather.rate:
            begins = max(now, self._free_at[up])
            if begins - now > _MOST_WAITING_SECONDS:
                return
            leaves = self._free_at[up] = begins + len(packet) / weather.rate
        self._loop.call_at(leaves + weather.delay, _write, to, packet)


def _write(device: int, packet: bytes) -> None:
    try:
        os.write(device, packet)
    except OSError:
        return  # its device is down


def _tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN_NO_PI))
    return device


def _server_port(packet: bytes, *, up: bool) -> int | None:
    """The port of the server of a TCP packet (RFC 791 §3.1, RFC 9293 §3.1)."""
    if packet[0] >> 4 != 4 or packet[9] != _TCP:
        return None
    begin = (packet[0] & 0x0F) * 4 + (2 if up else 0)
    return int.from_bytes(packet[begin : begin + 2])
