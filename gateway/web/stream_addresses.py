"""What the address of a stream or a poll asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.core import positions
from gateway.core.handshake import Refusal
from gateway.core.http import Head
from gateway.core.positions import Position
from publisher.contract.channels import Channel, parse_channel
from publisher.errors import InvalidChannel

_WAIT: Final = 25.0
_LONGEST_WAIT: Final = 60.0
"""Seconds for which a poll waits for messages: where it does not say, and at most."""
_ANSWERED_WITHIN: Final = 55.0
"""No poll is answered later: many proxies give up after 60 s."""
_SECONDS: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,9})?", re.ASCII)


class BadAddress(Exception):
    """The parameters of a request say nothing that can be served."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(400, code, message)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which channels a request names, each once, and from where on they are wanted. ``told``: where the client says that it stands,
    as it says that.
    """

    channels: Sequence[Channel]
    since: Sequence[Position]
    told: str = ""


def wanted(head: Head, most: int, since: str) -> Wanted:
    """What a request asks for.

    Args:
        head: the request.
        most: channels that it may name.
        since: the parameter with the position, if it is not in ``Last-Event-ID``.

    Raises:
        BadAddress: it names too many channels, or what is none.
    """
    parameters = head.parameters
    names = list(dict.fromkeys(value for name, value in parameters if name == "channel"))
    if len(names) > most:
        raise BadAddress("too_many_subscriptions", f"at most {most} channels can be subscribed to")
    try:
        channels = [parse_channel(each) for each in names]
    except InvalidChannel:
        message = f"a channel is {InvalidChannel.form}"
        raise BadAddress("invalid_channel", message) from None
    told = head.get("last-event-id") or dict(reversed(parameters)).get(since) or ""
    return Wanted(channels, positions.decode(names, told), told)


def wait_of(head: Head) -> float:
    """For how many seconds a poll waits.

    Raises:
        BadAddress: for none that it may.
    """
    told = dict(reversed(head.parameters)).get("wait")
    if told is None:
        return _WAIT
    if not _SECONDS.fullmatch(told) or float(told) > _LONGEST_WAIT:
        raise BadAddress("bad_request", f"wait is seconds from 0 to {_LONGEST_WAIT:.0f}")
    return min(float(told), _ANSWERED_WITHIN)
