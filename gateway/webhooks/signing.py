"""What a request holds: the event as JSON, and the headers by which the receiver knows who has sent it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import orjson

from publisher import Event

_PREFIX: Final = "whsec_"
_LEAST_BYTES: Final = 24


class BadSecret(ValueError):
    """A secret that cannot be used; the message does not repeat it."""


def secrets_of(text: str) -> list[bytes]:
    """The secrets in a file, one a line: ``whsec_`` and base64, or any other text. The receiver may know any of them.

    Raises:
        BadSecret: there is none, or one is no base64 or shorter than 24 bytes.
    """
    found = [_secret(line.strip()) for line in text.splitlines() if line.strip()]
    if not found:
        raise BadSecret("there is no secret in it")
    return found


def has_bare_text(text: str) -> bool:
    """Whether a secret in a file is not written as the libraries of Standard Webhooks expect it."""
    return any(not line.strip().startswith(_PREFIX) for line in text.splitlines() if line.strip())


def _secret(line: str) -> bytes:
    if line.startswith(_PREFIX):
        try:
            secret = base64.b64decode(line.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            raise BadSecret(f"what follows {_PREFIX} is not base64") from None
    else:
        secret = line.encode()
    if len(secret) < _LEAST_BYTES:
        raise BadSecret(f"a secret has {len(secret)} bytes and needs {_LEAST_BYTES}")
    return secret


def body_of(event: Event) -> bytes:
    """The request's body: ``type``, ``timestamp`` (ISO 8601) and ``data``, the event's own fields."""
    moment = datetime.fromtimestamp(event.timestamp / 1000, UTC).isoformat(timespec="milliseconds")
    return orjson.dumps({"type": event.kind, "timestamp": moment, "data": event.plain()})


def headers_of(event: Event, body: bytes, secrets: Sequence[bytes], now: float) -> dict[str, str]:
    """The request's headers: a signature by each of the ``secrets``; ``now`` in seconds since 1970."""
    moment = str(int(now))
    signed = f"{event.id}.{moment}.".encode() + body
    signatures = (hmac.digest(secret, signed, hashlib.sha256) for secret in secrets)
    return {
        "content-type": "application/json",
        "webhook-id": event.id,
        "webhook-timestamp": moment,
        "webhook-signature": " ".join(
            f"v1,{base64.b64encode(each).decode()}" for each in signatures
        ),
    }
