"""Bodies that are encrypted at rest: sealed by publishers, opened by nodes and by who reads a history.

An entry that is sealed has the extension ``e1.<id>.<check>`` (``message.py``), which names the key, and its body is an iv of 12 bytes, then what
AES-256-GCM makes of the JSON, then the tag of 16 bytes. Each channel has a key of its own, made of one of the ring by HKDF
(RFC 5869) with SHA-256. The check, which is derived from the key, and the channel are authenticated: what is written into another
channel cannot be opened.

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

_CHECK: Final = b"rt1 key check"
_CHECK_BYTES: Final = 4
"""Enough to tell the keys of one system apart. What is derived so tells nothing of the key."""

MISSING: Final = "it is not among the encryption keys"
OTHER: Final = "the encryption key of this id is another one here"
CHANGED: Final = "it was changed, or is of another channel: no key opens it"
"""Why a message cannot be opened."""

_REMEMBERED: Final = 4_096
"""Keys of channels that are kept: about 3 MB."""


class CannotOpen(InvalidData):
    """A sealed message cannot be opened.

    ``key``: the one it needs, as :attr:`KeyRing.names` has it. ``reason``: ``MISSING``, ``OTHER`` or ``CHANGED``.
    """

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
    """The key that a sealed message needs, as :attr:`KeyRing.names` has it."""
    return message.extension[len(_SEALED) :].decode("ascii", "backslashreplace")


def without_keys(namespace: str) -> InvalidData:
    """What to raise where a namespace is encrypted, and there is no ring."""
    return InvalidData(
        f"namespace {namespace!r} is encrypted: give the publisher encryption_keys, or set PUBLISHER_ENCRYPTION_KEYS"
    )


class KeyRing:
    """Keys by their ids: the first seals, all open. Safe to share between threads.

    An id is a name for people. Which key it is its check tells, which is derived from it: two keys may have been given one id.

    Attributes:
        names: of its keys, ``<id>.<check>``; nothing in them is secret.
        extension: that of the entries it seals.

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
        self._given = dict(keys)
        self._cipher, self._invalid = AESGCM, InvalidTag
        self._hkdf = partial(HKDF, SHA256(), _KEY_BYTES, None)
        checks = {name: self._check(key) for name, key in keys.items()}
        self._keys = {checks[name]: key for name, key in keys.items()}
        self._first = next(iter(checks.values()))
        self.names = tuple(f"{name}.{check}" for name, check in checks.items())
        self.extension = f"{VERSION}{self.names[0]}"
        self._of_channel: dict[tuple[str, str], tuple[Any, bytes]] = {}

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.names)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyRing, (self._given,)

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
        for number, part in enumerate(map(str.strip, text.split(",")), start=1):
            name, _, encoded = part.partition(":")
            key = _decoded(encoded)
            if not _ID.fullmatch(name) or key is None:
                raise InvalidData(f"encryption key {number} must be {_FORM}{_hint(text, part)}")
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
        name, _, check = key.rpartition(".")
        if check not in self._keys:
            raise CannotOpen(channel, key, OTHER if name in self._given else MISSING)
        cipher, associated = self._for(check, channel)
        sealed = message.body
        try:
            message.body = cipher.decrypt(sealed[:_IV_BYTES], sealed[_IV_BYTES:], associated)
        except (self._invalid, ValueError):  # the latter for an iv that is too short
            raise CannotOpen(channel, key, CHANGED) from None
        message.extension = b""

    def _check(self, key: bytes) -> str:
        derived: bytes = self._hkdf(_CHECK).derive(key)
        return derived[:_CHECK_BYTES].hex()

    def _for(self, check: str, channel: str) -> tuple[Any, bytes]:
        """The cipher of a channel, and what it authenticates besides the body."""
        found = self._of_channel.get((check, channel))
        if found is None:
            # Threads may have passed the bound together.
            if len(self._of_channel) >= _REMEMBERED:
                self._of_channel.clear()
            name = channel.encode()
            own = self._hkdf(b"rt1 sealing " + name).derive(self._keys[check])
            found = self._cipher(own), check.encode() + b"\x00" + name
            self._of_channel[check, channel] = found
        return found


_FORM: Final = (
    "<id>:<key>, the id of at most 16 letters, digits, _ and -, "
    "the key 32 random bytes in base64 (openssl rand -base64 32)"
)


def _hint(text: str, part: str) -> str:
    """What may have been meant in the place of a ring, or of a key in it."""
    if ":" not in text:
        return "; if this is the name of a file, write an @ before it"
    if re.search(r"[\s;]", part):
        return "; between keys write commas, not line ends, spaces or semicolons"
    return ""


def _decoded(encoded: str) -> bytes | None:
    """The key that is written so, in the alphabet of base64 or in that for URLs, with or without ``=`` at the end."""
    standard = encoded.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == _KEY_BYTES else None
