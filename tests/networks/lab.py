"""Namespaces with a line between them: the servers' one, in which this program runs, a client's, and a captive portal's."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from tests.networks.line import Line

SERVER: Final = "10.203.0.1"
CLIENT: Final = "10.203.0.2"
ELSEWHERE: Final = "10.203.0.3"
"""The client's address in the other network."""


def ip(*arguments: str) -> None:
    """Run ``ip``.

    Raises:
        subprocess.CalledProcessError: it cannot do that.
    """
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def possible() -> bool:
    """Whether this process may make namespaces and devices."""
    name = f"rt-{secrets.token_hex(3)}"
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return os.access("/dev/net/tun", os.R_OK | os.W_OK)


def run_inside(module: str, arguments: Sequence[str]) -> int:
    """Run ``python -m module NAMES arguments`` in namespaces of its own; returns the exit status."""
    stem = f"rt-{secrets.token_hex(3)}"
    names = [f"{stem}-{part}" for part in ("server", "client", "portal")]
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        command = [sys.executable, "-m", module, "--inside", ",".join(names), *arguments]
        return subprocess.run(["ip", "netns", "exec", names[0], *command], check=False).returncode
    finally:
        for name in names:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)


class Lab:
    """The client's side of the line, and the line.

    Args:
        names: of the three namespaces, this process's own first.
    """

    def __init__(self, names: Sequence[str], seed: int) -> None:
        _, self._client, self._portal = names
        self.line = Line("client0", "server0", "portal0", seed)
        for device, name, address in (
            ("client0", self._client, CLIENT),
            ("portal0", self._portal, SERVER),
        ):
            ip("link", "set", device, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
        ip("addr", "add", f"{SERVER}/24", "dev", "server0")
        ip("link", "set", "server0", "up")
        self.address = CLIENT
        self.plug()

    def at_client(self, *command: str) -> tuple[str, ...]:
        """A command as one that runs where the clients are."""
        return ("ip", "netns", "exec", self._client, *command)

    def at_portal(self, *command: str) -> tuple[str, ...]:
        """The same where the captive portal is."""
        return ("ip", "netns", "exec", self._portal, *command)

    def processes_at_client(self) -> list[int]:
        """What runs where the clients are."""
        command = ["ip", "netns", "pids", self._client]
        return [int(pid) for pid in subprocess.check_output(command).split()]

    def unplug(self) -> None:
        """Take the network away so that the client's system knows it."""
        ip("-n", self._client, "link", "set", "client0", "down")

    def plug(self) -> None:
        """Give it back."""
        ip("-n", self._client, "link", "set", "client0", "up")
        ip("-n", self._client, "route", "replace", "default", "via", SERVER, "dev", "client0")

    def move(self) -> None:
        """Let the client's system have another address, as after a change from one network to another."""
        old, self.address = self.address, CLIENT if self.address == ELSEWHERE else ELSEWHERE
        ip("-n", self._client, "addr", "del", f"{old}/24", "dev", "client0")
        ip("-n", self._client, "addr", "add", f"{self.address}/24", "dev", "client0")
        ip("-n", self._client, "route", "replace", "default", "via", SERVER, "dev", "client0")

    def close(self) -> None:
        """Take the line away."""
        self.line.close()
