"""The commands that both sides send to Redis, and what is read from the replies."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from publisher.contract import scripts
from publisher.contract.channels import Retention
from publisher.contract.keys import Keys
from publisher.contract.message import LogPage, Message, decode
from publisher.contract.scripts import Script

Argument: TypeAlias = str | bytes | int | float
Command: TypeAlias = tuple[Argument, ...]

PAGE_BYTES: Final = 256 * 1024
"""A page of a log ends once it is that long, however few messages it holds."""

GRANTED_FOR_EVER: Final = -1
"""What ``granted.lua`` replies in place of the milliseconds that remain."""

Reply: TypeAlias = Any
"""What Redis answered, undecoded: bytes, int, list or None; or a ``ResponseError`` in its place."""


_PAGE_BYTES: Final = str(PAGE_BYTES)


_KEYLESS: Final = frozenset(
    {"ACL", "ASKING", "CLUSTER", "EVAL", "EVALSHA", "INFO", "PING", "PUBLISH", "TIME", "WAIT"}
)
"""Plain commands that no key is named in. A pub/sub channel is one for ``SPUBLISH``, and none for ``PUBLISH``."""


# Not frozen: that costs more than all else about a call, and each message is one.
@dataclass(slots=True)
class Call:
    """One command: a plain one (``arguments`` whole), or a script with its keys and arguments."""

    arguments: Command
    script: Script | None = None

    @classmethod
    def run(cls, script: Script, keys: Sequence[str], *arguments: Argument) -> Call:
        """Call ``script`` with ``keys`` and ``arguments``; text costs less to send than numbers."""
        return cls((str(len(keys)), *keys, *arguments), script)

    @property
    def key(self) -> str | None:
        """The first key, by whose slot a cluster's server is found; ``None`` where any will do."""
        if self.script is None and self.arguments[0] in _KEYLESS:
            return None
        return str(self.arguments[1])

    def cached(self) -> Command:
        """The command, a script by its hash."""
        if self.script is None:
            return self.arguments
        return ("EVALSHA", self.script.sha, *self.arguments)

    def whole(self) -> Command:
        """The command, a script with its text."""
        if self.script is None:
            return self.arguments
        return ("EVAL", self.script.text, *self.arguments)


@dataclass(frozen=True, slots=True)
class Wait:
    """Ends a round trip with ``WAIT``: until so many ``replicas`` have its writes, at most ``seconds``."""

    replicas: int
    seconds: float

    def command(self) -> Command:
        """The command itself."""
        # WAIT takes 0 for "for ever".
        return ("WAIT", self.replicas, max(1, math.ceil(self.seconds * 1000)))


def further_keys(keys: Keys, channel: str, how: str, nonce: str, collapse: str) -> list[str]:
    """Of a message of ``publish.lua``, besides its channel's log and last id: in the order that the script takes them.

    ``how`` says which there are; ``collapse`` is the digest of the collapse key.
    """
    further = []
    if "k" in how:
        further.append(keys.result(channel, nonce.partition(".")[0]))
    if "o" in how:
        further.append(keys.retention(channel))
    if "c" in how:
        further += (keys.collapse(channel, collapse), keys.removed(channel))
    # In a cluster it is in another slot, and written behind the publish (``unconfirmed.py``).
    if "u" in how and not keys.sharded:
        further.append(keys.awaited)
    return further


def read_log(
    keys: Keys,
    channel: str,
    user: str,
    since: int | None,
    limit: int,
    retention: Retention | None = None,
) -> Call:
    """Read at most ``limit`` entries after ``since``, or after what ``user`` has confirmed.

    What is beyond the ``retention`` is left out, also where no publish has trimmed it yet; with ``None`` all is read
    that is there.
    """
    position = "" if since is None else str(since)
    all_keys = [
        keys.log(channel),
        keys.last(channel),
        keys.confirmed(channel),
        keys.retention(channel),
        keys.removed(channel),
    ]
    limits = retention.limits if retention else ("", "")
    return Call.run(scripts.READ, all_keys, user, position, str(limit), _PAGE_BYTES, *limits)


def confirm(keys: Keys, channel: str, lifetime: int, positions: Iterable[tuple[str, int]]) -> Call:
    """Note what users have confirmed in a channel; kept for ``lifetime`` seconds."""
    all_keys = [
        keys.confirmed(channel),
        keys.last(channel),
        keys.log(channel),
        keys.removed(channel),
    ]
    pairs = [part for user, id_ in positions for part in (str(id_), user)]
    return Call.run(scripts.CONFIRM, all_keys, str(lifetime), *pairs)


def read_receipts(keys: Keys, channel: str, message: int, after: str, limit: int) -> Call:
    """Read who has confirmed a message or a later one, in order; of those who stand at it, those ``after`` a user."""
    return Call.run(scripts.PAGE, [keys.confirmed(channel)], message, after, limit)


def raise_last(keys: Keys, channel: str, position: int, lifetime: int) -> Call:
    """Let new ids in a channel be above ``position``; kept for ``lifetime`` seconds."""
    all_keys = [keys.last(channel), keys.log(channel), keys.confirmed(channel)]
    return Call.run(scripts.RAISE_LAST, all_keys, position, lifetime)


def pairs_of(reply: Reply) -> list[tuple[bytes, bytes]]:
    """The fields and values in a reply to ``HGETALL``: RESP3 has a type for maps, RESP2 lists them in turn."""
    if isinstance(reply, dict):
        return list(reply.items())
    return list(zip(reply[::2], reply[1::2], strict=True))


def parse_log(reply: Reply) -> LogPage:
    """The reply to :func:`read_log`."""
    position, newest, *entries = reply
    messages: list[Message] = []
    for entry in entries:
        with contextlib.suppress(ValueError):
            messages.append(decode(entry))
    return LogPage(int(position), int(newest), messages, len(entries) - len(messages))
