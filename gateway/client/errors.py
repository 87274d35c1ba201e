"""What a receiver raises where another try is of no use."""

from __future__ import annotations


class ReceiverError(Exception):
    """The one base of all errors that a receiver raises by itself."""


class ConnectionEnded(ReceiverError):
    """The gateway does not let this client in, or has sent it away for good; no further try is made.

    Args:
        code: the close code, or the status of a refusal in HTTP (docs/protocol.md).
        reason: the name of the reason, such as ``token_invalid``.
        message: what the gateway has said to people, or what has gone wrong here.
    """

    def __init__(self, code: int, reason: str, message: str = "") -> None:
        super().__init__(
            f"{reason or 'the connection was refused'} ({code}): {message}".rstrip(": ")
        )
        self.code = code
        self.reason = reason


class SubscriptionEnded(ReceiverError):
    """The user may not hear the channel, or not any more. The receiver's other subscriptions go on.

    Args:
        channel: the channel.
        code: an error code, such as ``forbidden``, or the reason for the end: ``expired``, ``revoked``, ``grant_lost``.
        message: what the gateway has said to people.
    """

    def __init__(self, channel: str, code: str, message: str = "") -> None:
        super().__init__(f"{channel}: {code}: {message}".rstrip(": "))
        self.channel = channel
        self.code = code
