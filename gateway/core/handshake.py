"""The opening handshake of a WebSocket (RFC 6455 §4.2): what a request is answered with, before it is asked who comes."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha1
from typing import Final, NamedTuple

import orjson

from gateway.core import extensions, http
from gateway.core.error_entries import entry

SUBPROTOCOL: Final = "realtime"
"""Offered by clients that send their token as a subprotocol; the only one ever echoed."""

_VERSION: Final = "13"  # §4.1
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # §1.3
_KEY: Final = re.compile("[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
# What the connection could become. Upgrade is named in Connection wherever it is sent (RFC 9110 §7.8).
_OFFER: Final = {"Connection": "close, Upgrade", "Upgrade": "websocket"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer in HTTP, after which the connection ends.

    ``code`` names the reason to the client, in the log and in the metrics. ``cause``, for the log, tells more.
    """

    status: int
    code: str
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)
    cause: str = ""

    def also(self, fields: Mapping[str, str]) -> Refusal:
        """The same answer with more fields."""
        return replace(self, fields={**self.fields, **fields})

    @property
    def body(self) -> bytes:
        """What the answer says, in JSON."""
        told = {"code": self.code, "message": self.message, "help": entry(self.code)}
        return orjson.dumps({"error": told})

    @property
    def answer(self) -> bytes:
        """The answer as bytes."""
        body = self.body
        fields = {
            "Content-Type": "application/json; charset=utf-8",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        return http.response(self.status, {**fields, **http.PRECAUTIONS, **self.fields}, body)


class Agreement(NamedTuple):
    """What the connection is upgraded with: the answer as bytes, and the window of compressed messages (0: none)."""

    answer: bytes
    window_bits: int


def agree(head: http.Head, *, compression: bool) -> Agreement | Refusal:
    """What a request for a WebSocket is answered with.

    Args:
        head: the request.
        compression: whether permessage-deflate may be agreed on.
    """
    if (refusal := _refusal(head)) is not None:
        return refusal
    key = head.fields["sec-websocket-key"][0]
    # What §4.2.2 prescribes; nothing is kept secret by it.
    accept = b64encode(sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept}
    if SUBPROTOCOL in subprotocols(head):
        fields["Sec-WebSocket-Protocol"] = SUBPROTOCOL
    offers = head.get("sec-websocket-extensions")
    agreed = extensions.negotiate(offers) if offers and compression else None
    if agreed is not None:
        fields["Sec-WebSocket-Extensions"] = agreed.answer
    window_bits = 0 if agreed is None else agreed.window_bits
    return Agreement(http.response(101, fields), window_bits)


def subprotocols(head: http.Head) -> list[str]:
    """The subprotocols that a client offers; several lines are one list (§11.3.4)."""
    return head.members("sec-websocket-protocol")


def _refusal(head: http.Head) -> Refusal | None:
    if head.method != "GET":
        return Refusal(405, "method_not_allowed", "connect with WebSocket", {"Allow": "GET"})
    if head.announces_body:
        return Refusal(400, "bad_request", "a handshake has no body")
    upgrade = "websocket" in head.tokens("upgrade") and "upgrade" in head.tokens("connection")
    if not upgrade or head.version == "1.0":
        # Only a client that wants a WebSocket sends a key, and a proxy passes it on.
        removed = not upgrade and "sec-websocket-key" in head.fields
        cause = "upgrade_removed" if removed else ""
        return Refusal(426, "upgrade_required", "connect with WebSocket", _OFFER, cause)
    if head.get("sec-websocket-version") != _VERSION:
        fields = {**_OFFER, "Sec-WebSocket-Version": _VERSION}
        return Refusal(426, "version_required", f"speak version {_VERSION}", fields)
    if not _KEY.fullmatch(head.get("sec-websocket-key") or ""):
        return Refusal(400, "bad_request", "Sec-WebSocket-Key must be 16 bytes in base64, once")
    return None
