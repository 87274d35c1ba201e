"""What a receiver raises where another try is of no use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self


@dataclass(frozen=True, slots=True)
class Told:
    """What was said to people.

    Attributes:
        message: what has happened.
        detail: how to mend it, where that was said.
        help: where to read on, such as ``docs/errors.md#forbidden``, where that was said.
    """

    message: str = ""
    detail: str | None = None
    help: str | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """As an ``error`` of the protocol has it, or the body of a refusal in HTTP."""
        message, *others = (body.get(name) for name in ("message", "detail", "help"))
        detail, help_ = (str(each) if each else None for each in others)
        return cls(str(message or ""), detail, help_)

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.message, self.detail)))


NOTHING: Final = Told()


class ReceiverError(Exception):
    """The one base of all errors that a receiver raises by itself.

    Attributes:
        detail: what the gateway has said about how to mend it, if it has.
        help: the entry of the documentation that it has named, if it has.
    """

    detail: str | None = None
    help: str | None = None


class ConnectionEnded(ReceiverError):
    """The gateway does not let this client in, or has sent it away for good; no further try is made.

    Args:
        code: the close code, or the status of a refusal in HTTP (docs/protocol.md).
        reason: the name of the reason, such as ``token_invalid``.
        told: what the gateway has said to people, or what has gone wrong here.
    """

    def __init__(self, code: int, reason: str, told: Told = NOTHING) -> None:
        super().__init__(f"{reason or 'the connection was refused'} ({code}): {told}".rstrip(": "))
        self.code = code
        self.reason = reason
        self.detail = told.detail
        self.help = told.help


class SubscriptionEnded(ReceiverError):
    """The user may not hear the channel, or not any more. The receiver's other subscriptions go on.

    Args:
        channel: the channel.
        code: an error code, such as ``forbidden``, or the reason for the end: ``expired``, ``revoked``, ``grant_lost``.
        told: what the gateway has said to people.
    """

    def __init__(self, channel: str, code: str, told: Told = NOTHING) -> None:
        super().__init__(f"{channel}: {code}: {told}".rstrip(": "))
        self.channel = channel
        self.code = code
        self.detail = told.detail
        self.help = told.help
