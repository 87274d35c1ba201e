"""A TCP proxy in front of Redis that can lose a reply (the request arrives, its answer does not), or hold a request up."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class ReplyCutter:
    """``url`` leads to the Redis of the given URL."""

    def __init__(self, redis_url: str) -> None:
        parts = urlsplit(redis_url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._listener = socket.create_server(("127.0.0.1", 0))
        credentials, at, _ = parts.netloc.rpartition("@")
        address = f"{credentials}{at}127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = urlunsplit(parts._replace(netloc=address))
        self.cut_replies = 0
        self._marker = b""
        self._left = 0
        self._meanwhile: Callable[[], object] = lambda: None
        self._hold = b""
        self._lose = b""
        self._release = threading.Event()
        self.late = threading.Event()
        """Set when Redis has answered the request that was held up."""
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def cut(
        self, marker: bytes, times: int = 1, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Lose the replies to the next ``times`` requests that hold ``marker``, and the connections.

        ``meanwhile`` happens each time after the request was answered and before its sender notices.
        """
        self._marker, self._left, self._meanwhile = marker, times, meanwhile

    def lose(self, marker: bytes, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Lose the next request that holds ``marker``, and its connection.

        ``meanwhile`` happens before its sender notices.
        """
        self._lose, self._meanwhile = marker, meanwhile

    def hold(self, marker: bytes) -> None:
        """Hold up the next request that holds ``marker`` until :meth:`release`, whatever its sender does."""
        self._hold = marker

    def release(self) -> None:
        """Let the request go that was held up."""
        self._release.set()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release.set()
        for each in (self._listener, *self._open):
            # Closing alone does not wake a thread that waits in accept() or select().
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self._start(self._forward, client)

    def _forward(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection(self._target) as upstream,
            selectors.DefaultSelector() as selector,
        ):
            selector.register(client, selectors.EVENT_READ)
            selector.register(upstream, selectors.EVENT_READ)
            cutting = False
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65_536)  # type: ignore[union-attr]
                    if not data:
                        return
                    if key.fileobj is client:
                        if self._left and self._marker in data:
                            self._left -= 1
                            cutting = True
                        if self._lose and self._lose in data:
                            self._lose = b""
                            self._meanwhile()
                            return
                        if self._hold and self._hold in data:
                            self._hold = b""
                            self._deliver_late(data, upstream)
                            return
                        upstream.sendall(data)
                    elif cutting:
                        self.cut_replies += 1
                        self._meanwhile()
                        return
                    else:
                        client.sendall(data)

    def _deliver_late(self, request: bytes, upstream: socket.socket) -> None:
        self._release.wait()
        upstream.sendall(request)
        if upstream.recv(65_536):
            self.late.set()
