"""Bodies that are encrypted at rest: sealed by publishers, opened by nodes and by who reads a history.

An entry that is sealed has the extension ``e1.<key id>`` (``message.py``), and its body is an iv of 12 bytes, then what
AES-256-GCM makes of the JSON, then the tag of 16 bytes. Each channel has a key of its own, made of one of the ring by HKDF
(RFC 5869) with SHA-256. Key id and channel are authenticated: what is written into another channel cannot be opened.

What is not hidden: ids, channel names, sizes, times, and which messages have an idempotency key.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from publisher.contract.message import Message
from publisher.errors import InvalidData

VERSION: Final = "e1."

_SEALED: Final = VERSION.encode()
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,16}")
_KEY_BYTES: Final = 32
_IV_BYTES: Final = 12
"""Random ones suffice for 2^32 messages of a key (NIST SP 800-38D, 8.3), and each channel has a key of its own."""

_REMEMBERED: Final = 4_096
"""Keys of channels that are kept: about 3 MB."""


class CannotOpen(InvalidData):
    """A sealed message cannot be opened: the ring lacks its ``key``, or the message was not sealed with it in this channel."""

    def __init__(self, channel: str, key: str, reason: str) -> None:
        self.channel = channel
        self.key = key
        self.reason = reason
        super().__init__(channel, key, reason)

    def __str__(self) -> str:
        return f"a message of {self.channel!r} cannot be decrypted with the key {self.key!r}: {self.reason}"


def is_sealed(message: Message) -> bool:
    """Whether a message has to be opened before anybody can read it."""
    return message.extension.startswith(_SEALED)


def key_of(message: Message) -> str:
    """The id of the key that a sealed message needs."""
    return message.extension[len(_SEALED) :].decode("ascii", "backslashreplace")


def without_keys(namespace: str) -> InvalidData:
    """What to raise where a namespace is encrypted, and there is no ring."""
    return InvalidData(
        f"namespace {namespace!r} is encrypted: give the publisher encryption_keys, or set PUBLISHER_ENCRYPTION_KEYS"
    )


class KeyRing:
    """Keys by their ids: the first seals, all open. Safe to share between threads.

    ``extension`` is that of the entries it seals.

    Raises:
        InvalidData: there are no keys, or the package ``cryptography`` is not installed.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        try:
            # For those who encrypt.
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
            from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415
        except ImportError:
            raise InvalidData(
                "encryption needs the package cryptography: install realtime-gateway[encryption]"
            ) from None
        if not keys:
            raise InvalidData("there is no encryption key")
        self._keys = dict(keys)
        self._cipher, self._invalid = AESGCM, InvalidTag
        self._hkdf = partial(HKDF, SHA256(), _KEY_BYTES, None)
        self._first = next(iter(keys))
        self.extension = f"{VERSION}{self._first}"
        self._of_channel: dict[tuple[str, str], tuple[Any, bytes]] = {}

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._keys)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyRing, (self._keys,)

    @classmethod
    def of(cls, text: str | None) -> KeyRing | None:
        """The same as :meth:`parse`; none where there is no text."""
        return None if text is None else cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Read ``<id>:<base64 of 32 bytes>,…``. No error repeats any of it.

        Raises:
            InvalidData: it is something else.
        """
        if not isinstance(text, str):
            raise InvalidData("encryption keys must be text: <id>:<base64 of 32 bytes>,…")
        keys: dict[str, bytes] = {}
        for number, part in enumerate(text.split(","), start=1):
            name, _, encoded = part.strip().partition(":")
            key = _decoded(encoded)
            if not _ID.fullmatch(name) or key is None:
                raise InvalidData(
                    f"encryption key {number} must be <id>:<key>, the id of at most 16 letters, digits, _ and -, "
                    "the key 32 random bytes in base64 (openssl rand -base64 32)"
                )
            if name in keys:
                raise InvalidData(f"encryption key {number} has the id of one before it")
            keys[name] = key
        return cls(keys)

    def seal(self, channel: str, body: bytes) -> bytes:
        """What to write in the place of ``body``, with :attr:`extension`."""
        cipher, associated = self._for(self._first, channel)
        iv = os.urandom(_IV_BYTES)
        sealed: bytes = cipher.encrypt(iv, body, associated)
        return iv + sealed

    def open(self, channel: str, message: Message) -> None:
        """Put the body that is sealed in ``message`` into its place.

        Raises:
            CannotOpen: the key is not in this ring, or the message was not sealed with it in this channel.
        """
        key = key_of(message)
        if key not in self._keys:
            raise CannotOpen(channel, key, "it is not among the encryption keys")
        cipher, associated = self._for(key, channel)
        sealed = message.body
        try:
            message.body = cipher.decrypt(sealed[:_IV_BYTES], sealed[_IV_BYTES:], associated)
        except (self._invalid, ValueError):  # the latter for an iv that is too short
            raise CannotOpen(
                channel, key, "it was not encrypted with it for this channel"
            ) from None
        message.extension = b""

    def _for(self, key: str, channel: str) -> tuple[Any, bytes]:
        """The cipher of a channel, and what it authenticates besides the body."""
        found = self._of_channel.get((key, channel))
        if found is None:
            # Threads may have passed the bound together.
            if len(self._of_channel) >= _REMEMBERED:
                self._of_channel.clear()
            name = channel.encode()
            own = self._hkdf(b"rt1 sealing " + name).derive(self._keys[key])
            found = self._cipher(own), key.encode() + b"\x00" + name
            self._of_channel[key, channel] = found
        return found


def _decoded(encoded: str) -> bytes | None:
    """The key that is written so, in the alphabet of base64 or in that for URLs, with or without ``=`` at the end."""
    standard = encoded.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == _KEY_BYTES else None
