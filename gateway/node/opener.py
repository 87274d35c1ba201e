"""Reads what the extensions of messages say, before anything else looks at their bodies: how long one counts, and that one is
encrypted, which is opened with the keys that this node has.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from gateway.core.log_limit import FirstTimes
from gateway.node.stats import Stats
from publisher.contract.channels import Namespace, namespace_of
from publisher.contract.message import Message, decode, expire
from publisher.contract.sealing import CHANGED, CannotOpen, KeyRing, is_sealed, key_of

log = logging.getLogger(__name__)


_PLAINTEXT: Final = re.compile(rb"[0-9]{1,16}:[0-9]{0,16}:[^:+]*:.", re.DOTALL)
"""How a payload begins that has a body and no extension; what is behind it is not copied."""

_ADD_KEY: Final = (
    "the channel stops before this message on this node until the key that the publisher has is in GATEWAY_ENCRYPTION_KEYS too; "
    "beside another one of the same id, give it a new id"
)
_TAKE_OUT: Final = (
    "the channel stops before this message until it is not retained any more, or is taken out: "
    "docs/configuration.md, encrypted namespaces"
)


class Opener:
    """Opens messages for delivery. One that it cannot open keeps its extension, so that its channel stops before it. One whose
    time is over becomes a tombstone.

    Args:
        ring: none where no namespace is encrypted.
        namespaces: those that are encrypted should hold no message that is not.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        ring: KeyRing | None,
        stats: Stats,
        namespaces: Mapping[str, Namespace],
        clock: Callable[[], float],
    ) -> None:
        self._ring = ring
        self._stats = stats
        self._clock = clock
        self._encrypted = {name for name, each in namespaces.items() if each.encrypted}
        self._told_keys: FirstTimes[tuple[str, str]] = FirstTimes()
        self._told_channels: FirstTimes[str] = FirstTimes()

    def open(self, channel: str, message: Message) -> bool:
        """Whether a message with an extension is as any other now; one of a later version never is."""
        expire(message, int(self._clock() * 1_000_000))
        if not message.extension:
            return True
        if not is_sealed(message):
            return False
        failure = self._failure(channel, message)
        if failure is None:
            return True
        self._stats.decryption_failures += 1
        self._tell(failure, message)
        return False

    def _failure(self, channel: str, message: Message) -> CannotOpen | None:
        """Open a sealed message; returns why it stays closed."""
        if self._ring is None:
            return CannotOpen(channel, key_of(message), "this node has no encryption keys")
        try:
            self._ring.open(channel, message)
        except CannotOpen as error:
            return error
        return None

    def open_page(self, channel: str, messages: Sequence[Message]) -> None:
        """The same of a page of a log, up to the first message that stops the channel."""
        encrypted = self._is_encrypted(channel)
        for message in messages:
            if message.extension:
                if not self.open(channel, message):
                    return
            elif encrypted and message.body:
                self._tell_of_plaintext(channel, message)

    def receiver(
        self, channel: str, receive: Callable[[str, bytes], None]
    ) -> Callable[[bytes], None]:
        """What takes the live payloads of a channel for ``receive``; only of encrypted namespaces it looks at them."""
        if self._is_encrypted(channel):
            return partial(self._receive, channel, receive)
        return partial(receive, channel)

    def _receive(self, channel: str, receive: Callable[[str, bytes], None], payload: bytes) -> None:
        if _PLAINTEXT.match(payload):
            self._tell_of_plaintext(channel, decode(payload))
        receive(channel, payload)

    def _is_encrypted(self, channel: str) -> bool:
        return bool(self._encrypted) and namespace_of(channel) in self._encrypted

    def _tell(self, error: CannotOpen, message: Message) -> None:
        if self._told_keys.admit((error.channel, error.key)):
            log.error(
                "decryption_failed channel=%s id=%d key=%s reason=%r advice=%r",
                error.channel,
                message.id,
                error.key,
                error.reason,
                _TAKE_OUT if error.reason == CHANGED else _ADD_KEY,
            )

    def _tell_of_plaintext(self, channel: str, message: Message) -> None:
        if self._told_channels.admit(channel):
            log.warning(
                "plaintext_in_encrypted_namespace channel=%s id=%d advice=%r",
                channel,
                message.id,
                "it was published before the namespace was encrypted, by a publisher that encrypts nothing, "
                "or by somebody else who may write to Redis",
            )
