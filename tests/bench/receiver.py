"""receiver.c in Python, for machines without a C compiler: the same arguments, input and output.

It takes many times the CPU for each message, so rates and latencies come out worse; what the
servers are charged stays comparable.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import struct
import sys
import time
from pathlib import Path
from typing import Any

_SOURCES = 8
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_ANSWERS = {b"2": b"3", b"PING\r\n": b"PONG\r\n"}


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame, masked with zeros (RFC 6455 section 5.3)."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload


class Counts:
    """What has been counted since the last reset."""

    def __init__(self) -> None:
        self.messages = self.frames = self.bytes = self.pings = self.closed = 0
        self.first = self.last = 0.0
        self.codes: dict[str, int] = {}
        self.latencies: list[int] = []


class Client(asyncio.Protocol):
    """One socket."""

    def __init__(self, receiver: Receiver, target: str) -> None:
        self.receiver = receiver
        self.path, *self.unsent = target.split("\t")
        self.state = "upgrading"
        self.data = b""
        self.frames = self.messages = 0
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" * self.receiver.deflate
        transport.write(
            f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.receiver.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n".encode()
        )

    def connection_lost(self, _error: Exception | None) -> None:
        self.end()

    def data_received(self, data: bytes) -> None:
        counts = self.receiver.counts
        counts.last = time.monotonic()
        counts.first = counts.first or counts.last
        counts.bytes += len(data)
        self.data += data
        if self.state == "upgrading" and not self._upgraded():
            return
        at = 0
        while self.state != "closed" and (step := self._take_frame(at)):
            at += step
        self.data = self.data[at:]

    def end(self) -> None:
        if self.state != "closed":
            if self.state == "joined":
                self.receiver.counts.closed += 1
            else:
                self.receiver.settled(failed=True)
            self.state = "closed"
            self.transport.close()

    def _upgraded(self) -> bool:
        head, found, self.data = self.data.partition(b"\r\n\r\n")
        if not found:
            self.data = head
            return False
        if not head.startswith(b"HTTP/1.1 101"):
            sys.stderr.write(f"refused: {head[:200]!r}\n")
            self.end()
            return False
        self.state = "joining"
        self._join()
        return True

    def _join(self) -> None:
        while self.unsent and (text := self.unsent.pop(0)) != "~":
            text = text.replace("\\r", "\r").replace("\\n", "\n")
            self.transport.write(frame(_TEXT, text.encode()))
        if not self.unsent and self.frames >= self.receiver.greetings:
            self.state = "joined"
            self.receiver.settled(failed=False)

    def _take_frame(self, at: int) -> int:
        data = self.data
        if len(data) < at + 2:
            return 0
        head, size = 2, data[at + 1] & 0x7F
        if size >= 126:
            more = 2 if size == 126 else 8
            if len(data) < at + 2 + more:
                return 0
            size, head = int.from_bytes(data[at + 2 : at + 2 + more]), 2 + more
        if len(data) < at + head + size:
            return 0
        self._take(data[at] & 0xF, bool(data[at] & 0x40), data[at + head : at + head + size])
        return head + size

    def _take(self, opcode: int, compressed: bool, payload: bytes) -> None:
        counts = self.receiver.counts
        if opcode == _PING:
            counts.pings += 1
            self.transport.write(frame(_PONG, payload))
        elif opcode == _CLOSE:
            code = str(struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else 1005)
            counts.codes[code] = counts.codes.get(code, 0) + 1
            self.end()
        elif opcode in {_TEXT, _BINARY}:
            self._take_message(compressed, payload)

    def _take_message(self, compressed: bool, payload: bytes) -> None:
        if payload in _ANSWERS:
            self.transport.write(frame(_TEXT, _ANSWERS[payload]))
            return
        counts = self.receiver.counts
        counts.frames += 1
        self.frames += 1
        if self.state == "joining":
            self._join()
        stamps = [None] if compressed else self.receiver.stamp.findall(payload)
        self.messages += len(stamps)
        counts.messages += len(stamps)
        now = time.time_ns()
        counts.latencies += [now - int(stamp) for stamp in stamps if stamp]


class Receiver:
    """All sockets."""

    def __init__(
        self, port: str, targets: str, greetings: str, window: str, mark: str, *options: str
    ) -> None:
        self.port = int(port)
        self.targets = Path(targets).read_text("utf-8").splitlines()
        self.greetings = int(greetings)
        self.window = asyncio.Semaphore(int(window))
        self.stamp = re.compile(re.escape(mark.encode()) + rb"(\d*)")
        self.deflate = "deflate" in options
        self.counts = Counts()
        self.clients: list[Client] = []
        self.joined = self.failed = 0

    def settled(self, *, failed: bool) -> None:
        self.failed += failed
        self.joined += not failed
        self.window.release()

    async def run(self) -> None:
        began = time.monotonic()
        for number, target in enumerate(self.targets):
            await self.window.acquire()
            await self._connect(number, target)
        while self.joined + self.failed < len(self.targets):
            await asyncio.sleep(0.005)
        seconds = time.monotonic() - began
        say("joined", sockets=self.joined, failed=self.failed, seconds=seconds)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            match line.split():
                case ["reset"]:
                    self._reset()
                case ["report", count, idle]:
                    await self._report(int(count), int(idle) / 1000)
        for client in self.clients:
            if client.state == "joined":
                client.transport.write(frame(_CLOSE, b"\x03\xe8"))
                client.end()
        await asyncio.sleep(0)

    async def _connect(self, number: int, target: str) -> None:
        client = Client(self, target)
        self.clients.append(client)
        source = f"127.0.{1 + number % _SOURCES}.{1 + os.getpid() % 250}"
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: client, "127.0.0.1", self.port, local_addr=(source, 0))

    def _reset(self) -> None:
        self.counts = Counts()
        for client in self.clients:
            client.messages = client.frames = 0
        say("reset")

    async def _report(self, count: int, idle: float) -> None:
        counts = self.counts
        began = time.monotonic()
        while counts.messages < count and time.monotonic() - (counts.last or began) < idle:
            await asyncio.sleep(0.01)
        found = sorted(counts.latencies)
        parts = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        at = (
            {name: found[int((len(found) - 1) * part)] / 1e6 for name, part in parts.items()}
            if found
            else None
        )
        per_client = [client.messages for client in self.clients]
        say(
            "report",
            messages=counts.messages,
            frames=counts.frames,
            bytes=counts.bytes,
            pings=counts.pings,
            seconds=counts.last - counts.first,
            fewest=min(per_client),
            most=max(per_client),
            closed=counts.closed,
            codes=counts.codes,
            **({"latency_ms": at} if at else {}),
        )


def say(event: str, **fields: Any) -> None:
    """One line of output."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(Receiver(*sys.argv[1:]).run())
